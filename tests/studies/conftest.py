"""A folder with a fast fake study, and the environment its notebooks need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Work in an empty folder whose kernels find the builders and write a ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{TESTS.parent}:{TESTS}")
    monkeypatch.setenv("FAKE_LEDGER", str(tmp_path / "ledger.jsonl"))
    return tmp_path


@pytest.fixture
def ledger(workplace):
    """Return a function that reads the ledger's lines so far."""

    def read() -> list[dict]:
        path = workplace / "ledger.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read
