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
    means = {} if covariates is None else {name: float(covariates[name].mean()) for name in columns}
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
    sampling_share: float = 1.0,
) -> pd.DataFrame:
    """Estimate the total of one run from its first windows, with and without the covariates.

    Parameters
    ----------
    units : pandas.DataFrame
        The windows of one run, in order.
    population, covariates, level, sampling_share
        As `sample_total`; all columns of `covariates` are used.

    Returns
    -------
    pandas.DataFrame
        One row a number of windows from `LEAST_WINDOWS` on, and method: ``windows, queries, method,
        total_j, low_j, high_j, note``.

    Raises
    ------
    StatisticsError
        If the run has fewer windows than that.
    """
    if len(units) < LEAST_WINDOWS:
        raise StatisticsError(
            f"{len(units)} windows; a total is estimated from {LEAST_WINDOWS} on: use shorter windows"
        )
    ways = {"mean per query": []} | ({"regression": list(covariates.columns)} if covariates.shape[1] else {})
    rows = []
    for count in range(LEAST_WINDOWS, len(units) + 1):
        for name, columns in ways.items():
            part = units.iloc[:count]
            total = sample_total(
                part,
                population=population,
                covariates=covariates if columns else None,
                columns=columns,
                level=level,
                sampling_share=sampling_share,
            )
            rows.append((count, int(part["queries"].sum()), name, total.mean, total.low, total.high, total.note))
    return pd.DataFrame(rows, columns=["windows", "queries", "method", "total_j", "low_j", "high_j", "note"])


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
