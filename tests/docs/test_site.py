"""The built site: whole, offline, with a page for every command and public name, and no broken link."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from docs_blocks import ROOT
from pagegen import api, commands, schema

import energylab
from energylab import tasks
from energylab.parameters import Parameters

#: What a page loads by itself, as opposed to what a reader may follow.
LOADED = (
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("source", "srcset"),
    ("iframe", "src"),
    ("object", "data"),
)


class Site:
    """The pages of a built site, parsed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages = {
            path.relative_to(folder).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            for path in sorted(folder.rglob("*.html"))
        }
        self.ids = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in self.pages.items()}

    def problem(self, page: str, link: str) -> str | None:
        """Say what is wrong with a link of a page; None when it leads somewhere."""
        parts = urlsplit(link)
        if parts.scheme in ("http", "https", "mailto", "data"):
            return None
        target = Path(os.path.normpath(Path(page).parent / unquote(parts.path))).as_posix() if parts.path else page
        if not (self.folder / target).is_file():
            return f"{page}: {link} leads to no file"
        if parts.fragment and target in self.ids and unquote(parts.fragment) not in self.ids[target]:
            return f"{page}: {link} leads to no such place on {target}"
        return None


def build(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Build as `make docs` does. Not quietly: MkDocs counts, and so stops at, only the warnings that it prints."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), *options]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return Site(folder)


def test_what_is_wrong_fails_the_build(tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text("# Start\n\n[to no page](nowhere.md) [to no place](index.md#no)\n")
    (tmp_path / "pages" / "orphan.md").write_text("# Orphan\n")
    small = {"docs_dir": "pages", "nav": ["index.md"], "hooks": [], "plugins": [], "theme": {"name": "mkdocs"}}
    config = tmp_path / "mkdocs.yml"
    config.write_text(json.dumps({"INHERIT": str(ROOT / "mkdocs.yml"), **small, "extra_css": []}))
    done = build(tmp_path / "site", "--config-file", str(config))
    assert done.returncode != 0
    assert 'not included in the "nav" configuration:\n  - orphan.md' in done.stderr
    assert "'nowhere.md'" in done.stderr
    assert "'index.md#no'" in done.stderr


def test_no_link_is_broken(site):
    links = [
        (name, tag[attribute])
        for name, page in site.pages.items()
        for tag_name, attribute in (("a", "href"), *LOADED)
        for tag in page.find_all(tag_name, **{attribute: True})
        if name != "404.html"  # its links start at the root of wherever it is served
    ]
    assert len(links) > 1000
    assert [problem for name, link in links if (problem := site.problem(name, link))] == []


def test_a_broken_link_would_be_found(site):
    assert "no file" in site.problem("index.html", "nowhere.html")
    assert "no such place" in site.problem("tasks/index.html", "../methodology.html#nowhere")


def test_nothing_is_loaded_from_elsewhere(site):
    for name, page in site.pages.items():
        loaded = [
            tag[attribute] for tag_name, attribute in LOADED for tag in page.find_all(tag_name, **{attribute: True})
        ]
        outside = [link for link in loaded if urlsplit(link).netloc]
        assert outside == [], f"{name} loads {outside}"
        assert not page.find("div", class_="mermaid"), f"{name}: mermaid is loaded from the network"
    for sheet in site.folder.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s*)[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_command_has_its_place(site):
    found = commands.paths()
    assert "energylab study run" in found
    for path in found:
        page = f"commands/{path.split()[1]}.html"
        headings = [tag.get_text().rstrip("¶") for tag in site.pages[page].find_all(["h1", "h2"])]
        assert path in headings, f"{path} has no heading on {page}"


def test_every_public_name_has_its_place(site):
    shown = [tag.get_text() for tag in site.pages["api/index.html"].find_all(["h2", "td"])]
    for name in energylab.__all__:
        if name != "__version__":
            assert any(f"energylab.{name}" in text for text in shown), (
                f"energylab.{name} is not on the API's first page"
            )


def test_every_documented_module_shows_its_names(site):
    elsewhere = set(api.public_targets().values())
    missing = [
        f"{module}.{name}"
        for module in api.modules()
        for name in api.names(module)
        if f"{module}.{name}" not in site.ids[f"api/{api.room_of(module)}.html"] and f"{module}.{name}" not in elsewhere
    ]
    assert missing == [], "without a docstring, or left out"


def test_every_parameter_task_and_field_has_its_place(site):
    assert set(Parameters.model_fields) <= site.ids["parameters.html"]
    assert {f"tasks/{name}.html" for name in tasks.task_names()} <= set(site.pages)
    cells = {tag.get_text() for tag in site.pages["record.html"].find_all("td")}
    for model in schema.parts():
        assert set(model.model_fields) <= cells, model.__name__


def test_search_works_from_a_folder(site):
    assert (site.folder / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index")
    polyfill = site.pages["index.html"].find("script", src=re.compile("iframe-worker"))
    assert polyfill is not None
