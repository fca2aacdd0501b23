"""The kill test of ``benchmarks/faults.py``, with a smaller count."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
def test_killed_at_random_moments_every_job_is_done_exactly_once(tmp_path):
    spec = importlib.util.spec_from_file_location("faults", FAULTS)
    faults = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = faults  # dataclasses look their module up
    spec.loader.exec_module(faults)
    report = faults.run(tmp_path, jobs=8, kills=4, seed=11)
    assert report.faults == []
    assert report.kills.total() == 4
