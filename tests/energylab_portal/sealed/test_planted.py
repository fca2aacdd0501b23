"""Verifying runs nothing and loads nothing of the sender's: files planted everywhere a verifier could look."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import closed_builders as builders
import forgeries as forge
import pytest

from energylab_portal import checker
from energylab_portal.sealed.verify import write_list
from energylab_portal.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
#: Says that it was run, by leaving a file.
EVIL = "import pathlib; pathlib.Path({mark!r}).write_text('ran')\n"
#: Modules that a verifier imports, and that Python looks for in the working folder first.
MODULES = ("evil", "yaml", "json", "torch", "energylab", "pydantic", "sitecustomize", "usercustomize", "conftest")


@pytest.fixture
def planted(tmp_path) -> tuple[Path, Path]:
    """Fill a folder as a sender would who wants his code run; return it, and the file that code would leave."""
    folder, mark = tmp_path / "sent", tmp_path / "it-ran"
    (folder / "params/tasks").mkdir(parents=True)
    (folder / "params/closed").mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(EVIL.format(mark=str(mark)))
    task = f"name: text_generation\nversion: 2025-02\nfamily: {folder}/evil.py:Evil\n"
    for name in ("evil", "text_generation", "sentence_similarity"):
        for place in (folder, folder / "params/tasks"):
            (place / f"{name}.yaml").write_text(task)
    return folder, mark


TASKS = ["./evil.yaml", "params/tasks/evil.yaml", "evil", "evil.py:Evil", "../sent/evil.yaml", "ABSOLUTE"]
#: The command, once a bundle: in one process, since importing takes longer than verifying.
COMMANDS = """
import sys
from energylab_portal.cli import app
for bundle in sys.argv[2:]:
    words = ["sealed", "verify", bundle, "--official", "official.json", "--key", sys.argv[1]]
    print("ENDED", app(words, standalone_mode=False))
"""


def _send(folder, honest, tasks) -> list[str]:
    """Put a bundle a task beside the planted files, and a list that vouches for its image."""
    (folder / "official.json").write_bytes(write_list(builders.OFFICIAL, builders.owner()))
    for number, task in enumerate(tasks):
        task = str(folder / "evil.yaml") if task == "ABSOLUTE" else task
        (folder / f"{number}.json").write_bytes(builders.signed(forge.parameters(honest, task=task)))
    return [f"{number}.json" for number in range(len(tasks))]


def _run(folder, *words) -> str:
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=told)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("task", "ends"), [("evil.yaml", "not accepted"), ("text_generation", "accepted")])
def test_planted_code_is_not_run_by_the_command(task, ends, planted, honest) -> None:
    folder, mark = planted
    (bundle,) = _send(folder, honest, [task])
    command = ("-m", "energylab_portal.cli", "sealed", "verify", bundle, "--official", "official.json", "--key")
    printed = _run(folder, *command, builders.owner().public)
    assert not mark.exists()
    assert printed.splitlines()[-1:] == [ends], printed


def test_no_way_to_name_a_task_runs_planted_code(planted, honest) -> None:
    folder, mark = planted
    printed = _run(folder, "-c", COMMANDS, builders.owner().public, *_send(folder, honest, [*TASKS, "text_generation"]))
    assert not mark.exists()
    ended = [line for line in printed.splitlines() if line.startswith("ENDED")]
    assert ended == ["ENDED 1"] * len(TASKS) + ["ENDED 0"], printed


def test_planted_code_is_not_run_by_the_portal(planted, honest, monkeypatch) -> None:
    """Its child is started in the folder of whoever started the portal, and files of submissions lie below it."""
    folder, mark = planted
    monkeypatch.chdir(folder)
    settings = Settings(folder / "portal")
    settings.prepare()
    settings.official.write_bytes(write_list(builders.OFFICIAL, builders.owner()))
    settings.operator_key.write_text(builders.owner().public)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for task, accepted in ((str(folder / "evil.yaml"), False), ("text_generation", True)):
        path = settings.bundle_path("0" * 64)
        path.write_bytes(builders.signed(forge.parameters(honest, task=task)))
        assert checker.verify_apart(path, builders.enrolled(), settings).accepted is accepted
    assert not mark.exists()
