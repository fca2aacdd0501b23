"""A folder with a fast fake study, and the environment its notebooks need."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import builders
import pytest

from energylab import store
from energylab.studies import plan as planning
from energylab.studies.run import local as run_local
from energylab.studies.state import Outcome, StudyFolder

TESTS = Path(__file__).resolve().parents[1]
TASK = {"task": "sentence_similarity", "model_source": "hub"}


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
def local():
    """Run jobs on this machine's CPU."""
    return partial(run_local, devices="cpu")


@pytest.fixture
def instant():
    """Return a function that makes an executor which writes records at once; some attempts fail before that."""

    def make(failures: int = 0):
        ends = iter([Outcome.now("infrastructure", "node lost")] * failures)

        def execute(book):
            while book.queue:
                work = book.take()
                attempt = work.begin("instant")
                if (outcome := next(ends, None)) is None:
                    store.write(builders.record(work.job.parameters), attempt.path)
                    attempt.notebook.write_text("{}")
                book.ended(work, attempt.close(outcome or Outcome.now("finished", duration_s=30.0)))

        return execute

    return make
