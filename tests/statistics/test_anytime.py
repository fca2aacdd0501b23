"""Anytime-valid intervals: the martingale behind them, and that they hold at every look."""

import numpy as np
import pytest
from scipy import integrate, stats

from energylab.errors import StatisticsError
from energylab.statistics.anytime import anytime_path, best_ratio, multiplier

SIMULATIONS = 3000


def test_multiplier_is_where_the_bayes_factor_of_the_mixture_reaches_one_over_alpha():
    n, tau, alpha = 12, 1.7, 0.05
    t = float(multiplier(n - 1, 1 + n * tau**2, alpha))

    def alternative(effect):  # the t statistic under (mean - mean0)/sigma = effect is noncentral t
        return stats.nct.pdf(t, n - 1, effect * np.sqrt(n)) * stats.norm.pdf(effect, scale=tau)

    mixture, _ = integrate.quad(alternative, -12, 12, points=[t / np.sqrt(n)], limit=200)
    assert mixture / stats.t.pdf(t, n - 1) == pytest.approx(1 / alpha, rel=1e-3)


def test_best_ratio_beats_its_neighbours():
    for df in (1, 4, 19, 200):
        best = best_ratio(df, 0.05)
        width = multiplier(df, best, 0.05)
        assert np.isfinite(width)
        assert width <= multiplier(df, 1.2 * best, 0.05)
        assert width <= multiplier(df, 0.85 * best, 0.05)


def covered(path, truth):
    return stats.binomtest(int(path.covers(truth).sum()), SIMULATIONS).proportion_ci(0.999, "wilson")


def test_covers_at_every_look_with_and_without_covariate():
    rng = np.random.default_rng(20250201)
    noise = rng.normal(0, 0.3, (SIMULATIONS, 150))
    covariate = rng.normal(0, 1, (SIMULATIONS, 150))
    truth = np.ones(SIMULATIONS)
    assert covered(anytime_path(1 + noise), truth).low > 0.95
    assert covered(anytime_path(1 + noise + 0.5 * covariate, covariate), truth).low > 0.95


def test_covers_the_total_of_a_finite_population_and_ends_at_it():
    population = np.random.default_rng(3).normal(1, 0.3, (SIMULATIONS, 60))
    path = anytime_path(population, population_windows=60, sampling_share=1.0)
    truth = population.mean(axis=1)
    assert covered(path, truth).low > 0.95
    assert path.mean[:, -1] == pytest.approx(truth)
    assert np.all(path.half_width[:, -1] == 0)
    assert np.all(path.half_width <= anytime_path(population).half_width + 1e-12)


def test_a_fixed_sample_interval_looked_at_every_time_would_not_cover():
    energy = np.random.default_rng(4).normal(1, 0.3, (SIMULATIONS, 150))
    count = np.arange(1, 151)
    path = anytime_path(energy)
    spread = np.sqrt([energy[:, :k].var(axis=1, ddof=1) for k in range(5, 151)]).T
    fixed = stats.t.ppf(0.975, count[4:] - 1) * spread / np.sqrt(count[4:])
    held = np.all(np.abs(path.mean[:, 4:] - 1) <= fixed, axis=1).mean()
    assert held < 0.75


def test_drift_breaks_it():
    rng = np.random.default_rng(5)
    energy = rng.normal(1, 0.01, (SIMULATIONS, 100)) + 0.05 * np.exp(-np.arange(100) / 20)
    assert anytime_path(energy).covers(np.ones(SIMULATIONS)).mean() < 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"level": 1.0}, {"sampling_share": 0.5}, {"sampling_share": 2.0, "population_windows": 9},
     {"population_windows": 0}],
)  # fmt: skip
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(StatisticsError, match="allowed|population"):
        anytime_path([1.0, 2.0, 3.0], **wrong)
