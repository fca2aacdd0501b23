"""Replaying stop rules on recorded windows: the same as feeding them, and what more knowledge saves."""

import pytest

from energylab.statistics.components import nested_components
from energylab.statistics.replay import candidate_rules, replay, replay_last, stop_table
from energylab.statistics.sequential import StopRule
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows


@pytest.fixture(scope="module")
def study():
    return simulate(0, warm_up=0.0)


@pytest.fixture(scope="module")
def units(study):
    return measured_windows(study.windows)


def test_replay_is_the_rule_fed_by_hand(study, units):
    session = units[units["session"] == units["session"].iloc[0]]
    decisions = replay(StopRule(0.02), session)
    rule = StopRule(0.02)
    by_hand = [rule.update(row.energy_j, row.queries) for row in session.itertuples()]
    assert decisions["stop"].tolist() == [decision.stop for decision in by_hand]
    assert decisions["spent_j"].iloc[-1] == pytest.approx(session["energy_j"].sum())


def test_knowing_more_stops_earlier(study, units):
    session = units[units["session"] == units["session"].iloc[0]]
    rules = candidate_rules(0.02, units, nested_components(units), study.covariates)
    table = stop_table(rules, session, study.covariates).set_index("rule")
    assert table.loc["with both", "stopped"]
    assert table.loc["with both", "windows"] < table.loc["with covariates", "windows"]
    assert table.loc["with covariates", "half_width"] < table.loc["windows alone", "half_width"]
    truth = session["energy_j"].sum() / session["queries"].sum() * 1000 / 3600
    assert table.loc["with both", "wh_per_1000"] == pytest.approx(truth, rel=0.03)
    again = candidate_rules(0.02, units, nested_components(units), study.covariates)
    assert replay_last(again, session, study.covariates)["stop"].any()


def test_without_covariates_there_are_two_rules(study, units):
    rules = candidate_rules(0.02, units, nested_components(units), study.covariates[[]])
    assert list(rules) == ["windows alone", "with finite population"]
