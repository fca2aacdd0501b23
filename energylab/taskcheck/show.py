"""Show a file of a task in a notebook."""

from __future__ import annotations

from pathlib import Path

from energylab.errors import TaskError
from energylab.paths import named_file

_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".jsonl": "json"}


def source(name: str | Path, lines: int | None = None) -> str:
    """Return a file as a block of Markdown.

    Parameters
    ----------
    name : path
        Absolute, or relative to the working folder or one above it.
    lines : int, optional
        Show the first lines alone.

    Returns
    -------
    str
        Markdown with the language named, so that it is coloured.
    """
    file = named_file(name, "file", TaskError)
    text = file.read_text(encoding="utf-8").rstrip().splitlines()
    shown = text if lines is None else text[:lines]
    more = [f"… {len(text) - len(shown)} more lines"] if len(shown) < len(text) else []
    return "\n".join([f"```{_LANGUAGES.get(file.suffix, '')}", *shown, *more, "```"])
