"""Intervals of a mean energy: between sessions and boards, and with the gain of the boards' sensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from energylab.errors import StatisticsError

IntervalKind = Literal["repeatability", "within-session", "expanded"]

#: Largest relative gain error of a board's sensor, in either direction.
GAIN_ERROR = 0.05

#: Sessions in random order that a repeatability interval should rest on.
SESSIONS_WANTED = 3


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, and what the interval is an interval of.

    Attributes
    ----------
    mean, low, high : float
        In the unit of the values it was made from.
    level : float
        Nominal coverage, between 0 and 1.
    n : int
        Independent values (sessions, runs …) it rests on.
    kind : {'repeatability', 'within-session', 'expanded'}
        ``repeatability``: between sessions. ``within-session``: one session alone, which says nothing of the next.
        ``expanded``: with the gain error of the board's sensor.
    df : float
        Degrees of freedom of its Student t.
    note : str
        What a reader must know before trusting it.
    """

    mean: float
    low: float
    high: float
    level: float
    n: int
    kind: IntervalKind
    df: float
    note: str = ""

    @property
    def half_width(self) -> float:
        """Larger distance from the mean to an end, in the unit of the mean."""
        return max(self.high - self.mean, self.mean - self.low)

    @property
    def relative_half_width(self) -> float:
        """Half-width as a fraction of the mean."""
        if self.mean == 0:
            raise StatisticsError("the mean is 0, so a relative half-width does not exist; use half_width")
        return self.half_width / abs(self.mean)

    def scaled(self, factor: float) -> Interval:
        """Return the interval in another unit: mean and ends times a positive `factor`."""
        if not factor > 0:
            raise StatisticsError(f"factor={factor!r} must be positive: it changes a unit")
        return replace(self, mean=self.mean * factor, low=self.low * factor, high=self.high * factor)


def mean_interval(values: ArrayLike, level: float = 0.95, kind: IntervalKind = "repeatability") -> Interval:
    """Student t interval of the mean of independent values, one per session.

    Parameters
    ----------
    values : array_like of shape (n,)
        Independent values of one figure, any unit, n ≥ 2. Runs of one session are *not* independent values of the
        figure: pass ``kind="within-session"`` for them.
    level : float, default 0.95
        Nominal coverage.
    kind : {'repeatability', 'within-session', 'expanded'}
        What the interval is called.

    Returns
    -------
    Interval
        In the unit of `values`.

    Raises
    ------
    StatisticsError
        If there are fewer than two values, or one is NaN or infinite.

    References
    ----------
    JCGM 100:2008 (GUM), 4.2.3 and G.3.
    """
    x = finite_values(values, least=2)
    check_level(level)
    half = float(t_quantile(level, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size))
    few = kind == "repeatability" and x.size < SESSIONS_WANTED
    note = f"{x.size} sessions; at least {SESSIONS_WANTED} in random order are wanted" if few else ""
    mean = float(x.mean())
    return Interval(mean, mean - half, mean + half, level, x.size, kind, float(x.size - 1), note)


def expanded(interval: Interval, gain_error: float = GAIN_ERROR) -> Interval:
    """Widen an interval by the gain error of the board's sensor.

    A sensor reads ``1 + g`` times the true energy, with g fixed per board and known to lie in ±`gain_error`: a
    rectangular distribution of standard uncertainty ``gain_error / √3``. Both are combined as `combined_half_width`
    says.

    Parameters
    ----------
    interval : Interval
        Repeatability or within-session interval of one board, in any unit.
    gain_error : float, default 0.05
        Largest relative gain error of a board, 0 ≤ gain_error < 1.

    Returns
    -------
    Interval
        Of kind ``expanded``.

    Raises
    ------
    StatisticsError
        If `gain_error` is out of range or the interval is expanded already.

    References
    ----------
    JCGM 100:2008 (GUM), 4.3.7 (rectangular bounds); Yang, Adamek, Armour (2023), Part-time power measurements:
    nvidia-smi's lack of attention, arXiv:2312.02741 (gain of about ±5 % a board).
    """
    if interval.kind == "expanded":
        raise StatisticsError("the interval is expanded already; expand the repeatability interval once")
    if not 0 <= gain_error < 1:
        raise StatisticsError(f"gain_error={gain_error!r} is not a relative error; allowed: 0 <= gain_error < 1")
    own = interval.half_width / t_quantile(interval.level, interval.df)
    half, df = combined_half_width(own, interval.df, gain_error * abs(interval.mean) / np.sqrt(3), interval.level)
    single = "one session: the spread between sessions is not in it" if interval.kind == "within-session" else ""
    return replace(
        interval,
        low=interval.mean - float(half),
        high=interval.mean + float(half),
        kind="expanded",
        df=float(df),
        note="; ".join(part for part in (interval.note, single) if part),
    )


def combined_half_width(
    standard_error: ArrayLike, df: ArrayLike, known: ArrayLike, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Combine an estimated standard error with a known standard uncertainty by the GUM's formula.

    ``u² = s² + k²`` with ``u⁴ / (s⁴ / df)`` degrees of freedom (Welch-Satterthwaite, the known part having infinitely
    many); the half-width is Student's at `level`.

    Parameters
    ----------
    standard_error, df : array_like of shape (n,)
        Estimated, with its degrees of freedom.
    known : array_like of shape (n,)
        Standard uncertainty that is stated, in the same unit.
    level : float
        Nominal coverage.

    Returns
    -------
    half_width, df : ndarray of shape (n,)

    References
    ----------
    JCGM 100:2008 (GUM), G.4.1, equation G.2b.
    """
    s, k = np.asarray(standard_error, float), np.asarray(known, float)
    square = s**2 + k**2
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(s > 0, df * (square / s**2) ** 2, np.inf)
    return t_quantile(level, effective) * np.sqrt(square), effective


def moderate(variance: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw variances that rest on few repeats towards their common value (empirical Bayes).

    True variances are taken to scatter like ``d0 · s0² / chi²(d0)``; d0 and s0² are found from the mean and the
    variance of the logarithms of the estimates. Each becomes ``(d0 · s0² + d · s²) / (d0 + d)`` with ``d0 + d``
    degrees of freedom, but no more than all estimates have together.

    Parameters
    ----------
    variance : ndarray, shape (models,)
        Estimated variances; any value where `df` is 0.
    df : ndarray, shape (models,)
        Degrees of freedom of each, at least one of them above 0.

    Returns
    -------
    variance, df : ndarray, shape (models,)

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
    """Return d0 (infinite when the estimates scatter no more than chance) and s0²."""
    if len(variance) < 2 or pooled == 0:
        return np.inf, pooled
    # Two equal repeats give a variance of 0, whose logarithm would say too much.
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
    degrees, where = np.unique(np.asarray(df, float), return_inverse=True)  # few differ, and each is slow
    degrees = np.where(np.isinf(degrees), 1e12, degrees)
    return special.stdtrit(degrees, 0.5 + level / 2)[where]


def finite_values(values: ArrayLike | Sequence[float], least: int, what: str = "values") -> np.ndarray:
    """Return `values` as a flat float array, refusing what no interval can be made of."""
    try:
        x = np.asarray(values, dtype=float).ravel()
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"{what} must be numbers: {error}") from error
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise StatisticsError(
            f"{bad.size} of {x.size} {what} are not finite (first: {x[bad[0]]} at position {bad[0]}); "
            "an unavailable energy is left out by choice or measured again, never averaged"
        )
    if x.size < least:
        raise StatisticsError(f"{x.size} {what} given, at least {least} are needed: measure more")
    return x


def check_level(level: float) -> None:
    """Refuse a coverage that is not strictly between 0 and 1."""
    if not 0 < level < 1:
        raise StatisticsError(f"level={level!r} is not a coverage; allowed: 0 < level < 1, usually 0.95")
