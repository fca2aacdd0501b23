"""What stands at the root: links of README and its like, citation, environment, picture, table of claims."""

import re
import runpy
import tomllib

import yaml
from docs_blocks import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import energylab
from energylab import tasks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_citation_is_valid():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format 1.2.0 requires
    assert citation["version"] == energylab.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"


def test_conda_environment_is_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *plain, by_pip = environment["dependencies"]
    python = next(each for each in plain if each.startswith("python"))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.partition("=")[2])
    options = [line.removeprefix("--").split(maxsplit=1) for line in by_pip["pip"]]
    assert ["constraint", "constraints.txt"] in options
    workbench, portal = (value for name, value in options if name == "editable")
    assert (ROOT / portal / "pyproject.toml").is_file()
    assert set(re.fullmatch(r"\.\[(.+)\]", workbench)[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_every_dependency_is_pinned_within_its_range():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pins = {_plain(name): version for name, version in pins.items()}
    wanted = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    for requirement in map(Requirement, wanted):
        if requirement.name not in (PROJECT["name"], "torchvision"):  # torch's pin decides torchvision's version
            assert _plain(requirement.name) in pins, f"{requirement.name} is not pinned in constraints.txt"
            assert requirement.specifier.contains(pins[_plain(requirement.name)]), requirement


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_picture_is_what_its_script_draws(tmp_path):
    for made in runpy.run_path(str(ROOT / "docs" / "assets" / "make_picture.py"))["main"](tmp_path):
        kept = ROOT / "docs" / "assets" / made.name
        assert made.read_bytes() == kept.read_bytes(), f"{kept.name} is old: run make picture"
        assert kept.stat().st_size < 250_000


def test_deviations_from_the_published_work_are_listed():
    found = [(name, one) for name in tasks.task_names() for one in tasks.load_settings(name)[1].deviations]
    first = {one: name for name, one in reversed(found)}  # a variant includes those of its sibling
    rows = [f"| {name} | {one.what} | {', '.join(one.models) or 'all'} |" for name, one in found if first[one] == name]
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    section = page.partition("### Deviations")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("|")][2:] == rows


def test_every_benchmark_has_its_row():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.endswith("_fixtures")}
    assert set(re.findall(r"python benchmarks/(\w+\.py)", text)) == scripts
