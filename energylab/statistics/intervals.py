"""Intervals of a mean energy: repeatability between sessions, and expanded by the sensor's gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from energylab.errors import StatisticsError, unknown_name

IntervalKind = Literal["repeatability", "within-session", "expanded"]

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
        Independent values (sessions, windows …) it rests on.
    method : str
        How it was made.
    kind : {'repeatability', 'within-session', 'expanded'}
        ``repeatability``: this board, between sessions. ``within-session``: one session alone, which says
        nothing of the next. ``expanded``: with the gain error of the board's sensor.
    note : str
        What a reader must know before trusting it; empty when its conditions hold as far as the data tell.
    df : float or None
        Degrees of freedom of the Student t it came from; None if it is no Student interval.
    """

    mean: float
    low: float
    high: float
    level: float
    n: int
    method: str
    kind: IntervalKind
    note: str = ""
    df: float | None = None

    @property
    def half_width(self) -> float:
        """Larger distance from the mean to an end, in the unit of the mean."""
        return max(self.high - self.mean, self.mean - self.low)

    @property
    def relative_half_width(self) -> float:
        """Half-width as a fraction of the mean.

        Raises
        ------
        StatisticsError
            If the mean is zero.
        """
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

    ``mean ± t(1 - (1 - level)/2; n - 1) · s / √n`` with s the sample standard deviation.

    Parameters
    ----------
    values : array_like of shape (n,)
        Independent values of one figure, any unit, n ≥ 2. Runs or windows of one session are *not*
        independent values of the estimand: pass ``kind="within-session"`` for them.
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
    JCGM 100:2008 (GUM), 4.2.3 and G.3; Student (1908), The probable error of a mean, Biometrika 6, 1-25.
    """
    x = finite_values(values, least=2)
    check_level(level)
    if kind not in get_args(IntervalKind):
        raise unknown_name("kind of interval", kind, get_args(IntervalKind))
    n = x.size
    half = float(t_quantile(level, n - 1) * x.std(ddof=1) / np.sqrt(n))
    few = kind == "repeatability" and n < SESSIONS_WANTED
    note = f"{n} sessions; at least {SESSIONS_WANTED} in random order are wanted" if few else ""
    mean = float(x.mean())
    return Interval(mean, mean - half, mean + half, level, n, "Student t", kind, note, float(n - 1))


def expanded(interval: Interval, gain_error: float = 0.05) -> Interval:
    """Widen an interval by the gain error of the board's sensor.

    A sensor reads ``1 + g`` times the true energy, with g fixed per board and only known to lie in
    ±`gain_error`: a rectangular distribution. The half-width h of the combination solves

    ``P(|s·T + a·U| ≤ h) = level``,  a = gain_error · |mean|,  s = half-width / t(level; df),

    with T Student distributed with the interval's degrees of freedom and U uniform on ±1: the two
    distributions are propagated (not only their variances), in closed form. Without session noise
    h = level · a; without gain error h is the interval's own. Each side of a skewed interval is combined by
    itself. An interval that is no Student interval (``df`` is None, for example an anytime-valid one) is
    widened by all of a, which is conservative.

    Parameters
    ----------
    interval : Interval
        Repeatability or within-session interval, in any unit.
    gain_error : float, default 0.05
        Largest relative gain error of a board, 0 ≤ gain_error < 1.

    Returns
    -------
    Interval
        Of kind ``expanded``; the note of the input is kept, and names the input's kind when that was a single
        session.

    Raises
    ------
    StatisticsError
        If `gain_error` is out of range or the interval is expanded already.

    References
    ----------
    JCGM 100:2008 (GUM), 4.3.7 (rectangular bounds); JCGM 101:2008 (GUM Supplement 1), 5 (propagation of
    distributions); Yang, Adamek, Armour (2023), Part-time power measurements: nvidia-smi's lack of attention,
    arXiv:2312.02741 (gain of about ±5 % a board).
    """
    if interval.kind == "expanded":
        raise StatisticsError("the interval is expanded already; expand the repeatability interval once")
    if not 0 <= gain_error < 1:
        raise StatisticsError(f"gain_error={gain_error!r} is not a relative error; allowed: 0 <= gain_error < 1")
    bound = gain_error * abs(interval.mean)
    low, high = (
        float(combined_half_width(half, interval.df, bound, interval.level))
        for half in (interval.mean - interval.low, interval.high - interval.mean)
    )
    single = "one session: the spread between sessions is not in it" if interval.kind == "within-session" else ""
    return replace(
        interval,
        low=interval.mean - low,
        high=interval.mean + high,
        method=f"{interval.method} + gain ±{gain_error:.3g}",
        kind="expanded",
        note="; ".join(part for part in (interval.note, single) if part),
        df=None,
    )


def combined_half_width(half: ArrayLike, df: float | None, bound: float | ArrayLike, level: float) -> np.ndarray:
    """Half-width of a Student error plus an independent rectangular one; see `expanded`.

    Parameters
    ----------
    half : array_like of shape (k,)
        Half-widths of Student intervals at `level`.
    df : float or None
        Their degrees of freedom; None adds `bound` in full.
    bound : float or array_like of shape (k,)
        Half-widths of the rectangular distributions, in the same unit.
    level : float
        Nominal coverage.

    Returns
    -------
    ndarray of shape (k,)
        Solved by bisection to a relative 1e-12.
    """
    half, bound = np.broadcast_arrays(np.asarray(half, float), np.asarray(bound, float))
    if df is None:
        return half + bound
    scale = half / t_quantile(level, df)
    low, high = np.maximum(half * 0.5, level * bound * 0.5), half + bound
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(50):
            middle = 0.5 * (low + high)
            short = _sum_cdf(middle, scale, bound, df) < 0.5 + level / 2
            low, high = np.where(short, middle, low), np.where(short, high, middle)
    solved = np.where(bound < 1e-6 * scale, half, 0.5 * (low + high))
    return np.where(scale < 1e-9 * bound, level * bound, solved)


def _sum_cdf(h: np.ndarray, scale: np.ndarray, bound: np.ndarray, df: float) -> np.ndarray:
    """P(scale·T + bound·U ≤ h): the mean of the Student distribution function over the rectangle."""
    upper, lower = (h + bound) / scale, (h - bound) / scale
    return (_t_cdf_integral(upper, df) - _t_cdf_integral(lower, df)) / (upper - lower)


def _t_cdf_integral(x: np.ndarray, df: float) -> np.ndarray:
    """Antiderivative of the Student distribution function: x·F(x) - ∫ x·f(x) dx."""
    moment = np.log1p(x**2) / (2 * np.pi) if df == 1 else -(df + x**2) / (df - 1) * stats.t.pdf(x, df)
    return x * special.stdtr(df, x) - moment


def t_quantile(level: float, df: ArrayLike) -> np.ndarray:
    """Half-width of the central interval of a Student distribution that holds `level` (works on arrays of `df`)."""
    return special.stdtrit(df, 0.5 + level / 2)


def finite_values(values: ArrayLike | Sequence[float], least: int, what: str = "values") -> np.ndarray:
    """Return `values` as a flat float array, refusing what no interval can be made of.

    Raises
    ------
    StatisticsError
        If there are fewer than `least` values, or one is NaN or infinite (named by its position).
    """
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
    """Refuse a coverage that is not strictly between 0 and 1.

    Raises
    ------
    StatisticsError
        Names the value.
    """
    if not 0 < level < 1:
        raise StatisticsError(f"level={level!r} is not a coverage; allowed: 0 < level < 1, usually 0.95")
