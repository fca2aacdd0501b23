"""Warm-up and drift: a brute-force rule, known slopes, and series that never settle."""

import numpy as np
import pytest

from energylab.errors import StatisticsError
from energylab.statistics.drift import JUDGED_WINDOWS, drift, mser, steady, warm_up
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows


def test_rule_agrees_with_trying_every_cut():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60) + 5 * np.exp(-np.arange(60) / 8)
    tried = [np.sum((x[cut:] - x[cut:].mean()) ** 2) / (60 - cut) ** 2 for cut in range(31)]
    assert mser(x).cut == int(np.argmin(tried))
    assert mser(x).steady


def test_batches_are_cut_whole():
    x = np.concatenate([np.full(10, 3.0), np.random.default_rng(1).normal(0, 0.1, 90)])
    assert mser(x, batch=5).cut == 10


def test_a_ramp_never_settles_and_a_constant_always_did():
    assert not mser(np.arange(50.0)).steady
    assert mser(np.ones(50)).cut == 0


def test_short_or_unusable_series_are_refused():
    with pytest.raises(StatisticsError, match="at least 4"):
        mser([1.0, 2.0, 3.0])
    with pytest.raises(StatisticsError, match="batch"):
        mser([1.0] * 9, batch=0)


def test_warm_up_is_found_and_cut():
    units = measured_windows(simulate(0, warm_up=0.08, warm_up_s=60.0).windows)
    ends = warm_up(units)
    assert ends["cut"].between(5, 30).all()
    assert ends["excess"].between(0.005, 0.06).all()
    kept = steady(units)
    assert len(kept) == len(units) - ends["cut"].sum()
    before = units.groupby("session")["mean_power_w"].mean().mean()
    assert kept.groupby("session")["mean_power_w"].mean().mean() < before


def test_a_session_of_few_windows_is_kept_and_said_to_be_unknown():
    units = measured_windows(simulate(0, boards=1, sessions=1, runs=3, windows=1).windows)
    ends = warm_up(units)
    assert ends["cut"].item() == 0
    assert "nobody can tell" in ends["note"].item()


def test_short_steady_sessions_are_not_called_unsteady():
    """The rule itself calls a tenth of ten steady windows never steady: so it is not asked."""
    short = measured_windows(simulate(0, boards=10, sessions=20, runs=1, windows=10, warm_up=0.0).windows)
    assert len(steady(short)) == len(short)
    rng = np.random.default_rng(0)
    assert np.mean([mser(rng.standard_normal(10)).steady for _ in range(2000)]) < 0.93
    assert np.mean([mser(rng.standard_normal(JUDGED_WINDOWS)).steady for _ in range(2000)]) > 0.94


def test_sessions_that_never_settle_are_left_out():
    units = measured_windows(simulate(0, boards=1, sessions=2).windows)
    ramp = units.assign(mean_power_w=300 + units["index"])
    with pytest.raises(StatisticsError, match="no session became steady"):
        steady(ramp)


def test_slope_of_a_known_drift():
    units = measured_windows(simulate(3, warm_up=0.0, run=0.0, session=0.0).windows)
    hours = units["start_s"] / 3600
    found = drift(units.assign(mean_power_w=units["mean_power_w"] * (1 + 0.2 * hours)))
    assert found["slope"].mean() == pytest.approx(0.2, abs=0.02)
    assert (found["low"] <= 0.2).sum() + (found["high"] >= 0.2).sum() >= 2 * len(found) - 3
    assert found["moved"].to_numpy() == pytest.approx((found["slope"] * found["hours"]).to_numpy())
