"""Every bash and python block of the pages runs, or names what it needs and is then checked as far as can be seen."""

import re
import shlex

import pytest
import typer
import yaml
from docs_blocks import LANGUAGES, NEEDS, ROOT, blocks, run, workplace

from energylab.cli import app
from energylab.studies.plan import SlurmSettings, StudyFile, expand, notebook_parameters

RUN = [block for block in blocks("bash", "python") if not block.need]
MARKED = [block for block in blocks() if block.need]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One folder for all pages, as a reader has: a study that one page ran is there for the next."""
    return workplace(tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("page", sorted({block.page for block in RUN}))
def test_blocks_of_a_page_run(page, place):
    run([block for block in RUN if block.page == page], place)


def test_blocks_name_a_known_language_and_need():
    assert len(RUN) >= 25
    assert [str(block) for block in blocks() if block.language not in LANGUAGES] == []
    assert [str(block) for block in blocks() if block.title.startswith("needs") and block.title not in NEEDS] == []


@pytest.mark.parametrize("block", MARKED, ids=lambda block: f"{block} {block.need}")
def test_marked_block_names_what_exists(block):
    for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
        if words := shlex.split(line, comments=True):
            check(words)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_block_is_a_study(block):
    content = yaml.safe_load(block.code)
    if set(content) == {"slurm"}:
        SlurmSettings.model_validate(content["slurm"])
    else:
        assert expand(StudyFile.model_validate(content))[0]


def check(words):
    """Fail when a command names something that is not there."""
    program, *rest = words
    if program == "energylab":
        parse(rest)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in rest), f"no such target: {rest}"
    elif program == "papermill":
        names = {rest[at + 1] for at, word in enumerate(rest) if word == "-p"}
        unknown = names - notebook_parameters(ROOT / rest[0])
        assert not unknown, f"unknown parameters: {unknown}"
    elif program == "python" or "/" in program:
        assert (ROOT / next(word for word in words if "/" in word)).is_file(), f"no such file: {words}"
    else:
        assert program in ("vllm", ".", "pip", "git", "cd"), f"what is {program}?"


def parse(words):
    """Parse a command of energylab as it would be, without calling it."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[0]!r}; there are {', '.join(command.commands)}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context("energylab", list(words))
