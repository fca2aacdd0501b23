"""How many sessions, runs and queries are enough for a wanted precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from energylab.energy import J_PER_WH
from energylab.errors import StatisticsError
from energylab.statistics.components import Components
from energylab.statistics.intervals import check_level, t_quantile
from energylab.statistics.units import run_totals


def relative_half_width(
    components: Components,
    sessions: ArrayLike,
    runs: ArrayLike,
    queries: ArrayLike,
    level: float = 0.95,
) -> np.ndarray:
    """Expected relative half-width of a board's mean, for a planned design.

    The variance of the mean over S sessions of R runs of Q queries, drawn anew for every run out of N, is

    ``σ²_session/S + [σ²_run + σ²_window/W + (1 - Q/N)·σ²_query/Q]/(S·R)``,  W = Q / (queries a window),

    and the interval is ``t(level; S - 1)`` times its root. Of one session (S = 1) there is no such interval.

    Parameters
    ----------
    components : Components
        From `components.nested_components`; session, run, window and query must be known.
    sessions, runs, queries : array_like
        The designs, broadcast together.
    level : float, default 0.95
        Coverage.

    Returns
    -------
    ndarray
        Relative half-widths; infinite for a single session. The board's sensor gain is not in them.

    Raises
    ------
    StatisticsError
        If a component is unknown, or a design asks for less than one or more queries than there are.

    References
    ----------
    Cochran (1977), Sampling techniques, 3rd ed., ch. 10 (subsampling in several stages).
    """
    check_level(level)
    sessions, runs, queries = np.broadcast_arrays(*(np.asarray(n, float) for n in (sessions, runs, queries)))
    if min(sessions.min(), runs.min(), queries.min()) < 1 or queries.max() > components.queries:
        raise StatisticsError(
            "a design needs at least one session, run and query, and at most the "
            f"{components.queries} queries there are"
        )
    per_window = components.queries / components.windows
    left = 1 - queries / components.queries
    of_run = components.cv("run") ** 2
    of_run = of_run + (components.cv("window") ** 2 * per_window + left * components.cv("query") ** 2) / queries
    error = np.sqrt((components.cv("session") ** 2 + of_run / runs) / sessions)
    with np.errstate(invalid="ignore"):
        quantile = t_quantile(level, sessions - 1)
    return np.where(sessions > 1, np.nan_to_num(quantile, nan=np.inf) * error, np.inf)


def plan(
    components: Components,
    session_overhead_j: float,
    targets: Iterable[float] = (0.05, 0.02, 0.01, 0.005),
    *,
    most_sessions: int = 30,
    runs: Sequence[int] = (1, 2, 3, 5, 10),
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the design that reaches each target with the least energy.

    Parameters
    ----------
    components : Components
        From `components.nested_components`.
    session_overhead_j : float
        What a session costs beside its windows (warm-up, idle), in joules: a study's ``overhead_j``.
    targets : iterable of float
        Wanted relative half-widths.
    most_sessions : int, default 30
        Sessions to consider at most.
    runs : sequence of int
        Runs a session to consider.
    level : float, default 0.95
        Coverage.

    Returns
    -------
    pandas.DataFrame
        One row a target: ``target, sessions, runs, queries, reached, energy_wh``; `queries` of one run,
        `reached` the expected relative half-width, `energy_wh` what it all costs. NA where no design reaches
        the target.

    Raises
    ------
    StatisticsError
        As `relative_half_width`, or if a target is not a fraction or the overhead unknown.
    """
    if not session_overhead_j >= 0:
        raise StatisticsError(
            f"session_overhead_j={session_overhead_j!r}: pass what a session costs beside its windows"
        )
    grid = np.meshgrid(
        np.arange(2, most_sessions + 1),
        np.asarray(runs),
        np.unique(np.geomspace(1, components.queries, 60).astype(int)),
        indexing="ij",
    )
    width = relative_half_width(components, *grid, level=level)
    energy_j = grid[0] * (session_overhead_j + grid[1] * grid[2] * components.mean_j)
    rows = []
    for target in targets:
        if not 0 < target < 1:
            raise StatisticsError(f"target={target!r} is a relative half-width; allowed: 0 < target < 1")
        price = np.where(width <= target, energy_j, np.inf)
        best = np.unravel_index(np.argmin(price), price.shape)
        design = (*(int(axis[best]) for axis in grid), float(width[best]), float(energy_j[best] / J_PER_WH))
        rows.append((target, *(design if np.isfinite(price[best]) else [None] * 5)))
    table = pd.DataFrame(rows, columns=["target", "sessions", "runs", "queries", "reached", "energy_wh"])
    return table.astype(
        {name: "Int64" for name in ("sessions", "runs", "queries")} | {"reached": float, "energy_wh": float}
    )


def cv_by_length(units: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """How the spread between windows falls when neighbours are joined to longer windows.

    Windows of one run are joined by 1, 2, 4 …; the spread is that within runs, pooled. Independent windows
    would follow 1/√k (``independent``); queries dealt out without replacement let it fall faster near whole
    runs, drift and correlation slower.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`.
    level : float, default 0.95
        Coverage of the χ² interval of each spread.

    Returns
    -------
    pandas.DataFrame
        One row a length: ``joined, length_s, queries, groups, cv, low, high, independent``.

    Raises
    ------
    StatisticsError
        If no run has two windows.

    References
    ----------
    Allan (1966), Statistics of atomic frequency standards, Proc. IEEE 54, 221-230 (the same idea: spread
    against averaging time).
    """
    check_level(level)
    longest = int(units.groupby(["session", "run"]).size().max())
    if longest < 2:
        raise StatisticsError("every run is a single window; shorter windows show how the spread falls")
    rows = [_joined(units, 2**k, level) for k in range(int(np.log2(longest)))]
    table = pd.DataFrame(rows)
    return table.assign(independent=table["cv"].iloc[0] / np.sqrt(table["joined"]))


def _joined(units: pd.DataFrame, joined: int, level: float) -> dict:
    place = units.groupby(["session", "run"]).cumcount() // joined
    keys = [units["session"], units["run"], place.rename("group")]
    work = units.assign(once_j=units["per_query_j"] * units["queries"])
    sums = work.groupby(keys, sort=False).agg(
        once_j=("once_j", "sum"), queries=("queries", "sum"), length_s=("length_s", "sum"), size=("queries", "size")
    )
    whole = sums[sums["size"] == joined]
    y = whole["once_j"] / whole["queries"]
    relative = y / y.groupby(["session", "run"]).transform("mean")
    df = len(relative) - relative.groupby(["session", "run"]).ngroups
    square = ((relative - 1) ** 2).sum()
    tail = (1 - level) / 2
    return {
        "joined": joined,
        "length_s": whole["length_s"].mean(),
        "queries": whole["queries"].mean(),
        "groups": len(whole),
        "cv": np.sqrt(square / df),
        "low": np.sqrt(square / stats.chi2.ppf(1 - tail, df)),
        "high": np.sqrt(square / stats.chi2.ppf(tail, df)),
    }


def cv_by_runs(units: pd.DataFrame, components: Components, level: float = 0.95) -> pd.DataFrame:
    """How the spread between a board's sessions falls with the runs averaged in each: not below the sessions' own.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`, in a steady state.
    components : Components
        Found on them, for the expected spread.
    level : float, default 0.95
        Coverage of the χ² interval of each spread.

    Returns
    -------
    pandas.DataFrame
        One row a number of runs: ``runs, sessions, cv, low, high, expected``.

    Raises
    ------
    StatisticsError
        If no board has two sessions with a complete run.
    """
    check_level(level)
    totals = run_totals(units)
    order = totals.groupby("session").cumcount()
    counts = totals.groupby("session").size()
    rows = []
    for runs in range(1, int(counts.max()) + 1):
        kept = totals[(order < runs) & (totals["session"].map(counts) >= runs)]
        means = kept.groupby(["board", "session"], as_index=False)["per_query_j"].mean()
        relative = means["per_query_j"] / means.groupby("board")["per_query_j"].transform("mean") - 1
        df = len(means) - means["board"].nunique()
        if df < 1:
            break
        ends = (relative**2).sum() / stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], df)
        noise = components.cv("run") ** 2 + components.cv("window") ** 2 / components.windows
        expected = np.sqrt(components.cv("session") ** 2 + noise / runs)
        rows.append((runs, len(means), np.sqrt((relative**2).sum() / df), *np.sqrt(ends), expected))
    if not rows:
        raise StatisticsError("one session a board: the spread between sessions needs at least two")
    return pd.DataFrame(rows, columns=["runs", "sessions", "cv", "low", "high", "expected"])
