"""Rows on the mean: over sessions, of one session, and expanded by the gain of a board's sensor."""

from __future__ import annotations

import numpy as np
from scipy import stats

from coverage_rows import autoregressive, lognormal, row
from energylab.statistics.correlation import within_session_interval
from energylab.statistics.intervals import combined_half_width, expanded, mean_interval


def mean_covers(values: np.ndarray, truth: float = 1.0) -> np.ndarray:
    return np.array([(i := mean_interval(v)).low <= truth <= i.high for v in values])


@row("mean over sessions", "3 independent sessions, CV 1 %", "95 %")
def _(rng, count):
    return mean_covers(1 + 0.01 * rng.standard_normal((count, 3)))


@row("mean over sessions", "10 independent sessions, CV 1 %", "95 %")
def _(rng, count):
    return mean_covers(1 + 0.01 * rng.standard_normal((count, 10)))


@row("mean over sessions", "5 sessions, lognormal of CV 20 %", "95 %")
def _(rng, count):
    return mean_covers(lognormal(rng, 0.2, (count, 5)))


@row("mean over sessions", "5 sessions, lognormal of CV 1")
def _(rng, count):
    return mean_covers(lognormal(rng, 1.0, (count, 5)))


@row("mean over sessions", "ONE session, its 10 runs taken for sessions (session CV 1 %, run CV 0.4 %)")
def _(rng, count):
    return mean_covers(1 + 0.01 * rng.standard_normal((count, 1)) + 0.004 * rng.standard_normal((count, 10)))


@row("mean over sessions", "ONE drifting session, its 10 runs taken for sessions (warming up by 3 %)")
def _(rng, count):
    drift = -0.03 * np.exp(-np.arange(10) / 3)
    return mean_covers(1 + drift + 0.004 * rng.standard_normal((count, 10)))


def within_covers(values: np.ndarray) -> np.ndarray:
    return np.array([(i := within_session_interval(v)).low <= 1 <= i.high for v in values])


@row("one session's mean, effective sample size", "200 windows, independent", "95 %")
def _(rng, count):
    return within_covers(1 + 0.01 * rng.standard_normal((count, 200)))


@row("one session's mean, effective sample size", "200 windows, neighbours correlated by 0.5")
def _(rng, count):
    return within_covers(1 + 0.01 * autoregressive(rng, count, 200, 0.5))


@row("one session's mean, effective sample size", "60 windows, neighbours correlated by 0.7")
def _(rng, count):
    return within_covers(1 + 0.01 * autoregressive(rng, count, 60, 0.7))


@row("one session's mean, windows taken for independent", "200 windows, neighbours correlated by 0.5")
def _(rng, count):
    return mean_covers(1 + 0.01 * autoregressive(rng, count, 200, 0.5))


def expanded_covers(rng, count, sessions: int, cv: float, gain: np.ndarray) -> np.ndarray:
    """Sessions on one board each; the truth is 1 on a board without gain error."""
    y = (1 + gain[:, None]) * (1 + cv * rng.standard_normal((count, sessions)))
    half = stats.t.ppf(0.975, sessions - 1) * y.std(axis=1, ddof=1) / np.sqrt(sessions)
    wide = combined_half_width(half, sessions - 1, 0.05 * y.mean(axis=1), 0.95)
    one = expanded(mean_interval(y[0]))
    if not np.isclose(one.half_width, wide[0]):
        raise RuntimeError("the vectorised half-width is not the one of expanded()")
    return np.abs(y.mean(axis=1) - 1) <= wide


@row("expanded", "3 sessions of CV 0.2 %, gain within ±5 %", "95 % or more")
def _(rng, count):
    return expanded_covers(rng, count, 3, 0.002, rng.uniform(-0.05, 0.05, count))


@row("expanded", "3 sessions of CV 2 %, gain within ±5 %", "95 % or more")
def _(rng, count):
    return expanded_covers(rng, count, 3, 0.02, rng.uniform(-0.05, 0.05, count))


@row("expanded", "5 sessions of CV 5 %, gain within ±5 %", "95 % or more")
def _(rng, count):
    return expanded_covers(rng, count, 5, 0.05, rng.uniform(-0.05, 0.05, count))


@row("expanded", "3 sessions of CV 0.2 %, gain Gaussian with standard deviation 5 %")
def _(rng, count):
    return expanded_covers(rng, count, 3, 0.002, 0.05 * rng.standard_normal(count))


@row("mean over sessions", "3 sessions of CV 0.2 % on a board of gain within ±5 %, not expanded")
def _(rng, count):
    y = (1 + rng.uniform(-0.05, 0.05, (count, 1))) * (1 + 0.002 * rng.standard_normal((count, 3)))
    return mean_covers(y)
