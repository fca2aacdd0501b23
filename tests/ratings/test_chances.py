"""Star probabilities against integrals and loops, right as often as they say; confidence ranges of ranks."""

import numpy as np
import pytest
from scipy import integrate, stats

from energylab.energy import Group
from energylab.ratings.chances import Uncertainty, _tukey, chances, rank_sets, redraws
from energylab.ratings.schemes import EqualWidth, count_stars

GROUP = Group("summarization")


def probabilities(energies, uncertainty, draws=40_000, seed=0):
    rng = np.random.default_rng(seed)
    return chances(np.asarray(energies, float), uncertainty, EqualWidth(), GROUP, draws, rng)[0]


def drawn(energies, uncertainty, draws=40_000, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate(list(redraws(np.asarray(energies, float), uncertainty, draws, rng)))


def test_a_middle_model_against_the_integral():
    """Three models far apart share nothing: P(middle below the first edge), by integrating over both extremes."""
    low, middle, high, noise = 1.0, 1.83, 5.0, 0.03

    def below(y, x):
        edge = np.exp(x) + 0.2 * (np.exp(y) - np.exp(x))
        inside = stats.norm.cdf((np.log(edge) - np.log(middle)) / noise)
        return inside * stats.norm.pdf(x, np.log(low), noise) * stats.norm.pdf(y, np.log(high), noise)

    ends = [np.log(each) + side * 6 * noise for each in (low, high) for side in (-1, 1)]
    expected, _ = integrate.dblquad(below, *ends, epsabs=1e-6)
    assert 0.2 < expected < 0.8
    assert probabilities([low, middle, high], Uncertainty.stated(3, noise))[1, 4] == pytest.approx(expected, abs=0.015)


def test_models_that_are_alike_share_their_centre_and_one_apart_keeps_its_own():
    """Twelve figures within their noise and one far below: the highest is luck, the lone one is not."""
    figures = np.append(10.0, 100 * np.exp(0.03 * stats.norm.ppf((np.arange(12) + 0.5) / 12)))
    logs = np.log(drawn(figures, Uncertainty.stated(13, 0.03)))
    assert logs[:, -1].mean() - np.log(100) < 0.3 * (np.log(figures[-1]) - np.log(100))
    assert logs[:, 0].mean() == pytest.approx(np.log(10), abs=0.002)
    assert logs[:, 0].std() == pytest.approx(0.03, rel=0.05)


def test_a_boards_gain_is_drawn_once_for_all_models_on_it_and_is_noise_of_one_that_is_alone():
    boards = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    uncertainty = Uncertainty(np.full(4, 1e-9), np.full(4, 1e6), boards, 0.05)
    logs = np.log(drawn([1.0, 2.0, 4.0, 8.0], uncertainty))
    assert (logs[:, 1] - logs[:, 0]).std() < 1e-6
    assert (logs[:, 2] - logs[:, 1]).std() == pytest.approx(0.05 * np.sqrt(2 / 3), rel=0.05)
    logs = np.log(drawn([1.0, 9.0], Uncertainty.stated(2, 0.02, gain=0.05, own_boards=True)))
    assert logs.std(axis=0) == pytest.approx(np.hypot(0.02, 0.05 / np.sqrt(3)), rel=0.03)


def test_few_degrees_of_freedom_have_the_tails_of_student():
    uncertainty = Uncertainty(np.array([0.01, 0.01]), np.array([3.0, 1e6]), np.ones((2, 1)))
    t = np.log(drawn([1.0, 9.0], uncertainty, 100_000) / [1.0, 9.0]) / 0.01
    for column, law in ((0, stats.t(3)), (1, stats.norm())):
        assert np.quantile(t[:, column], [0.025, 0.5, 0.9]) == pytest.approx(law.ppf([0.025, 0.5, 0.9]), abs=0.06)


def test_a_large_group_is_redrawn_whole():
    energies = np.sort(np.random.default_rng(1).lognormal(3, 1, 600))
    p, less = chances(energies, Uncertainty.stated(600, 0.01), EqualWidth(), GROUP, 200, np.random.default_rng(0))
    assert p.sum(axis=1) == pytest.approx(np.ones(600))
    assert np.isfinite(less[:-1]).all()


@pytest.mark.parametrize("at_the_ends", [(0, 12), (12, 12), (1, 1)], ids=["crowded top", "crowded ends", "clear ends"])
def test_a_star_is_right_as_often_as_it_says(at_the_ends):
    """Three sessions of CV 5 %; a smaller run of benchmarks/calibration.py, with a band to match."""
    rng, said, right, se = np.random.default_rng(11), [], [], 0.05 / np.sqrt(3)
    low, high = at_the_ends
    for _ in range(150):
        ends = 5 * rng.uniform(1, 1.005, low), 110 * rng.uniform(0.995, 1, high)
        truth = np.sort(np.concatenate([*ends, rng.uniform(10, 80, 18)]))
        figures = truth * np.exp(se * rng.standard_normal(truth.size))
        order = np.argsort(figures)
        figures, true_stars = figures[order], _stars(truth)[order]
        p = probabilities(figures, Uncertainty.stated(truth.size, se), draws=500, seed=5)
        shown = _stars(figures)
        said.append(p[np.arange(len(p)), shown - 1])
        right.append(shown == true_stars)
    said, right = map(np.concatenate, (said, right))
    kept = (said >= 0.8) & (said < 0.99)
    assert right[kept].mean() == pytest.approx(said[kept].mean(), abs=0.05)


def _stars(energies):
    return count_stars(energies, EqualWidth()(energies, GROUP)).astype(int)


@pytest.mark.parametrize(("models", "df"), [(2, 1e6), (20, 40), (206, 1e6), (5, 4)])
def test_the_factor_of_all_pairs_is_tukeys(models, df):
    expected = stats.studentized_range.ppf(0.95, models, df)
    assert _tukey(models, df, 0.95) * np.sqrt(2) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("uneven", [False, True])
def test_all_ranks_are_covered_at_once(uneven):
    rng, models, covered = np.random.default_rng(3), 20, 0
    truth = np.sort(rng.lognormal(0, 0.3, models))
    se = np.full(models, 0.05) * (rng.uniform(0.5, 2, models) if uneven else 1)
    for _ in range(300):
        figures = truth * np.exp(se * rng.standard_normal(models))
        order = np.argsort(figures)
        low, high = rank_sets(figures[order], Uncertainty(se[order], np.full(models, 1e6), np.ones((models, 1))), 0.95)
        covered += bool(((low <= order + 1) & (order + 1 <= high)).all())
    assert covered / 300 >= 0.93


def test_sure_orders_have_sharp_ranks_and_boards_widen_them():
    energies = np.array([1.0, 1.06, 4.0, 8.0])
    one, own = (rank_sets(energies, Uncertainty.stated(4, 0.002, 0.05, each), 0.95) for each in (False, True))
    assert one[0].tolist() == one[1].tolist() == [1, 2, 3, 4]
    assert (own[0].tolist(), own[1].tolist()) == ([1, 1, 3, 4], [2, 2, 3, 4])
