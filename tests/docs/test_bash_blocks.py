"""Blocks that are not run because they need more than every machine has: their commands, files and parameters exist."""

import re
import shlex
import tomllib

import pytest
import typer
import yaml
from docs_blocks import ROOT, blocks
from typer.exceptions import TyperException

from energylab.cli import app
from energylab.studies.plan import SlurmSettings, StudyFile, expand, notebook_parameters

EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
MARKED = [block for block in blocks() if block.need]


@pytest.mark.parametrize("block", MARKED, ids=lambda block: f"{block} {block.need}")
def test_marked_block_is_right_as_far_as_can_be_seen(block):
    for words in commands(block.code):
        check(words)
    pytest.skip(f"{block} {block.need}; its commands, files and parameters exist")


#: Programs that no file of this repository describes.
OTHERS = ("vllm", ".")  # the second reads a file of the shell

WRONG = (
    "energylab study walk x",
    "energylab study run x --devices",
    "make nothing-like-this",
    "python benchmarks/none.py",
    "papermill notebooks/01-benchmark.ipynb o -p tusk x",
    "docker/setup.sh --onlin",
    "docker/none.sh",
    "pip install 'energylab[slrm]'",
    "frobnicate",
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
    elif program == "pip":
        extras = [
            extra for word in rest for found in re.findall(r"^energylab\[(.+)\]$", word) for extra in found.split(",")
        ]
        assert set(extras) <= EXTRAS, f"unknown extra: {set(extras) - EXTRAS}"
    elif "/" in program:
        assert (ROOT / program).is_file(), f"{program} does not exist"
        text = (ROOT / program).read_text(encoding="utf-8")
        assert all(f"{word})" in text for word in rest if word.startswith("--")), f"no such option: {rest}"
    else:
        assert program in OTHERS, f"what is {program}? If it is right, add it to OTHERS"


def parse(words: list[str]) -> None:
    """Parse a command of energylab as it would be, without calling it."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[0]!r}; there are {', '.join(command.commands)}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context("energylab", list(words))
