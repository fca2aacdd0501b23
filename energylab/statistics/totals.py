"""The energy of all queries from a table of windows that hold some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from energylab.errors import StatisticsError
from energylab.statistics.intervals import Interval
from energylab.statistics.survey import LEAST_WINDOWS, Method, estimate_total


def sample_total(
    units: pd.DataFrame,
    *,
    population: int,
    covariates: pd.DataFrame | None = None,
    columns: Sequence[str] = (),
    level: float = 0.95,
    sampling_share: float = 1.0,
    method: Method = "auto",
) -> Interval:
    """Estimate the energy of all queries from a table of windows that hold some of them.

    Runs that ask the same queries again are replication: the estimate is the mean over the runs, but its
    variance is that of one run, since the runs share their choice of queries.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`: one session's windows.
    population : int
        Number of all queries.
    covariates : pandas.DataFrame, optional
        One row a query of the population, indexed as in ``query_ids``.
    columns : sequence of str
        Columns of `covariates` to regress on; none for the mean per query.
    level, sampling_share, method
        As `survey.estimate_total`.

    Returns
    -------
    Interval
        Of the total, in joules.

    Raises
    ------
    StatisticsError
        As `survey.estimate_total`; also if runs ask different queries, or there are windows of several
        sessions.
    """
    if units["session"].nunique() != 1:
        raise StatisticsError(f"{units['session'].nunique()} sessions given: estimate one, then take their mean")
    asked = {run: frozenset().union(*part["query_ids"]) for run, part in units.groupby("run")}
    if len(set(asked.values())) > 1:
        raise StatisticsError("the runs ask different queries; estimate the total from one run at a time")
    means = {name: float(covariates[name].mean()) for name in columns}
    totals = [
        estimate_total(
            part["energy_j"] / part["replications"],
            part["queries"],
            population=population,
            covariates={name: _window_means(part, covariates[name]) for name in columns},
            covariate_means=means,
            level=level,
            sampling_share=sampling_share,
            method=method,
        )
        for _, part in units.groupby("run")
    ]
    return _mean_of_replicates(totals)


def totals_by_windows(
    units: pd.DataFrame,
    *,
    population: int,
    covariates: pd.DataFrame,
    level: float = 0.95,
) -> pd.DataFrame:
    """Estimate the total of every run from its first windows, with and without the covariates.

    A run that was measured in full knows its total, so that the estimates can be held against it.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.complete_runs`: any number of runs.
    population, covariates, level
        As `sample_total`; all columns of `covariates` are used.

    Returns
    -------
    pandas.DataFrame
        One row a run, step (five numbers of windows, from `LEAST_WINDOWS` to all but one) and method: ``session,
        run, step, windows, queries, method, estimate, low, high, held``; estimate and ends relative to the run's
        measured total, minus 1.

    Raises
    ------
    StatisticsError
        If the runs have fewer windows than that.
    """
    ways = {"mean per query": []} | ({"regression": list(covariates.columns)} if covariates.shape[1] else {})
    rows = []
    for (session, run), part in units.groupby(["session", "run"], sort=False):
        measured_j = float((part["energy_j"] / part["replications"]).sum())
        for step, count in enumerate(_counts(len(part))):
            first = part.iloc[:count]
            queries = int(first["queries"].sum())
            for name, columns in ways.items():
                total = sample_total(
                    first, population=population, covariates=covariates, columns=columns, level=level
                ).scaled(1 / measured_j)
                ends = (total.mean - 1, total.low - 1, total.high - 1)
                rows.append((session, run, step, count, queries, name, *ends, total.low <= 1 <= total.high))
    if not rows:
        raise StatisticsError(
            f"no run has more than {LEAST_WINDOWS} windows, from which on totals are estimated: use shorter windows"
        )
    columns = ["session", "run", "step", "windows", "queries", "method", "estimate", "low", "high", "held"]
    return pd.DataFrame(rows, columns=columns)


def _counts(windows: int) -> list[int]:
    """Numbers of windows to estimate from: five steps, evenly from the least allowed to all but one."""
    return [int(count) for count in np.linspace(LEAST_WINDOWS, windows - 1, 5)] if windows > LEAST_WINDOWS else []


def totals_summary(totals: pd.DataFrame) -> pd.DataFrame:
    """Summarise `totals_by_windows` over the runs: mean half-width, root mean square error, share of intervals held.

    Returns
    -------
    pandas.DataFrame
        One row a step and method: ``step, method, windows, queries, runs, half_width, error, held``;
        windows and queries are means over runs, which need not be cut alike.
    """
    work = totals.assign(half_width=(totals["high"] - totals["low"]) / 2, square=totals["estimate"] ** 2)
    table = work.groupby(["step", "method"], as_index=False).agg(
        windows=("windows", "mean"),
        queries=("queries", "mean"),
        runs=("held", "size"),
        half_width=("half_width", "mean"),
        error=("square", "mean"),
        held=("held", "mean"),
    )
    return table.assign(error=np.sqrt(table["error"]))


def _window_means(units: pd.DataFrame, values: pd.Series) -> np.ndarray:
    return np.array([values.loc[list(ids)].mean() for ids in units["query_ids"]])


def _mean_of_replicates(totals: Sequence[Interval]) -> Interval:
    """Mean of the estimates; half-widths as root mean square of the runs', so not divided by their number."""
    if len(totals) == 1:
        return totals[0]
    mean = float(np.mean([total.mean for total in totals]))
    low = float(np.sqrt(np.mean([(total.mean - total.low) ** 2 for total in totals])))
    high = float(np.sqrt(np.mean([(total.high - total.mean) ** 2 for total in totals])))
    first = totals[0]
    notes = "; ".join(dict.fromkeys(total.note for total in totals if total.note))
    method = f"{first.method}, mean of {len(totals)} replicates"
    return Interval(mean, mean - low, mean + high, first.level, first.n, method, first.kind, notes)
