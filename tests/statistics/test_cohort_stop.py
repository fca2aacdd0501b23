"""A cohort's rule: which stars are left, whom it measures next, when it gives up, and how often it is right."""

import numpy as np
import pytest

from energylab.energy import Group
from energylab.errors import StatisticsError
from energylab.ratings.schemes import EqualWidth, count_stars
from energylab.statistics.cohort_stop import hopeless, judge, measure_next, split_error
from energylab.statistics.evidence import Evidence, Part
from energylab.statistics.sessions import KNOWN_DF, known_ratio


def evidence(mean, cv, count=10.0):
    """Evidence of `count` sessions with a known spread."""
    mean = np.asarray(mean, float)
    error = mean * np.broadcast_to(cv, mean.shape) / np.sqrt(count)
    return Evidence(mean, (Part(error, np.full(mean.shape, KNOWN_DF), known_ratio(count, 0.99) + 0 * mean),))


def stars(energies):
    energies = np.asarray(energies, float)
    return count_stars(energies, EqualWidth()(energies, Group("t")))


def test_the_split_adds_up_to_the_error():
    levels = split_error(0.9, 12)
    assert levels.own + 12 * levels.outer + levels.pair == pytest.approx(0.1)
    with pytest.raises(StatisticsError, match="two"):
        split_error(0.9, 1)


def test_exact_evidence_gives_the_published_stars():
    rng = np.random.default_rng(0)
    energies = rng.lognormal(1, 1, (50, 9))
    verdict = judge(evidence(energies, 1e-12), split_error(0.95, 9))
    assert verdict.decided.all()
    assert np.array_equal(verdict.fewest, stars(energies))


def test_wide_evidence_leaves_every_star_open_and_narrow_evidence_adjacent_ones():
    energies = [1.0, 2.8, 5.0, 10.0]  # the second lies on the edge between five and four stars
    wide = judge(evidence(energies, 3.0), split_error(0.95, 4))
    assert (wide.fewest.min(), wide.most.max()) == (1, 5)
    narrow = judge(evidence(energies, 0.005), split_error(0.95, 4))
    assert (narrow.fewest[1], narrow.most[1]) == (4, 5)
    assert narrow.decided.tolist() == [True, False, True, True]


def test_the_stars_left_hold_all_that_the_intervals_allow():
    """Whatever energies lie well within the intervals, none gives a star that was ruled out."""
    rng = np.random.default_rng(1)
    mean = np.array([1.0, 2.0, 4.4, 7.7, 8.9, 10.0])
    found = evidence(mean, 0.05)
    verdict = judge(found, split_error(0.95, 6))
    half = found.half_width(0.3)
    for _ in range(500):
        possible = stars(mean + half * rng.uniform(-1, 1, 6))
        assert np.all((verdict.fewest <= possible) & (possible <= verdict.most))


def test_a_common_factor_changes_nothing():
    mean = np.random.default_rng(2).lognormal(1, 1, 8)
    one, two = (judge(evidence(factor * mean, 0.1), split_error(0.95, 8)) for factor in (1.0, 250.0))
    assert np.array_equal(one.fewest, two.fewest)
    assert np.array_equal(one.most, two.most)
    assert two.own == pytest.approx(250 * one.own)


def test_the_order_of_models_changes_nothing():
    rng = np.random.default_rng(3)
    mean, cv = rng.lognormal(1, 1, 8), rng.uniform(0.01, 0.3, 8)
    order = rng.permutation(8)
    one, two = (judge(evidence(mean[at], cv[at]), split_error(0.95, 8)) for at in (np.arange(8), order))
    assert np.array_equal(one.fewest[order], two.fewest)
    assert np.array_equal(one.most[order], two.most)


def test_unknown_models_leave_everything_open_and_are_measured():
    found = evidence([1.0, 4.0, 10.0], [0.01, 0.01, np.inf])
    verdict = judge(found, split_error(0.95, 3))
    assert not verdict.decided.all()
    assert measure_next(verdict, np.ones(3, bool), np.ones(3, bool))[2]


def test_a_blurred_highest_is_measured_before_the_models_it_blurs():
    verdict = judge(evidence([1.0, 2.0, 4.0, 10.0], [0.01, 0.01, 0.01, 0.4]), split_error(0.95, 4))
    assert measure_next(verdict, np.ones(4, bool), np.ones(4, bool)).tolist() == [False, False, False, True]


def test_a_blurred_model_is_measured_by_itself():
    verdict = judge(evidence([1.0, 2.7, 5.0, 10.0], [0.001, 0.2, 0.001, 0.001]), split_error(0.95, 4))
    assert measure_next(verdict, np.ones(4, bool), np.ones(4, bool)).tolist() == [False, True, False, False]


def test_nobody_is_measured_when_all_is_decided_closed_or_at_its_cap():
    verdict = judge(evidence([1.0, 2.8, 10.0], 0.1), split_error(0.95, 3))
    assert measure_next(verdict, np.ones(3, bool), np.ones(3, bool)).any()
    assert not measure_next(verdict, np.zeros(3, bool), np.ones(3, bool)).any()
    assert not measure_next(verdict, np.ones(3, bool), np.zeros(3, bool)).any()


def test_a_model_on_an_edge_is_given_up_and_others_are_not():
    mean = [1.0, 2.8, 4.0, 10.0]
    now, cap = evidence(mean, 0.02, count=20), evidence(mean, 0.02, count=40)
    assert hopeless(now, cap, split_error(0.95, 4)).tolist() == [False, True, False, False]
    early = evidence(mean, 0.02, count=1)
    assert not hopeless(early, cap, split_error(0.95, 4)).any()


def test_one_model_has_no_scale():
    with pytest.raises(StatisticsError, match="no scale"):
        judge(evidence([1.0], 0.1), split_error(0.95, 2))


def test_decided_stars_are_right_more_often_than_promised():
    rng = np.random.default_rng(4)
    sims, models, looks = 400, 7, 40
    truth = np.exp(rng.uniform(0, 2, (sims, models)))
    seen = np.cumsum(0.1 * rng.standard_normal((sims, models, looks)), axis=-1) / np.arange(1, looks + 1)
    levels = split_error(0.8, models)
    look, called = np.zeros((sims, models), int), np.zeros((sims, models), int)
    open_ = np.ones(called.shape, bool)
    while open_.any():
        count = look + 1.0
        mean = truth * (1 + np.take_along_axis(seen, look[..., None], -1)[..., 0])
        error = truth * 0.1 / np.sqrt(count)
        ratio = known_ratio(count, 0.99)
        verdict = judge(Evidence(mean, (Part(error, np.full(count.shape, KNOWN_DF), ratio),)), levels)
        called = np.where(open_ & verdict.decided, verdict.fewest, called)
        open_ &= ~verdict.decided
        go = measure_next(verdict, open_, look < looks - 1)
        if not go.any():
            break
        look += go
    decided = called > 0
    assert decided.mean() > 0.5
    assert np.mean(called[decided] == stars(truth)[decided]) > 0.8
