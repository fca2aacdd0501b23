"""Mean squares of nested designs, and the interval of the difference of two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats


@dataclass(frozen=True)
class MeanSquare:
    """A mean square of an analysis of variance: its value and its degrees of freedom."""

    value: float
    df: float


def nested_mean_squares(runs: pd.DataFrame) -> tuple[dict[str, MeanSquare], dict[str, float]]:
    """Mean squares of runs in sessions in boards, from unweighted means.

    Parameters
    ----------
    runs : pandas.DataFrame
        ``board, session, y``; one row a run.

    Returns
    -------
    squares : dict of str to MeanSquare
        Those of ``board, session, run`` that have degrees of freedom. Expected values: run σ²_r, session
        σ²_r + r·σ²_s, board σ²_r + r·σ²_s + r·s·σ²_b, exact when every session has r runs and every board s
        sessions; otherwise r and s are harmonic means.
    size : dict of str to float
        Runs behind one mean of the level: r for a session, r·s for a board.

    References
    ----------
    Burdick, Graybill (1992), Confidence intervals on variance components, ch. 5 (unweighted means).
    """
    sessions = runs.groupby(["board", "session"], sort=False)["y"].agg(["mean", "size"]).reset_index()
    boards = sessions.groupby("board", sort=False)["mean"].agg(["mean", "size"]).reset_index()
    per_session, per_board = stats.hmean(sessions["size"]), stats.hmean(boards["size"])
    sums = {
        "run": (_within(runs, "session", "y"), len(runs) - len(sessions), 1.0),
        "session": (_within(sessions, "board", "mean"), len(sessions) - len(boards), per_session),
        "board": (((boards["mean"] - boards["mean"].mean()) ** 2).sum(), len(boards) - 1, per_session * per_board),
    }
    squares = {name: MeanSquare(float(n * total / df), df) for name, (total, df, n) in sums.items() if df > 0}
    return squares, {name: float(n) for name, (_, _, n) in sums.items()}


def _within(frame: pd.DataFrame, group: str, column: str) -> float:
    """Sum of squares around the groups' means."""
    return float(((frame[column] - frame.groupby(group)[column].transform("mean")) ** 2).sum())


def difference_interval(larger: MeanSquare, smaller: MeanSquare, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Modified large-sample interval of a difference of two expected mean squares.

    Exact when either mean square is known; otherwise its ends are built so that they are exact in these
    limits. Works on arrays.

    Parameters
    ----------
    larger, smaller : MeanSquare
        Independent, each its expectation times χ²/df. A `smaller` of value 0 gives the exact χ² interval.
    level : float, default 0.95
        Coverage, half of the error on each side.

    Returns
    -------
    low, high : ndarray
        Ends of the interval of ``E(larger) - E(smaller)``; may be negative.

    References
    ----------
    Ting et al. (1990), J. Stat. Comput. Simul. 35, 135-143; Graybill, Wang (1980), Confidence intervals on
    nonnegative linear combinations of variances, Journal of the American Statistical Association 75, 869-873.
    """
    a, b = np.asarray(larger.value, float), np.asarray(smaller.value, float)
    tail = (1 - level) / 2
    low = a - b - np.sqrt(_spread_term(a, larger.df, b, smaller.df, tail, lower=True))
    high = a - b + np.sqrt(_spread_term(a, larger.df, b, smaller.df, tail, lower=False))
    return low, high


def _spread_term(a, df_a, b, df_b, tail, lower: bool):
    """V_L or V_U of Ting et al.: squared distance of an end from the difference a - b."""
    point = 1 - tail if lower else tail
    g = 1 - df_a / stats.chi2.ppf(point, df_a)
    h = df_b / stats.chi2.ppf(1 - point, df_b) - 1
    f = stats.f.ppf(point, df_a, df_b)
    cross = ((f - 1) ** 2 - g**2 * f**2 - h**2) / f
    return np.maximum(g**2 * a**2 + h**2 * b**2 + cross * a * b, 0.0)
