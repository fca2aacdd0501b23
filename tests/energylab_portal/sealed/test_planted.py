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
from energylab_portal.sealed import official
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


TASKS = ["evil.yaml", "./evil.yaml", "params/tasks/evil.yaml", "evil", "evil.py:Evil", "../sent/evil.yaml", "ABSOLUTE"]


@pytest.mark.parametrize("task", [*TASKS, "text_generation"])
def test_planted_code_is_not_run_by_the_command(task, planted, honest) -> None:
    folder, mark = planted
    task = str(folder / "evil.yaml") if task == "ABSOLUTE" else task
    (folder / "bundle.json").write_bytes(builders.signed(forge.parameters(honest, task=task)))
    (folder / "official.json").write_bytes(official.sign(builders.OFFICIAL, builders.owner()))
    command = [
        sys.executable, "-P", "-m", "energylab_portal.cli", "sealed", "verify", "bundle.json", "--official",
        "official.json", "--key", builders.owner().public,
    ]  # fmt: skip
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=told)
    assert not mark.exists()
    assert done.stdout.splitlines()[-1:] == ["accepted" if task == "text_generation" else "not accepted"], done.stderr


def test_planted_code_is_not_run_by_the_portal(planted, honest, monkeypatch) -> None:
    """Its child is started in the folder of whoever started the portal, and files of submissions lie below it."""
    folder, mark = planted
    monkeypatch.chdir(folder)
    settings = Settings(folder / "portal")
    settings.prepare()
    settings.official.write_bytes(official.sign(builders.OFFICIAL, builders.owner()))
    settings.operator_key.write_text(builders.owner().public)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for task, accepted in (("evil.yaml", False), (str(folder / "evil.yaml"), False), ("text_generation", True)):
        path = settings.bundle_path("0" * 64)
        path.write_bytes(builders.signed(forge.parameters(honest, task=task)))
        assert checker.verify_apart(path, builders.enrolled(), settings)["accepted"] is accepted
    assert not mark.exists()
