"""Splitting the variance between windows: how much is which queries they hold, how much is their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse, stats

from energylab.statistics.intervals import check_level

#: Windows used at most: the split needs the eigenvalues of a square matrix of that size.
MOST_WINDOWS = 2000

_NAN = float("nan")


@dataclass(frozen=True)
class QuerySplit:
    """Relative variances within runs.

    Attributes
    ----------
    window_variance, query_variance : float
        Of a window's own deviation, and of one query; both relative to the squared mean energy. NaN where the
        data cannot tell.
    window_interval, query_interval : tuple of float
        Their intervals.
    df : float
        Degrees of freedom that `window_variance` is worth.
    note : str
        Why the two could not be told apart, or what was left out.
    """

    window_variance: float
    query_variance: float
    window_interval: tuple[float, float]
    query_interval: tuple[float, float]
    df: float
    note: str = ""


@dataclass(frozen=True)
class Spectrum:
    """The within-run design, turned so that windows are independent.

    Attributes
    ----------
    vectors : ndarray of shape (n, k)
        Orthonormal contrasts within runs.
    values : ndarray of shape (k,)
        The variance of contrast i is ``σ²_window + values[i] · σ²_query``.
    """

    vectors: np.ndarray
    values: np.ndarray

    @property
    def separable(self) -> bool:
        """Whether the contrasts differ enough in what queries add to them: they do when queries are asked again."""
        return self.values.size > 1 and np.ptp(self.values) > 0.05 * self.values.max()


def split_queries(units: pd.DataFrame, level: float = 0.95) -> QuerySplit:
    """Split the variance of windows within their runs into that of queries and that of the windows themselves.

    A window's energy per query is the mean of its queries' energies, plus its own deviation. As every run
    deals the queries out anew, windows of different runs share queries to a different degree, and that
    tells the two apart: a mixed model with one random effect a query, fitted by restricted maximum
    likelihood in the eigenbasis of the design. Intervals are profile likelihood intervals.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`.
    level : float, default 0.95
        Coverage of the intervals.

    Returns
    -------
    QuerySplit
        Not separated, and says so, when no query was asked twice.

    References
    ----------
    Patterson, Thompson (1971), Recovery of inter-block information when block sizes are unequal, Biometrika
    58, 545-554 (REML); Kang et al. (2008), Efficient control of population structure in model organism
    association mapping, Genetics 178, 1709-1723 (eigenbasis); Venzon, Moolgavkar (1988), A method for
    computing profile- likelihood-based confidence intervals, Applied Statistics 37, 87-94.
    """
    check_level(level)
    kept, note = _at_most(units)
    runs = kept.groupby(["session", "run"], sort=False)["per_query_j"]
    if len(kept) <= runs.ngroups:
        why = "one window a run: its spread is in that of the runs"
        return QuerySplit(_NAN, _NAN, (_NAN, _NAN), (_NAN, _NAN), _NAN, why)
    y = (kept["per_query_j"] / runs.transform("mean")).to_numpy()
    spectrum = within_run_spectrum(kept)
    contrasts = spectrum.vectors.T @ y
    if not spectrum.separable:
        return _together(contrasts, level)
    return reml_split(contrasts, spectrum.values, level, note)


def _at_most(units: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Keep whole sessions, as many as fit."""
    if len(units) <= MOST_WINDOWS:
        return units, ""
    sizes = units.groupby("session", sort=False).size().cumsum()
    kept = max(int((sizes <= MOST_WINDOWS).sum()), 1)
    return units[units["session"].isin(sizes.index[:kept])], f"from {kept} of {len(sizes)} sessions"


def _together(contrasts: np.ndarray, level: float) -> QuerySplit:
    df = contrasts.size
    total = float(contrasts @ contrasts)
    ends = total / stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], df)
    note = "window and its queries together: no query was asked twice"
    return QuerySplit(_NAN, _NAN, (_NAN, _NAN), (_NAN, _NAN), _NAN, f"{note} (CV {np.sqrt(total / df):.2%}, "
                      f"{np.sqrt(ends[0]):.2%} to {np.sqrt(ends[1]):.2%})")  # fmt: skip


def within_run_spectrum(units: pd.DataFrame) -> Spectrum:
    """Eigenbasis of the queries' covariance between windows, within runs.

    Parameters
    ----------
    units : pandas.DataFrame
        ``session, run, query_ids``.

    Returns
    -------
    Spectrum
        One contrast fewer a run than it has windows.
    """
    shares = _membership(units["query_ids"])
    kernel = (shares @ shares.T).toarray()
    run = units.groupby(["session", "run"], sort=False).ngroup().to_numpy()
    same = run[:, None] == run[None, :]
    centring = np.eye(len(units)) - same / same.sum(axis=1)[:, None]
    # adding the projector lifts the contrasts within runs to eigenvalues >= 1, clear of the run means at 0
    values, vectors = np.linalg.eigh(centring @ kernel @ centring + centring)
    within = values > 0.5
    return Spectrum(vectors[:, within], np.maximum(values[within] - 1, 0.0))


def _membership(query_ids: pd.Series) -> sparse.csr_array:
    """Share of every query in every window: 1/m for each of its m queries."""
    sizes = query_ids.map(len).to_numpy()
    codes, _ = pd.factorize(np.concatenate([np.asarray(ids) for ids in query_ids]))
    rows = np.repeat(np.arange(len(sizes)), sizes)
    return sparse.csr_array((1 / sizes[rows], (rows, codes)))


def reml_split(contrasts: np.ndarray, values: np.ndarray, level: float = 0.95, note: str = "") -> QuerySplit:
    """Estimate both variances from independent contrasts; see `split_queries`.

    Parameters
    ----------
    contrasts : ndarray of shape (k,)
        Gaussian with mean 0 and variance ``σ²_window + values · σ²_query``.
    values : ndarray of shape (k,)
        The spectrum of the design.
    level : float, default 0.95
        Coverage of the profile intervals.
    note : str, optional
        Passed on.

    Returns
    -------
    QuerySplit
        Estimates on a grid of the variances' ratio, refined where the likelihood is high.
    """
    widest = np.concatenate([[0.0], np.geomspace(1e-4, 1e9, 150)]) / values.mean()  # query to window variance
    _, loss = _profile(contrasts, values, widest)
    near = np.flatnonzero(loss <= loss.min() + stats.chi2.ppf(level, 1))
    first, last = max(near[0] - 1, 0), min(near[-1] + 1, widest.size - 1)
    ratio = np.concatenate([[widest[first]], np.geomspace(widest[max(first, 1)], widest[last], 400)])
    scale, loss = _profile(contrasts, values, ratio)
    best = int(np.argmin(loss))
    room = stats.chi2.ppf(level, 1) - (loss - loss[best])
    inside = room >= 0
    low, high = _likelihood_range(room[inside] / contrasts.size)
    window = scale[inside] * low, scale[inside] * high
    query = ratio[inside] * window[0], ratio[inside] * window[1]
    return QuerySplit(
        window_variance=float(scale[best]),
        query_variance=float(ratio[best] * scale[best]),
        window_interval=(float(window[0].min()), float(window[1].max())),
        query_interval=(float(query[0].min()), float(query[1].max())),
        df=_worth(scale[best], ratio[best], values),
        note=note,
    )


def _profile(contrasts: np.ndarray, values: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best window variance at each ratio of the variances, and minus twice the log likelihood there."""
    spread = 1 + np.outer(ratio, values)
    scale = (contrasts**2 / spread).mean(axis=1)
    return scale, contrasts.size * np.log(scale) + np.log(spread).sum(axis=1)


def _likelihood_range(room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors x < 1 < X on a variance that raise ``log(x) + 1/x - 1`` to `room`."""
    from scipy.special import lambertw

    inner = -np.exp(-1 - room)
    return -1 / lambertw(inner, -1).real, -1 / lambertw(inner, 0).real


def _worth(window: float, ratio: float, values: np.ndarray) -> float:
    """Degrees of freedom of the window variance: 2σ⁴ over its asymptotic variance (Satterthwaite)."""
    weight = 1 / (1 + ratio * values)
    information = np.array([[weight @ weight, (values * weight) @ weight], [0, (values * weight) @ (values * weight)]])
    information[1, 0] = information[0, 1]
    return float(1 / np.linalg.inv(information)[0, 0])
