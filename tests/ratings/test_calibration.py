"""The calibration benchmark at a smaller count, with bands to match."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # as when it is run as a script

import rate_rows  # noqa: E402

spec = importlib.util.spec_from_file_location("benchmark_calibration", BENCHMARKS / "calibration.py")
calibration = importlib.util.module_from_spec(spec)
sys.modules["benchmark_calibration"] = calibration  # dataclasses look their module up
spec.loader.exec_module(calibration)


def test_published_groups_are_all_of_them():
    assert sum(energies.size for energies in rate_rows.PUBLISHED.values()) == 166
    assert len(rate_rows.PUBLISHED) == 12


@pytest.mark.parametrize(("run_cv", "uneven"), [(0.05, 0.0), (0.02, 0.5)])
def test_stars_called_with_about_ninety_percent_are_right_about_as_often(run_cv, uneven):
    found = calibration.simulate(run_cv, uneven, 500).within(0.85, 0.95)
    low, high = rate_rows.clustered_wilson(found.right, found.cohort, level=0.999)
    called = found.probability.mean()
    assert found.right.size > 80
    assert low - calibration.GOAL <= called <= high + calibration.GOAL


def test_overconfident_calls_are_noticed(capsys):
    rng = np.random.default_rng(0)
    calls = calibration.Calls(np.full(2000, 0.9), rng.random(2000) < 0.8, np.arange(2000))
    assert calibration.row("too sure", 2000, calls) is False
    assert "MISSED" in capsys.readouterr().out


def test_smoothing_keeps_the_middle_and_makes_new_energies():
    energies = np.geomspace(1, 100, 200)
    drawn = calibration.smoothed(np.random.default_rng(0), energies)
    assert not set(drawn) & set(energies)
    assert np.log(drawn).mean() == pytest.approx(np.log(energies).mean(), abs=0.3)


def test_clusters_widen_the_interval_and_independence_gives_wilsons():
    from scipy import stats

    rng = np.random.default_rng(1)
    right = rng.random(3000) < 0.9
    alone = rate_rows.clustered_wilson(right, np.arange(3000))
    plain = stats.binomtest(int(right.sum()), 3000).proportion_ci(0.95, "wilson")
    assert alone == pytest.approx((plain.low, plain.high), abs=1e-3)
    together = rate_rows.clustered_wilson(np.repeat(right[:300], 10), np.repeat(np.arange(300), 10))
    few = stats.binomtest(int(right[:300].sum()), 300).proportion_ci(0.95, "wilson")
    assert together == pytest.approx((few.low, few.high), abs=2e-3)
