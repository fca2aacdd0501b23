"""A folder with a fast fake study, the environment its notebooks need, and one warm process for all tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import builders
import pytest

from energylab.studies import plan as planning
from energylab.studies.executors.local import LocalExecutor
from energylab.studies.folder import StudyFolder
from energylab.studies.forge_client import ForgeServer

TESTS = Path(__file__).resolve().parents[1]
TASK = {"task": "sentence_similarity", "model_source": "hub"}


@pytest.fixture(scope="session")
def forge(tmp_path_factory):
    """A warm process whose kernels find the builders."""
    runtime = tmp_path_factory.mktemp("forge")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{TESTS.parent}:{TESTS}"
    server = ForgeServer(runtime, marker=str(runtime))
    server.ensure()
    yield server
    server.close()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Work in an empty folder whose kernels find the builders and write a ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{TESTS.parent}:{TESTS}")
    monkeypatch.setenv("FAKE_LEDGER", str(tmp_path / "ledger.jsonl"))
    return tmp_path


@pytest.fixture
def ledger(workplace):
    """Return a function that reads the ledger's lines so far, or only those that say `what`."""

    def read(what: str | None = None) -> list[dict]:
        path = workplace / "ledger.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if what in (None, line["what"])]

    return read


@pytest.fixture
def study(workplace):
    """Return a function that writes, plans and places a fake study."""

    def make(name: str = "fake", **content):
        content = {"parameters": TASK, **content}
        planned = planning.load(builders.write_study(workplace, name, **content))
        return planned, StudyFolder(planned.name, workplace / "results")

    return make


@pytest.fixture
def local(forge):
    """Return a function that makes a local executor on the shared warm process."""
    return lambda devices="cpu", **options: LocalExecutor(devices, **{"forge": forge, **options})
