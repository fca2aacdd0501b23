"""Every Python block of the documentation runs, and only known kinds of blocks are there."""

import json
import os
import subprocess
import sys

import pytest
from docs_blocks import LANGUAGES, NEEDS, ROOT, blocks, workplace

PYTHON = [block for block in blocks("python") if not block.need]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run all blocks in one process, so that the heavy imports are paid once."""
    folder = workplace(tmp_path_factory.mktemp("python-blocks"))
    sent = json.dumps([{"name": str(block), "code": block.code} for block in PYTHON])
    runner = [sys.executable, str(ROOT / "tests" / "docs_runner.py"), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        runner, env=environment, input=sent, text=True, stdout=subprocess.PIPE, timeout=300, check=True
    )
    return {result["name"]: result for result in json.loads(done.stdout)}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_block_runs(results, block):
    assert results[str(block)]["error"] is None, results[str(block)]["error"]


def test_there_are_python_blocks():
    assert len(PYTHON) >= 10


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_block_names_a_known_language_and_need(block):
    assert block.language in LANGUAGES, f"{block}: name the language of the block, one of {', '.join(LANGUAGES)}"
    assert block.title.startswith("needs") == (block.title in NEEDS), f"{block}: {block.title!r} is none of {NEEDS}"
