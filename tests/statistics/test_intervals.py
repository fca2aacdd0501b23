"""Intervals: against textbook numbers, Monte Carlo, and degenerate input."""

import numpy as np
import pytest
from scipy import stats

from energylab.errors import StatisticsError, UnknownNameError
from energylab.statistics.intervals import Interval, combined_half_width, expanded, mean_interval

SESSIONS_WH = [10.0, 10.4, 9.8, 10.2, 10.1]


def test_mean_interval_agrees_with_scipy_one_sample_test():
    ours = mean_interval(SESSIONS_WH)
    theirs = stats.ttest_1samp(SESSIONS_WH, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert ours.kind == "repeatability"
    assert ours.n == 5
    assert ours.note == ""


def test_two_sessions_are_said_to_be_few():
    assert "at least 3" in mean_interval([1.0, 1.1]).note


@pytest.mark.parametrize(
    ("values", "words"),
    [([1.0], "at least 2"), ([], "at least 2"), ([1.0, float("nan")], "position 1"), (["a", "b"], "numbers")],
)
def test_bad_values_are_refused(values, words):
    with pytest.raises(StatisticsError, match=words):
        mean_interval(values)


def test_bad_level_and_kind_are_refused():
    with pytest.raises(StatisticsError, match="coverage"):
        mean_interval(SESSIONS_WH, level=95)
    with pytest.raises(UnknownNameError, match="did you mean 'repeatability'"):
        mean_interval(SESSIONS_WH, kind="repeatable")


@pytest.mark.parametrize("df", [1, 2, 4, 30])
@pytest.mark.parametrize("ratio", [0.05, 1.0, 20.0])
def test_combined_half_width_agrees_with_monte_carlo(df, ratio):
    rng = np.random.default_rng(7)
    draws = stats.t.rvs(df, size=400_000, random_state=rng) + ratio * rng.uniform(-1, 1, 400_000)
    half = combined_half_width(stats.t.ppf(0.975, df), df, ratio, 0.95)
    assert np.mean(np.abs(draws) <= half) == pytest.approx(0.95, abs=0.0015)


def test_expanded_limits():
    same = mean_interval([10.0, 10.0, 10.0])
    assert expanded(same).half_width == pytest.approx(0.95 * 0.05 * 10)
    noisy = mean_interval(SESSIONS_WH)
    assert expanded(noisy, gain_error=0).half_width == pytest.approx(noisy.half_width)
    assert noisy.half_width < expanded(noisy).half_width < noisy.half_width + 0.05 * noisy.mean


def test_expanded_keeps_the_skew_and_names_a_single_session():
    skewed = Interval(10.0, 9.9, 10.6, 0.95, 12, "bootstrap-t", "within-session", df=None)
    wide = expanded(skewed, 0.05)
    assert (wide.low, wide.high) == pytest.approx((9.4, 11.1))
    assert wide.kind == "expanded"
    assert "one session" in wide.note


def test_expanding_twice_or_by_nonsense_is_refused():
    once = expanded(mean_interval(SESSIONS_WH))
    with pytest.raises(StatisticsError, match="already"):
        expanded(once)
    with pytest.raises(StatisticsError, match="gain_error"):
        expanded(mean_interval(SESSIONS_WH), gain_error=5)


def test_relative_half_width_and_scaling():
    joules = mean_interval([36.0, 37.0, 35.0])
    wh = joules.scaled(1 / 3600)
    assert wh.mean == pytest.approx(0.01)
    assert wh.relative_half_width == pytest.approx(joules.relative_half_width)
    with pytest.raises(StatisticsError, match="mean is 0"):
        _ = mean_interval([-1.0, 1.0]).relative_half_width
