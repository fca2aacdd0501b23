"""Verifying runs nothing and loads nothing of the sender's: files planted everywhere a verifier could look."""

from __future__ import annotations

import subprocess
import sys

import closed_builders as builders
import forgeries as forge
import pytest
from portal_processes import ROOT

from energylab_portal import checker
from energylab_portal.sealed.verify import write_list
from energylab_portal.settings import Settings

#: Modules that a verifier imports, and that Python looks for in the working folder first.
MODULES = ("evil", "yaml", "json", "torch", "energylab", "pydantic", "sitecustomize", "usercustomize", "conftest")
#: Ways to name a task; the last is ours.
TASKS = [
    "evil.yaml", "./evil.yaml", "params/tasks/evil.yaml", "evil", "evil.py:Evil", "../sent/evil.yaml",
    "{folder}/evil.yaml", "text_generation",
]  # fmt: skip
#: The command, once a bundle: in one process, since importing takes longer than verifying.
COMMANDS = """
import sys
from energylab_portal.cli import app
for bundle in sys.argv[2:]:
    words = ["sealed", "verify", bundle, "--official", "official.json", "--key", sys.argv[1]]
    print("ENDED", app(words, standalone_mode=False))
"""


@pytest.fixture
def planted(tmp_path, honest, monkeypatch):
    """Fill a folder as a sender would who wants his code run, with a bundle a task; nothing of it may be run."""
    folder, mark = tmp_path / "sent", tmp_path / "it-ran"
    (folder / "params/tasks").mkdir(parents=True)
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n")
    task = f"name: text_generation\nversion: 2025-02\nfamily: {folder}/evil.py:Evil\n"
    for name in ("evil", "text_generation", "sentence_similarity"):
        for place in (folder, folder / "params/tasks"):
            (place / f"{name}.yaml").write_text(task)
    (folder / "official.json").write_bytes(write_list(builders.OFFICIAL, builders.owner()))
    for number, task in enumerate(TASKS):
        run = forge.parameters(task=task.format(folder=folder))(honest)
        (folder / f"{number}.json").write_bytes(builders.signed(run))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(folder)
    yield folder
    assert not mark.exists()


def test_no_way_to_name_a_task_runs_planted_code(planted):
    bundles = [f"{number}.json" for number in range(len(TASKS))]
    command = [sys.executable, "-P", "-c", COMMANDS, builders.owner().public, *bundles]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ended = [line for line in done.stdout.splitlines() if line.startswith("ENDED")]
    assert ended == ["ENDED 1"] * (len(TASKS) - 1) + ["ENDED 0"], done.stdout + done.stderr


def test_planted_code_is_not_run_by_the_portal(planted):
    """Its child is started in the folder of whoever started the portal, and files of submissions lie below it."""
    settings = Settings(planted / "portal")
    settings.prepare()
    settings.official.write_bytes((planted / "official.json").read_bytes())
    settings.operator_key.write_text(builders.owner().public)
    for number, accepted in ((len(TASKS) - 2, False), (len(TASKS) - 1, True)):
        verdict = checker.verify_apart(planted / f"{number}.json", builders.enrolled(), settings)
        assert verdict.accepted is accepted
