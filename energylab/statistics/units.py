"""From windows to what statistics work on: energy per query, one row a window or one row a run."""

from __future__ import annotations

import pandas as pd

from energylab.errors import CohortError, StatisticsError, unknown_name

#: Columns of the windows table that must hold one value, or unlike things would be averaged.
SAME = ("task", "model", "device", "energy_kind")


def measured_windows(windows: pd.DataFrame, phase: str | None = None) -> pd.DataFrame:
    """Return the valid windows of one phase, with energy per query.

    Parameters
    ----------
    windows : pandas.DataFrame
        As `energylab.store.read_windows` gives it, of one model on one task.
    phase : str, optional
        Phase to look at; by default the scored phase that used most energy.

    Returns
    -------
    pandas.DataFrame
        The rows that are valid, ordered by board, session and index, with four columns more: ``per_query_j``
        (joules), ``tokens_per_query`` (NaN where unknown), ``length_s`` (seconds of one replication), ``asked``
        (distinct queries that any window of the phase held, valid or not).

    Raises
    ------
    StatisticsError
        If no valid window is left.
    UnknownNameError
        If there is no such phase.
    CohortError
        If several models, tasks, devices or energy kinds are mixed; names them.
    """
    if not len(windows):
        raise StatisticsError("the table of windows is empty; measure something or name another folder")
    _refuse_mixture(windows)
    valid = windows[windows["valid"].astype(bool) & windows["energy_j"].notna()]
    scored = valid[valid["scored"].astype(bool)]
    if phase is None and len(scored):
        phase = str(scored.groupby("phase")["energy_j"].sum().idxmax())
    elif phase is not None and phase not in set(windows["phase"]):
        raise unknown_name("phase", phase, set(windows["phase"]))
    chosen = valid[valid["phase"] == phase]
    if not len(chosen):
        raise StatisticsError(f"no valid window of a scored phase (phase={phase}); the reasons are in the table")
    once = chosen["replications"] * chosen["queries"]
    return chosen.assign(
        per_query_j=chosen["energy_j"] / once,
        tokens_per_query=pd.to_numeric(chosen["input_tokens"]) / chosen["queries"],
        length_s=chosen["duration_s"] / chosen["replications"],
        asked=len(set().union(*windows.loc[windows["phase"] == phase, "query_ids"])),
    ).sort_values(["board", "session", "index"], ignore_index=True)


def _refuse_mixture(windows: pd.DataFrame) -> None:
    for column in SAME:
        found = sorted(map(str, windows[column].unique()))
        if len(found) > 1:
            raise CohortError(f"{len(found)} values of {column} in one table ({', '.join(found[:5])}); choose one")


def complete_runs(units: pd.DataFrame) -> pd.DataFrame:
    """Return the windows of the runs that asked all queries.

    Parameters
    ----------
    units : pandas.DataFrame
        From `measured_windows`, perhaps without the windows of the warm-up. A run that lost a window has no
        total: it is left out, never averaged over the survivors, even where every run lost the same queries.

    Raises
    ------
    StatisticsError
        If no run is complete.
    """
    every = int(units["asked"].max())
    last = units.drop_duplicates(["session", "run", "block"], keep="last")
    asked = last.groupby(["session", "run"])["queries"].transform("sum")
    kept = last[asked == every].reset_index(drop=True)
    if not len(kept):
        raise StatisticsError("no run has all its queries; keep more windows or measure again")
    return kept


def run_totals(units: pd.DataFrame) -> pd.DataFrame:
    """Return the energy per query of every complete run (see `complete_runs`).

    Returns
    -------
    pandas.DataFrame
        ``board, session, run, queries, windows, per_query_j``, one row a run.

    Raises
    ------
    StatisticsError
        If no run is complete.
    """
    last = complete_runs(units)
    once = last.assign(once_j=last["energy_j"] / last["replications"])
    runs = once.groupby(["board", "session", "run"], sort=False, as_index=False).agg(
        queries=("queries", "sum"), windows=("queries", "size"), energy_j=("once_j", "sum")
    )
    return runs.assign(per_query_j=runs["energy_j"] / runs["queries"]).drop(columns="energy_j")


def first_session(units: pd.DataFrame) -> pd.DataFrame:
    """Return the windows of the first session of a table: what one measurement has seen, in order."""
    return units[units["session"] == units["session"].iloc[0]]
