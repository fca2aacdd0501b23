"""Autocorrelation and effective sample size: against direct sums and the known value of an AR(1) series."""

import numpy as np
import pytest

from energylab.errors import StatisticsError
from energylab.statistics.correlation import (
    autocorrelation,
    correlation,
    effective_sample_size,
    within_session_interval,
)
from energylab.statistics.intervals import mean_interval
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows


def series(n, rho, seed=0):
    noise = np.random.default_rng(seed).standard_normal(n)
    for i in range(1, n):
        noise[i] = rho * noise[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return noise


def test_autocorrelation_agrees_with_direct_sums():
    x = series(50, 0.4)
    centred = x - x.mean()
    direct = [np.sum(centred[: 50 - lag] * centred[lag:]) / np.sum(centred**2) for lag in range(50)]
    assert autocorrelation(x) == pytest.approx(np.array(direct), abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_effective_sample_size_of_a_known_series(rho):
    found = np.mean([effective_sample_size(series(2000, rho, seed)) for seed in range(20)])
    assert found == pytest.approx(2000 * (1 - rho) / (1 + rho), rel=0.12)


def test_negative_correlation_is_not_worth_more_than_it_has():
    assert effective_sample_size(series(300, -0.7)) == 300


def test_interval_of_correlated_windows_is_wider_and_says_what_it_is():
    x = 10 + series(200, 0.7)
    ours = within_session_interval(x)
    assert ours.half_width > 1.5 * mean_interval(x).half_width
    assert ours.kind == "within-session"
    assert "independent windows" in ours.note


def test_constant_windows_have_a_known_mean():
    same = within_session_interval([3.0] * 6)
    assert (same.low, same.high) == (3.0, 3.0)
    with pytest.raises(StatisticsError, match="constant"):
        autocorrelation([3.0] * 6)


def test_table_has_one_row_a_session():
    units = measured_windows(simulate(0, correlation=0.6, warm_up=0, query=0, run=0, windows=60).windows)
    table = correlation(units)
    assert len(table) == 12
    assert table["lag_1"].mean() == pytest.approx(0.58, abs=0.06)
    assert (table["effective"] < table["windows"]).all()
