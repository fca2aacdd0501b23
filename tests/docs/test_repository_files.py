"""What stands at the root: links of README and its like, citation, environment, picture, table of claims."""

import importlib.util
import re
import tomllib
from datetime import date

import pytest
import yaml
from docs_blocks import ROOT, pages
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import energylab
from energylab import published
from energylab.ratings import stability

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_LINK = re.compile(r"(?:\]\(|src=\"|srcset=\")([^)\"#\s]+)")


@pytest.mark.parametrize(
    "page", [page for page in pages() if page.parent.name != "docs"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_between_files_lead_somewhere(page):
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if not re.match(r"[a-z]+:", link)]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_citation_is_valid():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format 1.2.0 requires
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["version"] == energylab.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert isinstance(citation.get("date-released", date.min), date)  # only a released version has one
    for author in [*citation["authors"], *(each for ref in citation["references"] for each in ref["authors"])]:
        assert {"name"} <= set(author) or {"family-names", "given-names"} <= set(author)
    for reference in citation["references"]:
        assert {"authors", "title", "type"} <= set(reference)


def test_conda_environment_is_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"][0] == "conda-forge"
    *plain, by_pip = environment["dependencies"]
    python = next(each for each in plain if each.startswith("python"))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.partition("=")[2])
    assert {"pip", "make", "git"} <= set(plain)
    options = [tuple(line.removeprefix("--").split(maxsplit=1)) for line in by_pip["pip"]]
    assert {name for name, _ in options} == {"constraint", "editable"}
    assert (ROOT / dict(options)["constraint"]).is_file()
    workbench, portal = (value for name, value in options if name == "editable")
    assert (ROOT / portal / "pyproject.toml").is_file()
    extras = re.fullmatch(r"\.\[(.+)\]", workbench)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert "dev" in extras


def test_every_dependency_is_pinned_within_its_range():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pins = {_plain(name): version for name, version in pins.items()}
    wanted = [
        *PROJECT["dependencies"],
        *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
    ]
    for requirement in map(Requirement, wanted):
        if requirement.name != PROJECT["name"]:
            assert _plain(requirement.name) in pins, f"{requirement.name} is not pinned in constraints.txt"
            assert requirement.specifier.contains(pins[_plain(requirement.name)]), requirement


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_picture_is_what_its_script_draws(tmp_path):
    spec = importlib.util.spec_from_file_location("make_picture", ROOT / "docs" / "assets" / "make_picture.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for made in script.main(tmp_path):
        kept = ROOT / "docs" / "assets" / made.name
        assert made.read_bytes() == kept.read_bytes(), f"{kept.name} is old: run make picture"
        assert kept.stat().st_size < 250_000


def test_what_the_readme_says_of_the_picture_is_so():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    table = published.load()
    stars = energylab.rate(table, noise=0.01, seed=0)
    left_out = stability.leave_one_out(table).set_index("model")
    unsure = stability.sureness(stars).iloc[-1]["unsure"]
    assert unsure == 8
    assert "Eight stars are right with less than 95 % probability" in text
    assert f"The {len(table)} published models" in text
    phi = left_out.loc["microsoft/phi-4"]
    assert f"without `phi-4`, {phi['changed']} of {phi['others']} others would change stars" in text
    total = published.agreement(stars).iloc[-1]
    assert f"{total['equal']} of {total['published']} published stars" in text


def test_every_benchmark_has_its_row_and_every_row_its_command():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"python (benchmarks/\w+\.py)", text))
    assert named == {f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.py")}
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and "`" in line
    ]
    for row in rows:
        assert len(row) == 6, row
        figure, machine, day = row[2:5]
        assert figure, row
        assert (figure == "not run yet") == (machine == "" and day == ""), (
            f"a figure needs its machine and date: {row[0]}"
        )
        assert re.fullmatch(r"(\d{4}-\d\d-\d\d)?", day), f"a date is written YYYY-MM-DD: {row[0]}"
        assert row[5].count("`") == 2, f"one command prints a figure: {row[0]}"
