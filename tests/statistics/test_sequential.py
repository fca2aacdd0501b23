"""The stop rule: against the vectorised path, its stops, its accounts, and what it refuses."""

import numpy as np
import pytest

from energylab.errors import StatisticsError
from energylab.statistics.anytime import anytime_path
from energylab.statistics.decided import StarQuestion, split_level
from energylab.statistics.intervals import Interval
from energylab.statistics.sequential import StopRule


def feed(rule, energies_j, queries=10, covariates=None):
    decisions = []
    for index, energy_j in enumerate(energies_j):
        known = {name: values[index] for name, values in (covariates or {}).items()}
        decisions.append(rule.update(energy_j, queries, known))
    return decisions


def noisy(n=40, seed=0, mean_j=5.0):
    return 10 * np.random.default_rng(seed).normal(mean_j, 0.2, n)


def test_agrees_with_the_vectorised_path():
    rng = np.random.default_rng(1)
    tokens = rng.normal(100, 20, 40)
    energies_j = noisy() + 0.5 * (tokens - 100)
    rule = StopRule(0.001, covariate_means={"input_tokens": 100.0})
    path = anytime_path(energies_j / 10, tokens - 100)
    for index, decision in enumerate(feed(rule, energies_j, covariates={"input_tokens": tokens})):
        if decision.interval is None:
            assert np.isinf(path.half_width[index])
        else:
            assert decision.interval.mean == pytest.approx(path.mean[index])
            assert decision.interval.half_width == pytest.approx(path.half_width[index])


def test_finite_population_agrees_with_the_vectorised_path():
    energies_j = noisy(30)
    rule = StopRule(0.001, population=300, sampling_share=1.0)
    path = anytime_path(energies_j / 10, population_windows=30, sampling_share=1.0)
    decisions = feed(rule, energies_j)
    assert decisions[14].interval.half_width == pytest.approx(path.half_width[14])
    assert decisions[-1].interval.half_width == 0


def test_stops_at_the_target_and_not_before():
    decisions = feed(StopRule(0.02), noisy(60))
    first = next(index for index, decision in enumerate(decisions) if decision.stop)
    assert first > 5
    assert decisions[first].interval.relative_half_width <= 0.02
    assert decisions[first - 1].interval.relative_half_width > 0.02
    assert "target" in decisions[first].reason
    assert decisions[first].interval.kind == "within-session"


def test_equal_windows_do_not_stop_before_the_least_number():
    stops = [decision.stop for decision in feed(StopRule(0.5, min_windows=7), [50.0] * 9)]
    assert stops == [False] * 6 + [True] * 3


def test_cap_ends_it_unsure():
    decisions = feed(StopRule(0.0001, max_windows=8), noisy(8))
    assert [decision.stop for decision in decisions] == [False] * 7 + [True]
    assert "cap of 8" in decisions[-1].reason


def test_everything_run_is_counted():
    rule = StopRule(0.01, burn_in=2)
    rule.spend(100.0)
    rule.update(60.0, 10)
    rule.update(55.0, 10)
    rule.update(40.0, 10, valid=False)
    rule.update(None, 10, valid=False)
    decision = rule.update(50.0, 10)
    assert decision.spent_j == pytest.approx(305.0)
    assert (decision.windows, decision.queries, decision.unmetered_windows) == (1, 10, 1)


def test_unequal_windows_are_weighted_by_their_queries():
    rule = StopRule(0.001)
    queries, energies_j = [10, 20, 5, 10, 30], [52.0, 99.0, 26.0, 49.0, 150.0]
    for count, energy_j in zip(queries, energies_j, strict=True):
        decision = rule.update(energy_j, count)
    assert rule.update(51.0, 10).interval.mean == pytest.approx((sum(energies_j) + 51) / (sum(queries) + 10))
    assert decision.queries == 75


def test_spread_between_sessions_widens_it_and_names_it():
    alone = feed(StopRule(0.001), noisy())[-1].interval
    wide = feed(StopRule(0.001, between_cv=0.02), noisy())[-1].interval
    assert wide.half_width > alone.half_width + 2.2 * 0.02 * alone.mean
    assert wide.kind == "repeatability"


def test_a_covariate_that_never_varies_where_it_should_gives_no_interval():
    decisions = feed(StopRule(0.5, covariate_means={"x": 3.0}), noisy(), covariates={"x": [2.0] * 40})
    assert all(decision.interval is None for decision in decisions)
    same = feed(StopRule(0.5, covariate_means={"x": 2.0}), noisy(), covariates={"x": [2.0] * 40})
    assert same[-1].interval is not None


def test_star_question_with_uncertain_edges():
    question = StarQuestion([9.5, 19.5, 29.5, 39.5], [10.5, 20.5, 30.5, 40.5])

    def stars(low, high):
        return question.stars(Interval((low + high) / 2, low, high, 0.95, 9, "t", "repeatability"))

    assert stars(3, 9) == (5,)
    assert stars(11, 19) == (4,)
    assert stars(9, 10) == (4, 5)
    assert stars(10, 10.1) == (4, 5)
    assert stars(41, 99) == (1,)
    assert stars(0, 99) == (1, 2, 3, 4, 5)


def test_rule_stops_when_the_star_is_decided():
    rule = StopRule(question=StarQuestion([4.0, 6.0], [4.1, 6.1]), level=split_level(0.95, 3), max_windows=60)
    last = next(decision for decision in feed(rule, noisy(60)) if decision.stop)
    assert "star decided: 2" in last.reason
    assert last.windows < 60
    assert last.interval.level == pytest.approx(1 - 0.05 / 3)


@pytest.mark.parametrize(
    "settings",
    [{}, {"target": 2.0}, {"target": 0.1, "burn_in": -1}, {"target": 0.1, "min_windows": 1},
     {"max_windows": 3}, {"target": 0.1, "between_cv": -0.1}, {"target": 0.1, "sampling_share": 0.5}],
)  # fmt: skip
def test_senseless_settings_are_refused(settings):
    with pytest.raises(StatisticsError):
        StopRule(**settings)


@pytest.mark.parametrize(
    ("window", "words"),
    [((float("nan"), 10), "energy_j"), ((-1.0, 10), "energy_j"), ((None, 10), "energy_j"),
     ((5.0, 0), "queries"), ((5.0, 10, {"x": 1.0}), "announced")],
)  # fmt: skip
def test_unusable_windows_are_refused(window, words):
    with pytest.raises(StatisticsError, match=words):
        StopRule(0.1).update(*window)


def test_bad_edges_and_levels_are_refused():
    with pytest.raises(StatisticsError, match="ascend"):
        StarQuestion([3.0, 2.0], [3.0, 2.0])
    with pytest.raises(StatisticsError, match="at least one"):
        split_level(0.95, 0)
