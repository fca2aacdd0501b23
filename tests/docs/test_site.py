"""The built site: strict, offline, with every command, public name, parameter and field."""

import os
import re
import subprocess
import sys

import hook
import pytest
import typer
from bs4 import BeautifulSoup
from docs_blocks import ROOT, pages

import energylab
from energylab import cli, tasks
from energylab.parameters import Parameters

LOADED = (("script", "src"), ("link", "href"), ("img", "src"), ("source", "srcset"), ("iframe", "src"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build as `make docs` does, broken links and anchors being errors; return its pages, parsed."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(folder.rglob("*.html"))
    return {path.relative_to(folder).as_posix(): BeautifulSoup(path.read_text(), "html.parser") for path in files}


def test_nothing_is_loaded_from_elsewhere_and_files_are_there(site):
    for name, page in site.items():
        loaded = [tag[attribute] for kind, attribute in LOADED for tag in page.find_all(kind, **{attribute: True})]
        assert [link for link in loaded if re.match(r"(https?:)?//", link)] == [], name
    links = [tag["href"] for tag in site["index.html"].find_all("a", href=True)]
    assert {"measure.html", "studies.html", "publish.html", "portal.html"} <= {link.split("#")[0] for link in links}
    assert not [link for link in links if link.endswith((".py", "/", ".md")) and ":" not in link]


def test_every_command_public_name_parameter_task_and_field_has_its_place(site):
    commands = site["commands.html"].get_text()
    assert all(f"energylab {path}" in commands for path in _paths(typer.main.get_command(cli.app)))
    names = [name for name in energylab.__all__ if name != "__version__"]
    links = {tag.get_text(): tag["href"] for tag in site["api/index.html"].find_all("a", href=True)}
    for name in names:
        page, _, anchor = links[f"energylab.{name}"].partition("#")
        assert site[f"api/{page}"].find(id=anchor), name
    assert set(Parameters.model_fields) <= _cells(site["parameters.html"])
    assert all(site["tasks.html"].find(id=name) for name in tasks.task_names())
    assert all(set(model.model_fields) <= _cells(site["record.html"]) for model in hook.RECORD)


def test_every_field_of_record_and_study_is_explained():
    for model in (*hook.RECORD, Parameters, hook.StudyFile, hook.SlurmSettings):
        bare = [line for line in hook.fields(model).splitlines()[2:] if re.match(r"\| `\w+` \|  \|", line)]
        assert bare == [], model.__name__


def _cells(page):
    return {tag.get_text() for tag in page.find_all("td")}


def _paths(command):
    if not hasattr(command, "commands"):
        return [""]
    return [f"{name} {rest}".strip() for name, child in command.commands.items() for rest in _paths(child)]


def test_links_between_files_of_the_repository_lead_somewhere():
    service = sorted((ROOT / "energylab_portal" / "docs").glob("*.md"))
    for page in [*pages(), *service]:
        links = re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"#\s]+)", page.read_text(encoding="utf-8"))
        assert [link for link in links if ":" not in link and not (page.parent / link).exists()] == [], page
