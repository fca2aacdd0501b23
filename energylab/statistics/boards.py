"""What every board says: its mean over sessions, with both intervals."""

from __future__ import annotations

import pandas as pd

from energylab.energy import J_PER_WH
from energylab.errors import StatisticsError
from energylab.statistics.intervals import Interval, expanded, mean_interval
from energylab.statistics.units import run_totals


def board_intervals(units: pd.DataFrame, gain_error: float = 0.05, level: float = 0.95) -> pd.DataFrame:
    """Return the mean energy of every board with its repeatability and expanded intervals.

    Sessions are the independent values. Of a board with one session the runs are used, and the interval is
    called within-session; of one with a single run there is none.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`, in a steady state.
    gain_error : float, default 0.05
        Largest relative gain error of a board's sensor.
    level : float, default 0.95
        Coverage.

    Returns
    -------
    pandas.DataFrame
        One row a board, in Wh per 1,000 queries: ``board, sessions, energy_wh, low, high, kind, expanded_low,
        expanded_high, note, energy_kind``; NaN where there is no interval.
    """
    totals = run_totals(units)
    kind = units["energy_kind"].iloc[0]
    rows = [
        {"board": board, "sessions": part["session"].nunique(), **_both(part, gain_error, level), "energy_kind": kind}
        for board, part in totals.groupby("board", sort=False)
    ]
    return pd.DataFrame(rows)


def _both(runs: pd.DataFrame, gain_error: float, level: float) -> dict:
    wh_per_1000 = runs["per_query_j"] * 1000 / J_PER_WH
    sessions = wh_per_1000.groupby(runs["session"]).mean()
    try:
        if len(sessions) > 1:
            narrow: Interval = mean_interval(sessions, level)
        else:
            narrow = mean_interval(wh_per_1000, level, kind="within-session")
    except StatisticsError as error:
        nan = float("nan")
        ends = dict.fromkeys(("low", "high", "expanded_low", "expanded_high"), nan)
        return {"energy_wh": sessions.mean(), **ends, "kind": "none", "note": str(error)}
    wide = expanded(narrow, gain_error)
    return {
        "energy_wh": narrow.mean,
        "low": narrow.low,
        "high": narrow.high,
        "kind": narrow.kind,
        "expanded_low": wide.low,
        "expanded_high": wide.high,
        "note": wide.note,
    }
