"""Intervals that stay valid however often one looks: the mixture t of a mean, with or without covariates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from energylab.errors import StatisticsError
from energylab.statistics.intervals import check_level


@dataclass(frozen=True)
class Path:
    """An estimate and its interval after every window; the last axis is the number of windows looked at.

    Attributes
    ----------
    mean : ndarray of shape (..., n)
        Estimate after 1, 2, … n windows; the first window's energy while there is no estimate.
    half_width : ndarray of shape (..., n)
        Half-width of the anytime-valid interval; infinite as long as there is none.
    """

    mean: np.ndarray
    half_width: np.ndarray

    def covers(self, truth: ArrayLike) -> np.ndarray:
        """Whether the interval held `truth` (shape ``(...)``) after *every* window: shape ``(...)``."""
        truth = np.asarray(truth, float)[..., None]
        missed = np.abs(self.mean - truth) > self.half_width + 1e-12 * np.abs(truth)  # rounding of a full sample
        return ~np.any(missed, axis=-1)


def multiplier(df: ArrayLike, ratio: ArrayLike, alpha: float) -> np.ndarray:
    """Factor k of the anytime-valid interval ``estimate ± k · standard error``.

    For Gaussian windows with unknown variance, the likelihood ratio of "the mean is μ₀" against a mixture
    ``(μ - μ₀)/σ ~ N(0, τ²)``, with the right Haar prior on σ, is a martingale under μ₀ that depends on the
    data by the ordinary t statistic alone:

    ``B = ratio^(-1/2) · ((1 + t²/df) / (1 + t²/(df · ratio)))^((df + 1)/2)``,  ``ratio = 1 + τ²/v``,

    where v·σ² is the variance of the estimate (1/n for a mean). By Ville's inequality B ever reaches 1/α with
    probability ≤ α, so the set of all μ₀ with B < 1/α covers at *all* looks at once; solving for t gives

    ``k² = df · (A - 1)/(1 - A/ratio)``,  ``A = (ratio/α²)^(1/(df + 1))``,  infinite while A ≥ ratio.

    Parameters
    ----------
    df : array_like
        Degrees of freedom of the t statistic.
    ratio : array_like
        ``1 + τ²/v``, above 1.
    alpha : float
        Probability that the interval ever fails.

    Returns
    -------
    ndarray
        k, infinite where no interval exists yet.

    References
    ----------
    Lai (1976), On confidence sequences, Annals of Statistics 4, 265-280; Wang, Ramdas (2025), Anytime-valid
    t-tests and confidence sequences for Gaussian means with unknown variance, Sequential Analysis 44, 56-110;
    Lindon, Ham, Tingley, Bojinov (2022), Anytime-valid linear models and regression adjusted causal
    inference in randomized experiments, arXiv:2210.08589 (the same with covariates).
    """
    df, ratio = np.asarray(df, float), np.asarray(ratio, float)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        power = np.where(df > 0, np.exp(np.log(ratio / alpha**2) / (df + 1)), np.inf)
        square = df * (power - 1) / (1 - power / ratio)
        return np.where((df > 0) & (power < ratio), np.sqrt(np.abs(square)), np.inf)


@lru_cache(maxsize=256)
def best_ratio(df: float, alpha: float) -> float:
    """Return the `ratio` that makes `multiplier` smallest at `df`: tunes a mixture to a number of windows."""
    found = minimize_scalar(
        lambda log_excess: np.log(multiplier(df, 1 + np.exp(log_excess), alpha)),
        bounds=(np.log(4 / alpha ** (2 / df)), np.log(1e4 / alpha ** (4 / df))),
        method="bounded",
    )
    return 1 + float(np.exp(found.x))


def anytime_path(
    energy: ArrayLike,
    covariate: ArrayLike | None = None,
    *,
    level: float = 0.95,
    tuned_windows: int = 20,
    population_windows: int | None = None,
    sampling_share: float = 0.0,
) -> Path:
    """Anytime-valid interval of the mean energy per query, after every window of equal size.

    Vectorised over any number of measurements; `sequential.StopRule` is the same for one measurement that is
    still running, with windows of unequal size and several covariates.

    Sampling without replacement: of n windows out of M, the estimate's variance is ``σ²(1/n - 1/M)``. With
    Gaussian windows the estimate's error stays independent of the contrasts that estimate σ, so that the
    likelihood ratio of `multiplier` with ``v = 1/n - 1/M`` is still a martingale. Only the share of the
    variance that comes from the choice of queries shrinks so; the rest (noise of a window) does not.

    Parameters
    ----------
    energy : array_like of shape (..., n)
        Energy per query of each window, in measured order, any unit.
    covariate : array_like of shape (..., n), optional
        What is known of every query, averaged over the window, *minus its mean over all queries*.
    level : float, default 0.95
        Coverage at all looks at once.
    tuned_windows : int, default 20
        Number of windows at which the interval is as short as it can be. Valid for any, fixed beforehand.
    population_windows : int, optional
        Windows M that all queries would fill. None: no finite-population correction.
    sampling_share : float, default 0.0
        Share of the windows' variance that is due to which queries they hold, 0 to 1.

    Returns
    -------
    Path
        Estimates and half-widths, each of shape (..., n).

    Raises
    ------
    StatisticsError
        If the level, the share or the population does not make sense.

    References
    ----------
    As `multiplier`; Cochran (1977), Sampling techniques, 3rd ed., 2.6 (finite-population correction) and 7.1
    (regression estimator).
    """
    terms = anytime_terms(
        energy,
        covariate,
        level=level,
        tuned_windows=tuned_windows,
        population_windows=population_windows,
        sampling_share=sampling_share,
    )
    with np.errstate(invalid="ignore"):
        half = np.where(terms.error > 0, multiplier(terms.df, terms.ratio, 1 - level) * terms.error, 0.0)
    known = (terms.df > 0) & np.isfinite(terms.error)
    return Path(terms.mean, np.where(known, half, np.inf))


@dataclass(frozen=True)
class Terms:
    """What the interval of `anytime_path` is made of after every window, before a level is chosen.

    Attributes
    ----------
    mean : ndarray of shape (..., n)
        Estimate.
    error : ndarray of shape (..., n)
        Its standard error; infinite while there is none, 0 once nothing is left to sample.
    df : ndarray of shape (n,)
        Degrees of freedom of the standard error.
    ratio : ndarray
        ``1 + τ²/v`` of `multiplier`; of shape (..., n) with a covariate, (n,) without.
    """

    mean: np.ndarray
    error: np.ndarray
    df: np.ndarray
    ratio: np.ndarray


def anytime_terms(
    energy: ArrayLike,
    covariate: ArrayLike | None = None,
    *,
    level: float = 0.95,
    tuned_windows: int = 20,
    population_windows: int | None = None,
    sampling_share: float = 0.0,
) -> Terms:
    """Return what `anytime_path` makes its interval of; `level` is the one it is tuned to.

    Parameters
    ----------
    energy, covariate, level, tuned_windows, population_windows, sampling_share
        As `anytime_path`.

    Returns
    -------
    Terms

    Raises
    ------
    StatisticsError
        As `anytime_path`.
    """
    check_level(level)
    y = np.asarray(energy, float)
    count = np.arange(1, y.shape[-1] + 1, dtype=float)
    first = y[..., :1]  # sums of differences from the first window keep their digits
    mean, variance, rss, df = _least_squares(y - first, covariate, count)
    effective = finite_variance(variance, count, population_windows, sampling_share)
    tuned_df = max(tuned_windows - (count - df)[0], 1.0)
    tau2 = (best_ratio(tuned_df, 1 - level) - 1) / tuned_windows
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(effective > 0, np.sqrt(np.maximum(rss, 0) / df * effective), 0.0)
        ratio = 1 + tau2 / effective
    known = (df > 0) & np.isfinite(mean) & np.isfinite(error)
    return Terms(np.where(np.isfinite(mean), mean, 0.0) + first, np.where(known, error, np.inf), df, ratio)


def finite_variance(
    variance: ArrayLike, measured: ArrayLike, population: float | None, sampling_share: float
) -> np.ndarray:
    """Variance of an estimate around the mean of a finite population, some or all of which was measured.

    All variances are in units of the residual variance, as 1/n is for a mean of n. With k whole passes over
    the N and a fraction φ of the next, the mean misses that of the population by ``φ(1 - φ)/((k + φ)²·N)``;
    in the first pass that is ``1/n - 1/N``, the textbook's ``(1 - n/N)/n``. What covariates add to the
    variance stays, and so does the share that is noise of the windows rather than the choice of queries.

    Parameters
    ----------
    variance : array_like
        Of the estimate, were the population infinite.
    measured : array_like
        Queries (or windows of equal size) measured, repetitions included.
    population : float or None
        How many there are; None for infinitely many.
    sampling_share : float
        Share of the residual variance that comes from the choice of queries, 0 to 1.

    Returns
    -------
    ndarray
        Not below 0.

    Raises
    ------
    StatisticsError
        If the share is not within 0 to 1, or is given without a population.

    References
    ----------
    Cochran (1977), Sampling techniques, 3rd ed., 2.6.
    """
    variance, measured = np.asarray(variance, float), np.asarray(measured, float)
    if not 0 <= sampling_share <= 1:
        raise StatisticsError(f"sampling_share={sampling_share!r} is a share of variance; allowed: 0 to 1")
    if population is None:
        if sampling_share:
            raise StatisticsError("sampling_share needs the population's size; pass it, or sampling_share=0")
        return variance
    if not population > 0:
        raise StatisticsError(f"population={population!r} must be positive")
    passes = measured / population
    part = passes - np.floor(passes + 1e-12)
    missed = np.maximum(part * (1 - part), 0.0) / (passes**2 * population)
    left = variance - sampling_share * (1 / measured - missed)
    return np.where(left < 1e-12 * variance, 0.0, left)


def _least_squares(y, covariate, count):
    """Running estimate at covariate 0, its variance over σ², residual sum of squares, degrees of freedom."""
    sum_y, sum_yy = np.cumsum(y, -1), np.cumsum(y * y, -1)
    if covariate is None:
        mean = sum_y / count
        return mean, 1 / count, sum_yy - mean * sum_y, count - 1
    x = np.asarray(covariate, float)
    sum_x, sum_xx, sum_xy = np.cumsum(x, -1), np.cumsum(x * x, -1), np.cumsum(x * y, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = count * sum_xx - sum_x**2
        mean = (sum_xx * sum_y - sum_x * sum_xy) / determinant
        slope = (count * sum_xy - sum_x * sum_y) / determinant
        return mean, sum_xx / determinant, sum_yy - mean * sum_y - slope * sum_xy, count - 2
