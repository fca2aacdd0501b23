"""The MkDocs hook: adds the generated pages to the site, and their places to the navigation."""

from __future__ import annotations

from mkdocs.structure.files import File
from pagegen import GENERATORS


def on_config(config):
    """Put the pages of a generated folder where the navigation names the folder."""
    config.extra["generated"] = generated = {path: text for make in GENERATORS for path, text in make().items()}
    config.nav = [_filled(entry, generated) for entry in config.nav]
    return config


def on_files(files, config):
    """Add every generated page as if it lay in docs/."""
    for path, text in config.extra["generated"].items():
        files.append(File.generated(config, path, content=text))
    return files


def _filled(entry, generated):
    """Return one entry of the navigation; a text that ends in a slash stands for all pages of that folder."""
    if isinstance(entry, dict):
        return {title: _filled(value, generated) for title, value in entry.items()}
    if isinstance(entry, list):
        return [_filled(value, generated) for value in entry]
    if entry.endswith("/"):
        return [path for path in generated if path.startswith(entry) and path.endswith(".md")]
    return entry
