"""What a stop rule would have decided on windows that are measured already."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from energylab.energy import J_PER_WH
from energylab.statistics.components import Components, sampling_share
from energylab.statistics.sequential import StopRule


def replay(rule: StopRule, units: pd.DataFrame, covariates: pd.DataFrame | None = None) -> pd.DataFrame:
    """Ask a rule what it would have decided on windows that are measured already.

    Parameters
    ----------
    rule : StopRule
        A fresh rule.
    units : pandas.DataFrame
        From `units.measured_windows`: the windows of one session, in order.
    covariates : pandas.DataFrame, optional
        One row a query, with the columns that the rule's `covariate_means` names.

    Returns
    -------
    pandas.DataFrame
        One row a window: ``windows, queries, mean_j, low_j, high_j, stop, spent_j, reason``; NaN while
        there is no interval. It goes on after the stop, to show what more windows would have added.
    """
    rows = []
    for row in units.itertuples():
        known = {} if covariates is None else covariates.loc[list(row.query_ids), list(rule.covariate_means)].mean()
        decision = rule.update(row.energy_j / row.replications, row.queries, dict(known))
        interval = decision.interval
        ends = (interval.mean, interval.low, interval.high) if interval else (float("nan"),) * 3
        rows.append((decision.windows, decision.queries, *ends, decision.stop, decision.spent_j, decision.reason))
    columns = ["windows", "queries", "mean_j", "low_j", "high_j", "stop", "spent_j", "reason"]
    return pd.DataFrame(rows, columns=columns)


def replay_last(rules: Mapping[str, StopRule], units: pd.DataFrame, covariates: pd.DataFrame) -> pd.DataFrame:
    """Replay the last of several rules, the one that knows most; see `replay`."""
    return replay(list(rules.values())[-1], units, covariates)


def stop_table(rules: Mapping[str, StopRule], units: pd.DataFrame, covariates: pd.DataFrame) -> pd.DataFrame:
    """Compare where several rules would have stopped on the same windows.

    Parameters
    ----------
    rules : mapping of str to StopRule
        Fresh rules by name.
    units, covariates
        As `replay`.

    Returns
    -------
    pandas.DataFrame
        One row a rule: ``rule, stopped, windows, queries, mean_j, half_width`` (relative), ``spent_j``;
        where a rule did not stop, what it knew at the end.
    """
    rows = []
    for name, rule in rules.items():
        decisions = replay(rule, units, covariates)
        stops = decisions[decisions["stop"]]
        last = (stops if len(stops) else decisions.tail(1)).iloc[0]
        half = (last["high_j"] - last["low_j"]) / 2 / last["mean_j"]
        wh_per_1000 = last["mean_j"] * 1000 / J_PER_WH
        spent_wh = last["spent_j"] / J_PER_WH
        rows.append((name, bool(len(stops)), last["windows"], last["queries"], wh_per_1000, half, spent_wh))
    columns = ["rule", "stopped", "windows", "queries", "wh_per_1000", "half_width", "spent_wh"]
    return pd.DataFrame(rows, columns=columns)


def candidate_rules(
    target: float, units: pd.DataFrame, components: Components, covariates: pd.DataFrame
) -> dict[str, StopRule]:
    """Four rules of rising knowledge: windows alone, with covariates, with the finite set of queries, with both.

    Parameters
    ----------
    target : float
        Wanted relative half-width.
    units : pandas.DataFrame
        From `units.measured_windows`, in a steady state: they tell which share of the variance is sampling.
    components : Components
        Found on them.
    covariates : pandas.DataFrame
        One row a query of the population.

    Returns
    -------
    dict of str to StopRule
        Fresh rules by name, in that order; two where nothing is known of the queries.

    Raises
    ------
    StatisticsError
        As `components.sampling_share`.
    """
    means = {name: float(values.mean()) for name, values in covariates.items()}
    population = len(covariates)
    share = sampling_share(units, components)
    rules = {"windows alone": StopRule(target)}
    if means:
        rules["with covariates"] = StopRule(target, covariate_means=means)
    rules["with finite population"] = StopRule(target, population=population, sampling_share=share)
    if means:
        left = sampling_share(units, components, covariates)
        rules["with both"] = StopRule(target, covariate_means=means, population=population, sampling_share=left)
    return rules
