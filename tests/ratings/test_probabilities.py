"""Star probabilities against integrals and against a plain loop."""

import numpy as np
import pytest
from scipy import integrate, stats

from energylab.ratings.cohorts import Group
from energylab.ratings.probabilities import redraws, star_probabilities
from energylab.ratings.schemes import EqualWidth, LogWidth, get_scheme
from energylab.ratings.uncertainty import Uncertainty, stated

GROUP = Group("summarization")


def probabilities(energies, uncertainty, scheme=None, draws=40_000, seed=0):
    rng = np.random.default_rng(seed)
    return star_probabilities(np.asarray(energies, float), uncertainty, scheme or EqualWidth(), GROUP, draws, rng)


def test_two_models_keep_five_and_one_while_their_order_is_sure():
    assert probabilities([1.0, 9.0], stated(2, 0.01)).tolist() == [[0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]


def test_a_middle_model_against_the_integral():
    # ln of all three is normal; P(middle below the first edge) by integrating over both extremes.
    low, middle, high, noise = 1.0, 1.83, 5.0, 0.03

    def below(y, x):
        edge = np.exp(x) + 0.2 * (np.exp(y) - np.exp(x))
        inside = stats.norm.cdf((np.log(edge) - np.log(middle)) / noise)
        return inside * stats.norm.pdf(x, np.log(low), noise) * stats.norm.pdf(y, np.log(high), noise)

    spread = 6 * noise
    expected, _ = integrate.dblquad(
        below, np.log(low) - spread, np.log(low) + spread, np.log(high) - spread, np.log(high) + spread, epsabs=1e-6
    )
    found = probabilities([low, middle, high], stated(3, noise))[1, 4]
    assert 0.2 < expected < 0.8
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 40_000))


def test_a_board_shared_by_all_moves_no_star_and_own_boards_do():
    energies = np.array([1.0, 1.79, 5.0])
    shared = probabilities(energies, stated(3, 1e-9, gain=0.05))
    own = probabilities(energies, stated(3, 1e-9, gain=0.05, own_boards=True))
    assert shared[1, 4] == 1.0
    assert 0.3 < own[1, 4] < 0.7


def test_redraws_have_the_stated_spread_and_gain():
    uncertainty = Uncertainty(np.array([0.02, 0.0]), np.array([1e6, 1e6]), np.eye(2), 0.05)
    drawn = np.concatenate(list(redraws(np.array([10.0, 10.0]), uncertainty, 60_000, np.random.default_rng(1))))
    assert np.log(drawn[:, 0] / drawn[:, 1]).std() == pytest.approx(np.hypot(0.02, 0.05 * np.sqrt(2 / 3)), rel=0.02)
    assert drawn[:, 1].min() == pytest.approx(10 / 1.05, rel=1e-3)
    assert drawn[:, 1].max() == pytest.approx(10 / 0.95, rel=1e-3)


def test_few_degrees_of_freedom_have_the_tails_of_student():
    uncertainty = Uncertainty(np.array([0.01, 0.01]), np.array([3.0, 1e6]), np.ones((2, 1)))
    drawn = np.concatenate(list(redraws(np.array([1.0, 1.0]), uncertainty, 100_000, np.random.default_rng(2))))
    t = np.log(drawn) / 0.01
    for column, law in ((0, stats.t(3)), (1, stats.norm())):
        assert np.quantile(t[:, column], [0.025, 0.5, 0.9]) == pytest.approx(law.ppf([0.025, 0.5, 0.9]), abs=0.06)


def test_blocks_do_not_show():
    energies, uncertainty = np.array([1.0, 2.0, 4.0]), stated(3, 0.1)
    blocks = [part for part in redraws(energies, uncertainty, 1000, np.random.default_rng(3), block=30)]
    assert [len(part) for part in blocks] == [10] * 100
    whole = next(iter(redraws(energies, uncertainty, 1000, np.random.default_rng(3))))
    assert np.concatenate(blocks) == pytest.approx(whole)


def test_heavy_tails_stay_finite():
    uncertainty = Uncertainty(np.array([5.0, 5.0]), np.array([1.0, 1.0]), np.ones((2, 1)))
    drawn = next(iter(redraws(np.array([1.0, 2.0]), uncertainty, 20_000, np.random.default_rng(4))))
    assert np.isfinite(drawn).all()
    assert (drawn > 0).all()


@pytest.mark.parametrize("name", ["equal_width", "log_width", "quantiles"])
def test_against_a_plain_loop(name):
    scheme = get_scheme(name)
    energies, uncertainty = np.array([1.0, 1.5, 2.0, 3.0, 3.2, 7.0]), stated(6, 0.08)
    drawn = next(iter(redraws(energies, uncertainty, 200, np.random.default_rng(5))))
    counts = np.zeros((6, 5))
    for row in drawn:
        edges = scheme(row, GROUP)
        for model, energy in enumerate(row):
            counts[model, 4 - sum(energy > edge for edge in edges)] += 1
    found = probabilities(energies, uncertainty, scheme, draws=200, seed=5)
    assert found == pytest.approx(counts / 200)


def test_log_width_redraws_are_rated_by_log_width():
    assert probabilities([1.0, 10.0, 100.0], stated(3, 0.001), LogWidth())[1].tolist() == [0, 0, 1, 0, 0]
