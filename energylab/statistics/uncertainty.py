"""Intervals of a mean energy: from sessions and boards, and with the gain error of the boards' sensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from energylab.errors import StatisticsError

#: Largest relative gain error of a board's sensor, in either direction: about ±5 % (Yang, Adamek, Armour (2023),
#: Part-time power measurements: nvidia-smi's lack of attention, arXiv:2312.02741).
GAIN_ERROR = 0.05

#: Default coverage of intervals.
LEVEL = 0.95

#: Recommended number of sessions, in random order, for a repeatability interval.
SESSIONS_WANTED = 3

#: From these degrees of freedom on, an expanded interval is at least as wide as the interval it expands: otherwise
#: Welch-Satterthwaite covers only 92 % if three sessions scatter by more than the gain.
WIDENED_DF = 2


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    n: int  # number of independent values (sessions, runs …)
    df: float  # degrees of freedom of Student's t

    @property
    def half_width(self) -> float:
        """Larger distance from the mean to an end."""
        return max(self.high - self.mean, self.mean - self.low)

    @property
    def relative_half_width(self) -> float:
        """Half-width as a fraction of the mean."""
        return self.half_width / abs(self.mean)


def mean_interval(values: ArrayLike) -> Interval:
    """Student 95 % interval of the mean of at least two independent values, any unit (JCGM 100:2008, 4.2.3 and G.3).

    Sessions are independent values; the runs of one session are not: their interval does not cover other sessions.
    Raises a StatisticsError for fewer than two values, or values that are not finite.
    """
    x = np.asarray(values, dtype=float).ravel()
    if x.size < 2 or not np.isfinite(x).all():
        raise StatisticsError(
            f"{int(np.isfinite(x).sum())} of {x.size} values are finite; all must be, and at least two: leave "
            "unavailable energies out, or measure them again"
        )
    half, mean = float(t_quantile(LEVEL, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size)), float(x.mean())
    return Interval(mean, mean - half, mean + half, x.size, float(x.size - 1))


def gain_variance(gain: float) -> float:
    """Return the variance of a relative gain error that is uniform on ±`gain` (GUM, 4.3.7)."""
    return gain**2 / 3


def expanded(interval: Interval, gain_error: float = GAIN_ERROR) -> Interval:
    """Widen an interval of one board by the gain of its sensor, fixed and uniform on ±`gain_error`."""
    own = interval.half_width / t_quantile(LEVEL, interval.df)
    known = abs(interval.mean) * np.sqrt(gain_variance(gain_error))
    half, df = map(float, combined_half_width(own, interval.df, known, LEVEL))
    half = max(half, interval.half_width) if interval.df >= WIDENED_DF else half
    return replace(interval, low=interval.mean - half, high=interval.mean + half, df=df)


def combined_half_width(
    standard_error: ArrayLike, df: ArrayLike, known: ArrayLike, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Combine an estimated standard error s with a known standard uncertainty k by the GUM's formula.

    ``u² = s² + k²`` with ``u⁴ / (s⁴ / df)`` degrees of freedom (Welch-Satterthwaite; the known part has infinitely
    many); the half-width is Student's at `level`.

    All are arrays in the unit of the energy. Returns the half-width and its degrees of freedom (JCGM 100:2008, G.2b).
    """
    s, k = np.asarray(standard_error, float), np.asarray(known, float)
    square = s**2 + k**2
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(s > 0, df * (square / s**2) ** 2, np.inf)
    return t_quantile(level, effective) * np.sqrt(square), effective


def shrink_variances(variance: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrink variances estimated from few repeats towards a common value (empirical Bayes).

    The prior of the true variances is scaled inverse chi-square, ``d0 · s0² / chi²(d0)``; d0 and s0² are fitted to the
    mean and the variance of the logarithms of the estimates. Each becomes ``(d0 · s0² + d · s²) / (d0 + d)`` with
    ``d0 + d`` degrees of freedom, but no more than all estimates have together.

    A `df` of 0 means that there is no estimate; its variance is ignored.

    References
    ----------
    Smyth (2004), Linear models and empirical Bayes methods for assessing differential expression in microarray
    experiments, Statistical Applications in Genetics and Molecular Biology 3, article 3, section 6.
    """
    has = df > 0
    pooled_df = float(df[has].sum())
    pooled = float((df[has] * variance[has]).sum() / pooled_df)
    prior_df, prior = _prior(variance[has], df[has], pooled)
    if np.isinf(prior_df):
        return np.full(len(df), pooled), np.full(len(df), pooled_df)
    own = np.where(has, variance, 0.0)
    return (prior_df * prior + df * own) / (prior_df + df), np.minimum(prior_df + df, pooled_df)


def _prior(variance: np.ndarray, df: np.ndarray, pooled: float) -> tuple[float, float]:
    """Return d0 (infinite if the estimates scatter no more than by chance) and s0²."""
    if len(variance) < 2 or pooled == 0:
        return np.inf, pooled
    # two equal repeats give a variance of 0, whose logarithm is infinite: it is limited from below
    logs = np.log(np.maximum(variance, 1e-5 * np.median(variance[variance > 0])))
    centred = logs - special.digamma(df / 2) + np.log(df / 2)
    excess = centred.var(ddof=1) - special.polygamma(1, df / 2).mean()
    if excess <= 1e-9:
        return np.inf, pooled
    half = optimize.brentq(lambda x: np.log(special.polygamma(1, np.exp(x)) / excess), -30.0, 30.0)
    prior_df = 2 * float(np.exp(half))
    return prior_df, float(np.exp(centred.mean() + special.digamma(prior_df / 2) - np.log(prior_df / 2)))


def t_quantile(level: float, df: ArrayLike) -> np.ndarray:
    """Half-width of the central interval of a Student distribution that holds `level`; normal for infinite `df`."""
    degrees, where = np.unique(np.asarray(df, float), return_inverse=True)  # slow, so each value once
    degrees = np.where(np.isinf(degrees), 1e12, degrees)
    return special.stdtrit(degrees, 0.5 + level / 2)[where]
