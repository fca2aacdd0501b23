"""The coverage benchmark at a smaller count: every promise is kept within a band to match."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # as when it is run as a script

import coverage_rows  # noqa: E402

# by path: an installed library has the same name
spec = importlib.util.spec_from_file_location("benchmark_coverage", BENCHMARKS / "coverage.py")
coverage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage)
PROMISED = [row for row in coverage_rows.ROWS if row.promise]
FAILING = {
    "mean over sessions: ONE session, its 10 runs taken for sessions (session CV 1 %, run CV 0.4 %)": 0.5,
    "mean over sessions: ONE drifting session, its 10 runs taken for sessions (warming up by 3 %)": 0.5,
    "one session's mean, windows taken for independent: 200 windows, neighbours correlated by 0.5": 0.85,
    "mean over sessions: 5 sessions, lognormal of CV 1": 0.92,
    "anytime-valid: 200 windows, warm-up decays from 5 % within 20 windows, noise 2 %": 0.5,
}


@pytest.mark.parametrize("row", PROMISED, ids=lambda row: row.name)
def test_promise_is_kept(row):
    result = row.run(400)
    assert result.kept, f"{result.coverage:.3f} [{result.low:.3f}, {result.high:.3f}]"


@pytest.mark.parametrize("name", FAILING)
def test_honest_failures_are_shown(name):
    row = next(row for row in coverage_rows.ROWS if row.name == name)
    assert not row.promise
    assert row.run(400).coverage < FAILING[name]


def test_a_broken_promise_is_noticed():
    narrow = coverage_rows.Row("x", "y", "95 %", lambda rng, count: rng.random(count) < 0.88)
    wide = coverage_rows.Row("x", "z", "95 %", lambda rng, count: np.ones(count))
    at_least = coverage_rows.Row("x", "u", "at least 95 %", lambda rng, count: rng.random(count) < 0.95)
    assert narrow.run(10_000).kept is False
    assert wide.run(10_000).kept is False
    assert at_least.run(10_000).kept is False
    assert narrow.run(1000).kept is False


def test_names_are_unique_and_cover_what_was_asked_for(capsys):
    names = [row.name for row in coverage_rows.ROWS]
    assert len(set(names)) == len(names)
    assert coverage.main(["--count", "100", "--only", "expanded"]) == 0
    printed = capsys.readouterr().out
    assert "Wilson" in printed
    assert "broken promises: 0" in printed
