"""Several sessions of one model: what their known spread leaves, and the mean once every query was asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from energylab.errors import StatisticsError
from energylab.statistics.anytime import best_ratio, multiplier
from energylab.statistics.intervals import check_level

#: Degrees of freedom of a spread that is known, not estimated: Student and normal cannot be told apart.
KNOWN_DF = 1e9


def known_half_width(count: ArrayLike, cv: ArrayLike, level: float, tuned_count: float = 3.0) -> np.ndarray:
    """Relative half-width that deviations of a known spread leave in a mean, valid after every one of them at once.

    The deviations (of sessions, of windows through a stepping counter) are Gaussian with a known coefficient of
    variation; the interval of their mean is the mixture of `anytime.multiplier` with a known variance. Add it to the
    half-width that the choice of queries leaves, each at its share of the error (a union bound).

    Parameters
    ----------
    count : array_like of float
        Deviations of equal weight so far; of unequal ones, the inverse of the sum of their squared weights.
    cv : array_like of float
        Their coefficient of variation. An upper bound keeps the promise: see `spread_bound`.
    level : float
        Coverage after all of them at once.
    tuned_count : float, default 3
        Count at which it is as short as it can be. Valid for any, fixed beforehand.

    Returns
    -------
    ndarray
        Relative to the mean; `count` and `cv` broadcast.

    Raises
    ------
    StatisticsError
        If the level makes no sense.

    References
    ----------
    Robbins (1970), Statistical methods related to the law of the iterated logarithm, Annals of Mathematical
    Statistics 41, 1397-1409.
    """
    check_level(level)
    count = np.asarray(count, float)
    ratio = known_ratio(count, level, tuned_count)
    return multiplier(KNOWN_DF, ratio, 1 - level) * np.asarray(cv, float) / np.sqrt(count)


def known_ratio(count: ArrayLike, level: float, tuned_count: float = 3.0) -> np.ndarray:
    """Return the ``1 + τ²/v`` of `anytime.multiplier` for deviations of known spread; as `known_half_width`."""
    check_level(level)
    return 1 + (best_ratio(KNOWN_DF, 1 - level) - 1) / tuned_count * np.asarray(count, float)


def spread_bound(cv: ArrayLike, sessions: int, level: float = 0.95) -> np.ndarray:
    """Upper bound of the spread between sessions, from the spread seen in an earlier study.

    ``cv · √((n - 1)/χ²(1 - level; n - 1))``.

    Parameters
    ----------
    cv : array_like of float
        Sample coefficient of variation of the study's sessions.
    sessions : int
        Their number n.
    level : float, default 0.95
        With which the true spread lies below.

    Raises
    ------
    StatisticsError
        If there are fewer than two sessions, or the level makes no sense.

    References
    ----------
    JCGM 100:2008 (GUM), E.4.3 (how uncertain a standard deviation of few values is).
    """
    check_level(level)
    if sessions < 2:
        raise StatisticsError(f"sessions={sessions!r}: a spread needs at least two")
    return np.asarray(cv, float) * np.sqrt((sessions - 1) / stats.chi2.ppf(1 - level, sessions - 1))


def session_weight(passes: int, groups: int) -> np.ndarray:
    """Variance of the mean of all queries after every session, in units of a single session's.

    A pass over all queries takes `groups` sessions of equally many queries, each of them asked again in the next
    pass. While the first pass lasts it is ``1/s`` after s sessions; then ``Σ_g 1/(p_g·G²)`` with p_g passes over
    group g out of G.

    Returns
    -------
    ndarray of shape (passes · groups,)
    """
    done = np.arange(1, passes * groups + 1)
    whole, part = np.divmod(done, groups)
    with np.errstate(divide="ignore"):
        later = (part / (whole + 1.0) + (groups - part) / whole) / groups**2
    return np.where(whole == 0, 1.0 / done, later)


def repeated_mean(energy: ArrayLike) -> np.ndarray:
    """Mean energy per query after every session, once all queries were asked.

    The mean of every group's own mean: a group that was measured once more than another weighs no more. Which
    queries a session holds is then no error at all, and what is left is that of `session_weight`.

    Parameters
    ----------
    energy : array_like of shape (..., passes, groups)
        Energy per query of each session, in measured order; each group holds the same queries in every pass.

    Returns
    -------
    ndarray of shape (..., passes · groups)
        NaN while some queries were never asked.
    """
    y = np.asarray(energy, float)
    passes, groups = y.shape[-2:]
    of_group = np.cumsum(y, axis=-2) / np.arange(1, passes + 1)[:, None]
    steps = np.diff(of_group, axis=-2, prepend=0.0).reshape(*y.shape[:-2], -1)
    mean = np.cumsum(steps, axis=-1) / groups
    mean[..., : groups - 1] = np.nan
    return mean
