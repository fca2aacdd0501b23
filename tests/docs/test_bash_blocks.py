"""Every bash block of the documentation runs; one that needs more than every machine has is checked by name."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from docs_blocks import ROOT, blocks, workplace
from typer.exceptions import TyperException

from energylab.cli import app
from energylab.studies.plan import SlurmSettings, StudyFile, expand, notebook_parameters

BASH = blocks("bash")
RUN = {page: [block for block in BASH if block.page == page and not block.need] for page in {b.page for b in BASH}}
MARKED = [block for block in blocks() if block.need]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One folder for all pages, as a reader has: a study that one page ran is there for the next."""
    return workplace(tmp_path_factory.mktemp("bash-blocks"))


@pytest.mark.parametrize("page", sorted(page for page, found in RUN.items() if found))
def test_bash_blocks_of_a_page_run(page, place):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": f"{ROOT}", "MPLBACKEND": "Agg"}
    for block in RUN[page]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            cwd=place, env=environment, text=True, capture_output=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("block", MARKED, ids=lambda block: f"{block} {block.need}")
def test_marked_block_is_right_as_far_as_can_be_seen(block):
    for words in commands(block.code):
        check(words)
    pytest.skip(f"{block} {block.need}; its commands, files and parameters exist")


WRONG = (
    "energylab study walk x",
    "energylab study run x --devices",
    "make nothing-like-this",
    "python benchmarks/none.py",
    "papermill notebooks/01-benchmark.ipynb o -p tusk x",
)


@pytest.mark.parametrize("bad", WRONG)
def test_wrong_commands_of_marked_blocks_are_found(bad):
    (words,) = commands(bad)
    with pytest.raises((AssertionError, TyperException)):
        check(words)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_block_is_what_its_title_says(block):
    content = yaml.safe_load(block.code)
    if block.title.startswith("params/studies/"):
        if set(content) == {"slurm"}:
            SlurmSettings.model_validate(content["slurm"])
        else:
            assert expand(StudyFile.model_validate(content))[0]


def commands(code: str) -> list[list[str]]:
    """Split shell text into the words of its commands, comments left out."""
    lines = re.sub(r"\\\n\s*", " ", code).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def check(words: list[str]) -> None:
    """Fail when a command names something that is not there."""
    program, *rest = words
    if program == "energylab":
        parse(rest)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in rest), f"no such target: {rest}"
    elif program == "papermill":
        names = [rest[at + 1] for at, word in enumerate(rest) if word == "-p"]
        assert (ROOT / rest[0]).is_file(), f"{rest[0]} does not exist"
        own = notebook_parameters(ROOT / rest[0])
        assert set(names) <= own, f"unknown: {set(names) - own}"
    elif program == "python" and rest[0].endswith(".py"):
        assert (ROOT / rest[0]).is_file(), f"{rest[0]} does not exist"


def parse(words: list[str]) -> None:
    """Parse a command of energylab as it would be, without calling it."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[0]!r}; there are {', '.join(command.commands)}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context("energylab", list(words))
