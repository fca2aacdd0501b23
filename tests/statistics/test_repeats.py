"""Blocks that are measured again: the interval against a computation by hand, and the stop rule that uses it."""

import numpy as np
import pytest

from energylab.errors import StatisticsError
from energylab.statistics.anytime import best_ratio, multiplier
from energylab.statistics.repeats import Repeats
from energylab.statistics.sequential import AGAIN, StopRule


def fed(energy, queries=10):
    """Take in an array of passes and blocks, row by row."""
    repeats = Repeats(queries * energy.shape[1])
    for row in energy:
        for block, per_query in enumerate(row):
            repeats.take(block, queries * per_query, queries)
    return repeats


def test_nothing_is_known_before_all_were_asked_and_some_again():
    repeats = Repeats(20)
    repeats.take("a", 10.0, 10)
    repeats.take("a", 11.0, 10)
    for energy_j in (10.5, 9.5, 10.2, 9.8, 10.0):
        repeats.take("a", energy_j, 10)
    assert repeats.interval(0.05) is None
    repeats.take("b", 30.0, 10)
    assert repeats.interval(0.05)[0] == pytest.approx((71.0 / 70 + 3.0) / 2)
    assert fed(np.ones((1, 5))).interval(0.05) is None


def test_the_interval_is_that_of_a_one_way_layout():
    rng = np.random.default_rng(0)
    energy = rng.lognormal(0, 0.5, 8) * (1 + 0.02 * rng.standard_normal((3, 8)))
    mean, half = fed(energy).interval(0.05)
    residuals = energy - energy.mean(axis=0)
    sigma = np.sqrt((residuals**2).sum() / (2 * 8))
    variance = 1 / 24
    ratio = 1 + (best_ratio(8.0, 0.05) - 1) / (2 * 8) / variance
    assert mean == pytest.approx(energy.mean())
    assert half == pytest.approx(float(multiplier(16, ratio, 0.05)) * sigma * np.sqrt(variance))


def test_blocks_of_other_sizes_weigh_by_their_queries():
    repeats = Repeats(30)
    for _ in range(6):
        repeats.take("a", 10.0, 10)
        repeats.take("b", 40.0, 20)
    mean, half = repeats.interval(0.05)
    assert mean == pytest.approx(50 / 30)
    assert half == pytest.approx(0.0, abs=1e-12)


def test_how_queries_differ_does_not_widen_it():
    noise = 1 + 0.01 * np.random.default_rng(1).standard_normal((3, 10))
    flat, steep = fed(noise).interval(0.05), fed(noise * np.ones(10)).interval(0.05)
    spread = fed(noise + np.linspace(0, 5, 10)).interval(0.05)
    assert flat == pytest.approx(steep)
    assert spread[1] == pytest.approx(flat[1])


def test_a_block_keeps_its_queries_and_the_blocks_hold_no_more_than_there_are():
    repeats = Repeats(20)
    repeats.take("a", 1.0, 10)
    with pytest.raises(StatisticsError, match="keeps its queries"):
        repeats.take("a", 1.0, 9)
    with pytest.raises(StatisticsError, match="out of 20"):
        repeats.take("b", 1.0, 11)


def blocks_of(seed, passes=4, blocks=30):
    rng = np.random.default_rng(seed)
    return rng.lognormal(0, 0.5, blocks) * (1 + 0.01 * rng.standard_normal((passes, blocks)))


def stopped(rule, energy, named):
    for number, per_query in enumerate(energy.ravel()):
        block = number % energy.shape[1] if named else None
        decision = rule.update(10 * per_query, 10, block=block)
        if decision.stop:
            return decision
    return decision


def test_a_rule_that_knows_its_blocks_stops_soon_after_the_first_pass():
    energy = blocks_of(2)
    known = stopped(StopRule(0.02, population=300, repeats=True), energy, named=True)
    blind = stopped(StopRule(0.02, population=300), energy, named=False)
    assert known.stop
    assert 30 < known.windows < 45
    assert not blind.stop
    assert known.interval.low < np.mean(energy) < known.interval.high


def test_the_first_pass_pays_little_for_it():
    energy = blocks_of(3)[0]
    with_it, without = StopRule(0.001, population=300, repeats=True), StopRule(0.001, population=300, level=0.96)
    for block, per_query in enumerate(energy):
        one, two = with_it.update(10 * per_query, 10, block=block), without.update(10 * per_query, 10)
    assert AGAIN == 0.2
    assert one.interval.half_width == pytest.approx(two.interval.half_width, rel=0.02)


def test_what_is_missing_is_refused():
    with pytest.raises(StatisticsError, match="population"):
        StopRule(0.1, repeats=True)
    with pytest.raises(StatisticsError, match="which block"):
        StopRule(0.1, population=10, repeats=True).update(1.0, 5)
