"""The benchmark of truth in small: bias, bounds and coverage on simulated boards, seeds fixed beforehand."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

_SPEC = importlib.util.spec_from_file_location("truth", Path(__file__).parents[2] / "benchmarks" / "truth.py")
truth = sys.modules["truth"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(truth)
judge = cache(truth.judge)  # two tests look at the same sessions


@pytest.mark.parametrize("row", truth.ROWS, ids=lambda row: row.name)
def test_bias_and_bounds(row):
    found = [judge(row, seed) for seed in range(30)]
    means = np.array([np.mean(runs) for runs, *_ in found])
    standard_error = means.std(ddof=1) / np.sqrt(len(means)) / row.truth_j
    assert abs(means.mean() / row.truth_j - 1) < 0.005 + 3 * standard_error
    assert sum(outside for *_, outside, _ in found) == 0
    assert all(worst <= 1 for *_, worst in found)


def test_ten_runs_of_one_drifting_session_cover_far_less_than_they_claim():
    row = truth.ROWS[-1]
    runs = np.array([judge(row, seed)[0] for seed in range(60)])
    naive = truth.covered(runs, row.truth_j).mean()
    between = truth.covered(runs.mean(axis=1).reshape(-1, truth.SESSIONS_A_GROUP), row.truth_j).mean()
    assert naive < 0.6
    assert between > 0.75


def test_dithered_starts_turn_aliasing_from_bias_into_noise():
    dithered, locked = (
        [np.mean(judge(replace(row, settings=replace(row.settings, runs=4)), seed)[0]) for seed in range(25)]
        for row in truth.ALIASED
    )
    expected = truth.ALIASED[0].truth_j
    standard_error = np.std(dithered, ddof=1) / np.sqrt(len(dithered))
    assert abs(np.mean(dithered) - expected) < 3 * standard_error
    assert abs(np.mean(locked) / expected - 1) > 0.3
    assert np.std(locked) < np.std(dithered) / 10
