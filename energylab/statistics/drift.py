"""Warm-up and drift: where a session becomes steady, and how fast it still moves after that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from energylab.errors import StatisticsError
from energylab.statistics.intervals import check_level, finite_values, t_quantile

#: Windows of a session below which its drift cannot be seen.
LEAST_WINDOWS = 4

#: Windows below which the end of a warm-up is not looked for: of 15 steady ones the rule calls 4 % never steady, of
#: 6 it would be 22 %, and of 4 it would be 40 %.
JUDGED_WINDOWS = 15


@dataclass(frozen=True)
class WarmUpEnd:
    """Where a series becomes steady.

    Attributes
    ----------
    cut : int
        Values to leave out at the start.
    steady : bool
        False when the best cut is half of the series, the most that is tried: it never settled, and `cut`
        is no remedy.
    """

    cut: int
    steady: bool


def mser(values: ArrayLike, batch: int = 1) -> WarmUpEnd:
    """Find the end of the warm-up by the marginal standard error rule.

    Leaves out the first d values that minimise the squared standard error of the mean of the rest,
    ``Σ_{i>d} (x_i - mean)² / (n - d)²``: dropping a value costs precision, keeping a warm-up value costs
    more.

    Parameters
    ----------
    values : array_like of shape (n,)
        A series in measured order, n ≥ 4.
    batch : int, default 1
        Means of so many values are used (MSER-5 for noisy single values); windows are means already.

    Returns
    -------
    WarmUpEnd

    Raises
    ------
    StatisticsError
        If the series is too short or holds a NaN.

    References
    ----------
    White (1997), An effective truncation heuristic for bias reduction in simulation output, Simulation 69,
    323-334; White, Cobb, Spratt (2000), A comparison of five steady-state truncation heuristics for
    simulation, Winter Simulation Conference, 755-760.
    """
    if batch < 1:
        raise StatisticsError(f"batch={batch!r} must be at least 1")
    x = finite_values(values, least=LEAST_WINDOWS * batch, what="values of the series")
    x = x[: x.size // batch * batch].reshape(-1, batch).mean(axis=1)
    x = x - x.mean()
    left = np.arange(x.size, 0, -1)
    total, squares = np.cumsum(x[::-1])[::-1], np.cumsum((x**2)[::-1])[::-1]
    error = (squares - total**2 / left) / left**2
    half = x.size // 2  # beyond it too few values are left to say that they are steady
    cut = int(np.argmin(error[: half + 1]))
    return WarmUpEnd(cut * batch, cut < half)


def warm_up(units: pd.DataFrame) -> pd.DataFrame:
    """Find the end of the warm-up of every session, in the windows' mean power.

    Power is used since it does not depend on how much work the queries of a window are.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`.

    Returns
    -------
    pandas.DataFrame
        One row a session: ``session, board, windows, cut, cut_s, excess, steady, note``; `excess` is how
        far the mean power of the windows cut lies above that of the rest, as a fraction (NaN if none is
        cut). Of a session with fewer than `JUDGED_WINDOWS` nothing is cut, and the note says so.
    """
    return pd.DataFrame([_session_end(part) for _, part in units.groupby("session", sort=False)])


def _session_end(part: pd.DataFrame) -> dict:
    power_w = part["mean_power_w"].to_numpy()
    few = len(part) < JUDGED_WINDOWS
    end = WarmUpEnd(0, True) if few else mser(power_w)
    return {
        "session": part["session"].iloc[0],
        "board": part["board"].iloc[0],
        "windows": len(part),
        "cut": end.cut,
        "cut_s": part["start_s"].iloc[end.cut] - part["start_s"].iloc[0],
        "excess": power_w[: end.cut].mean() / power_w[end.cut :].mean() - 1 if end.cut else float("nan"),
        "steady": end.steady,
        "note": f"fewer than {JUDGED_WINDOWS} windows: nobody can tell" if few else "",
    }


def steady(units: pd.DataFrame) -> pd.DataFrame:
    """Return the windows after each session's warm-up, of the sessions that became steady.

    Raises
    ------
    StatisticsError
        If none did.
    """
    ends = warm_up(units).set_index("session")
    cut = units["session"].map(ends["cut"])
    settled = units["session"].map(ends["steady"])
    kept = units[settled & (units.groupby("session").cumcount() >= cut)]
    if not len(kept):
        raise StatisticsError("no session became steady; warm up for longer")
    return kept.reset_index(drop=True)


def drift(units: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Slope of the mean power over time, session by session, as a fraction per hour.

    Least squares, with a covariance that allows for correlated neighbours (Newey-West with the automatic lag
    ``4·(n/100)^(2/9)``) and a Student quantile.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`, best after `steady`.
    level : float, default 0.95
        Coverage of the interval.

    Returns
    -------
    pandas.DataFrame
        One row a session: ``session, board, windows, hours, slope, low, high, moved``; slopes per hour,
        `moved` the change over the session, all as fractions of the mean.

    Raises
    ------
    StatisticsError
        If a session has fewer than four windows.

    References
    ----------
    Newey, West (1987), A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent
    covariance matrix, Econometrica 55, 703-708; (1994), Automatic lag selection, Rev. Econ. Studies 61,
    631-653.
    """
    check_level(level)
    rows = []
    for session, part in units.groupby("session", sort=False):
        hours = ((part["start_s"] + part["duration_s"] / 2) / 3600).to_numpy()
        power = finite_values(part["mean_power_w"], least=LEAST_WINDOWS, what="windows of a session")
        slope, error = _slope(hours - hours.mean(), power / power.mean())
        half = t_quantile(level, len(part) - 2) * error
        span = float(np.ptp(hours))
        rows.append(
            {
                "session": session,
                "board": part["board"].iloc[0],
                "windows": len(part),
                "hours": span,
                "slope": slope,
                "low": slope - half,
                "high": slope + half,
                "moved": slope * span,
            }
        )
    return pd.DataFrame(rows)


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    import statsmodels.api as sm

    lags = int(4 * (x.size / 100) ** (2 / 9))
    fit = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True})
    return float(fit.params[1]), float(fit.bse[1])
