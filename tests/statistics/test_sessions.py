"""Sessions of known spread: half-widths, weights and means, each against a computation by hand."""

import numpy as np
import pytest
from scipy import stats

from energylab.errors import StatisticsError
from energylab.statistics.sessions import known_half_width, repeated_mean, session_weight, spread_bound


def test_known_half_width_is_wider_than_one_look_and_never_exceeded_too_often():
    sessions = np.arange(1, 61)
    half = known_half_width(sessions, 0.02, 0.95)
    assert np.all(half > stats.norm.ppf(0.975) * 0.02 / np.sqrt(sessions))
    rng = np.random.default_rng(0)
    deviation = np.cumsum(0.02 * rng.standard_normal((4000, 60)), axis=1) / sessions
    assert np.mean(np.any(np.abs(deviation) > half, axis=1)) < 0.05


def test_known_half_width_scales_with_the_spread():
    assert known_half_width(7, 0.03, 0.99) == pytest.approx(3 * known_half_width(7, 0.01, 0.99))


def test_spread_bound_holds_as_often_as_it_says():
    rng = np.random.default_rng(1)
    seen = (0.01 * rng.standard_normal((4000, 12))).std(axis=1, ddof=1)
    assert np.mean(spread_bound(seen, 12, 0.9) > 0.01) == pytest.approx(0.9, abs=0.02)


def test_session_weight_is_the_variance_of_the_mean_of_group_means():
    passes, groups = 3, 4
    for done, found in enumerate(session_weight(passes, groups), start=1):
        times = np.bincount(np.arange(done) % groups, minlength=groups)
        expected = 1 / done if done < groups else np.sum(1 / times) / groups**2
        assert found == pytest.approx(expected)


def test_repeated_mean_weighs_groups_alike_and_waits_for_all():
    energy = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 6.0]])
    found = repeated_mean(energy)
    assert np.isnan(found[:2]).all()
    assert found[2:] == pytest.approx([3.0, (2.0 + 2 + 6) / 3, (2.0 + 2 + 6) / 3, (2.0 + 2 + 6) / 3])


def test_which_queries_a_session_holds_is_no_error_once_all_were_asked():
    rng = np.random.default_rng(2)
    group = rng.lognormal(0, 0.5, 10)
    energy = group * (1 + 0.01 * rng.standard_normal((500, 4, 10)))
    error = (repeated_mean(energy)[:, 9:] / group.mean() - 1).std(axis=0)
    bound = 0.012 * np.sqrt(session_weight(4, 10)[9:] * 10 * np.sum(group**2) / np.sum(group) ** 2)
    assert np.all(error < bound)


def test_senseless_input_is_refused():
    with pytest.raises(StatisticsError, match="level"):
        known_half_width(3, 0.01, 1.5)
    with pytest.raises(StatisticsError, match="two"):
        spread_bound(0.01, 1)
