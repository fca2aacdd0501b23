"""The energy of all queries from fewer: windows as a random sample of clusters of queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from energylab.errors import StatisticsError, unknown_name
from energylab.statistics.anytime import finite_variance
from energylab.statistics.intervals import Interval, check_level, finite_values, t_quantile

Method = Literal["auto", "t", "bootstrap-t"]

#: Windows below which no interval is given by ``auto``.
LEAST_WINDOWS = 10

#: Windows below which the skew of the residuals cannot be judged from the windows themselves.
STUDENT_WINDOWS = 30

#: Cochran's factor: a Student interval needs more than this times the squared skew windows.
COCHRAN = 25.0

#: Residual skew of windows up to which the bootstrap-t nearly keeps its coverage from `LEAST_WINDOWS` on.
MOST_SKEW = 2.0

#: Resamples of the bootstrap-t.
RESAMPLES = 999


@dataclass(frozen=True)
class Fit:
    """Weighted regression of energy per query on centred covariates; entry 0 is the mean at their centre."""

    mean: float
    variance: float  # of the mean, in units of the residual variance of one query
    error: float  # standard error of the mean
    df: int
    residuals: np.ndarray  # standardised to windows of average size
    design: np.ndarray
    weights: np.ndarray
    response: np.ndarray

    @property
    def skew(self) -> float:
        """Sample skewness of the residuals; 0 for residuals that vanish."""
        centred = self.residuals - self.residuals.mean()
        spread = np.sqrt(np.mean(centred**2))
        return float(np.mean(centred**3) / spread**3) if spread > 1e-9 * abs(self.mean) else 0.0


def estimate_total(
    energy_j: ArrayLike,
    queries: ArrayLike,
    *,
    population: int,
    covariates: Mapping[str, ArrayLike] | None = None,
    covariate_means: Mapping[str, float] | None = None,
    level: float = 0.95,
    sampling_share: float = 1.0,
    method: Method = "auto",
    seed: int = 0,
) -> Interval:
    """Estimate the energy of all queries from windows that hold some of them.

    The windows are a simple random sample, without replacement, of clusters of queries. Energy per query is
    regressed on what is known of every query, with the windows' query counts as weights; the estimate is the
    fitted value at the means over *all* queries, times their number. Without covariates it is the ratio
    estimator (energy over queries). Its variance is the residual one, times ``1 - sampling_share · n/N``
    for the n distinct queries seen out of N.

    Which interval, by ``auto``: Student's t when the windows number at least 30 and at least 25 times the
    squared skew of their residuals (Cochran's rule); otherwise the bootstrap-t from 10 windows on, with a
    note when the skew is above 2; below 10 windows none.

    Parameters
    ----------
    energy_j : array_like of shape (n,)
        Energy of each window, its queries once, in joules.
    queries : array_like of shape (n,)
        Queries of each window; no query in two windows.
    population : int
        Number of all queries.
    covariates : mapping of str to array_like of shape (n,), optional
        Means over each window's queries (input tokens, pixels, seconds of audio).
    covariate_means : mapping of str to float, optional
        Means over all queries, for the same names.
    level : float, default 0.95
        Nominal coverage.
    sampling_share : float, default 1.0
        Share of the residual variance that comes from which queries a window holds. 1: the interval is of
        what this session would have shown for all queries. The share found by `components` makes it one of
        the steady state.
    method : {'auto', 't', 'bootstrap-t'}
        Which interval.
    seed : int, default 0
        Of the bootstrap.

    Returns
    -------
    Interval
        Of the total, in joules, of kind ``within-session``.

    Raises
    ------
    StatisticsError
        If there are too few windows, more queries than the population, or covariates without means.

    References
    ----------
    Cochran (1977), Sampling techniques, 3rd ed., 2.15 (n > 25·G₁²), ch. 6-7 (ratio and regression
    estimators), ch. 9 (clusters); Särndal, Swensson, Wretman (1992), Model assisted survey sampling,
    Springer, ch. 6 and 8; Efron, Tibshirani (1993), An introduction to the bootstrap, Chapman & Hall, 12.5
    (bootstrap-t).
    """
    check_level(level)
    if method not in get_args(Method):
        raise unknown_name("method", method, get_args(Method))
    fit = _fit(energy_j, queries, population, covariates or {}, covariate_means or {})
    used, note = _choose(fit, method)
    left = float(finite_variance(fit.variance, fit.weights.sum(), population, sampling_share) / fit.variance)
    low, high = _student(fit, level) if used == "t" else bootstrap_t(fit, level, seed)
    scale = float(population * fit.error * np.sqrt(left))
    total = population * fit.mean
    names = ", ".join(covariates or {})
    how = f"regression on {names}" if names else "mean per query"
    n = fit.weights.size
    label = f"{how}, {'Student t' if used == 't' else 'bootstrap-t'}"
    df = float(fit.df) if used == "t" else None
    return Interval(total, total - high * scale, total - low * scale, level, n, label, "within-session", note, df)


def _fit(energy_j, queries, population, covariates, covariate_means) -> Fit:
    weights = finite_values(queries, least=2, what="windows")
    energy = finite_values(energy_j, least=2, what="windows")
    _check_sample(energy, weights, population, covariates, covariate_means)
    columns = [
        finite_values(values, least=weights.size, what=f"values of {name}") - covariate_means[name]
        for name, values in covariates.items()
    ]
    design = np.column_stack([np.ones(weights.size), *columns])
    df = weights.size - design.shape[1]
    if df < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise StatisticsError(
            f"{weights.size} windows cannot carry a regression on {', '.join(covariates) or 'nothing'}: "
            "measure more windows, or leave out a covariate that does not vary"
        )
    response = energy / weights
    gram = np.linalg.inv(design.T @ (design * weights[:, None]))
    coefficients = gram @ (design.T @ (weights * response))
    residuals = (response - design @ coefficients) * np.sqrt(weights / weights.mean())
    error = float(np.sqrt(weights.mean() * (residuals @ residuals) / df * gram[0, 0]))
    return Fit(float(coefficients[0]), float(gram[0, 0]), error, df, residuals, design, weights, response)


def _check_sample(energy, weights, population, covariates, covariate_means) -> None:
    if energy.size != weights.size:
        raise StatisticsError(f"{energy.size} energies and {weights.size} query counts; one of each a window")
    if np.any(weights < 1) or weights.sum() > population:
        raise StatisticsError(
            f"{weights.sum():g} queries in windows of {weights.min():g} and more, out of {population}: every window "
            "holds at least one query, and a query counts once (repeating it is replication, not more queries)"
        )
    if covariates.keys() != covariate_means.keys():
        raise StatisticsError(
            f"covariates {sorted(covariates)} need their means over all queries; given: {sorted(covariate_means)}"
        )


def _choose(fit: Fit, method: Method) -> tuple[str, str]:
    n, skew = fit.weights.size, abs(fit.skew)
    few = n < LEAST_WINDOWS
    if method == "auto" and few:
        raise StatisticsError(
            f"{n} windows are too few for an interval of a total (at least {LEAST_WINDOWS}): measure more or "
            "shorter windows, or ask for method='t' if residuals are known to be Gaussian"
        )
    gaussian = n >= COCHRAN * skew**2
    used = ("t" if gaussian and n >= STUDENT_WINDOWS else "bootstrap-t") if method == "auto" else method
    notes = [f"{n} windows, fewer than {LEAST_WINDOWS}"] if few else []
    if used == "t" and not gaussian:
        notes.append(f"residual skew {skew:.1f} needs {COCHRAN * skew**2:.0f} windows for Student's t")
    if used == "bootstrap-t" and skew > MOST_SKEW:
        notes.append(f"residual skew {skew:.1f} is above {MOST_SKEW:g}: it covers less than it says")
    return used, "; ".join(notes)


def _student(fit: Fit, level: float) -> tuple[float, float]:
    quantile = float(t_quantile(level, fit.df))
    return -quantile, quantile


def bootstrap_t(fit: Fit, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Quantiles of the studentised estimate when windows are drawn again with replacement.

    Parameters
    ----------
    fit : Fit
        The regression on the windows as measured.
    level : float, default 0.95
        Probability between the two quantiles.
    seed, resamples : int
        Of the resampling.

    Returns
    -------
    low, high : float
        The interval is ``estimate - high · error`` to ``estimate - low · error``.

    Raises
    ------
    StatisticsError
        If the residuals vanish, so that nothing can be studentised.

    References
    ----------
    Efron, Tibshirani (1993), An introduction to the bootstrap, 12.5; Hall (1988), Theoretical comparison of
    bootstrap confidence intervals, Annals of Statistics 16, 927-953.
    """
    n, p = fit.design.shape
    if fit.error <= 1e-12 * abs(fit.mean):
        raise StatisticsError("the windows do not differ, so nothing can be bootstrapped; use method='t'")
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    weighted = fit.design * fit.weights[:, None]
    response = fit.response - fit.mean  # differences keep their digits in the sums of squares
    gram = (counts @ (weighted[:, :, None] * fit.design[:, None, :]).reshape(n, -1)).reshape(-1, p, p)
    right = counts @ (weighted * response[:, None])
    # a resample in which a covariate does not vary has no slope: its scale-free determinant is 0
    usable = np.linalg.det(gram) > 1e-10 * np.prod(np.diagonal(gram, axis1=1, axis2=2), axis=1)
    inverse = np.linalg.inv(gram[usable])
    coefficients = np.einsum("bij,bj->bi", inverse, right[usable])
    rss = counts[usable] @ (fit.weights * response**2) - np.einsum("bi,bi->b", coefficients, right[usable])
    error = np.sqrt(np.maximum(rss, 0) / (n - p) * inverse[:, 0, 0])
    studentised = coefficients[error > 1e-9 * fit.error, 0] / error[error > 1e-9 * fit.error]
    low, high = np.quantile(studentised, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
