"""Totals from fewer queries: against textbook formulas, and which interval is used when."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from energylab.errors import StatisticsError, UnknownNameError
from energylab.statistics.simulate import simulate
from energylab.statistics.survey import estimate_total
from energylab.statistics.totals import sample_total, totals_by_windows, totals_summary
from energylab.statistics.units import measured_windows


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    x = rng.normal(100, 15, 20)
    energy_j = 10 * (2 + 0.03 * x + rng.normal(0, 0.2, 20))
    return energy_j, np.full(20, 10), x


def test_mean_per_query_is_cochrans_formula(sample):
    energy_j, queries, _ = sample
    total = estimate_total(energy_j, queries, population=500, method="t")
    error = 50 * energy_j.std(ddof=1) * np.sqrt((1 - 20 / 50) * 1 / 20) * np.sqrt(1)
    half = stats.t.ppf(0.975, 19) * error * 50 / 50
    assert total.mean == pytest.approx(50 * energy_j.mean())
    assert total.high - total.mean == pytest.approx(half)
    assert total.kind == "within-session"


def test_regression_is_that_of_a_general_library(sample):
    import statsmodels.api as sm

    energy_j, queries, x = sample
    total = estimate_total(
        energy_j, queries, population=1_000_000, covariates={"x": x}, covariate_means={"x": 103.0}, method="t"
    )
    fit = sm.OLS(energy_j / 10, sm.add_constant(x)).fit()
    theirs = fit.get_prediction([[1.0, 103.0]]).summary_frame(0.05).iloc[0]
    ends = [theirs["mean"], theirs["mean_ci_lower"], theirs["mean_ci_upper"]]
    assert [total.mean / 1e6, total.low / 1e6, total.high / 1e6] == pytest.approx(ends, rel=1e-4)


def test_all_queries_give_the_total_itself(sample):
    energy_j, queries, x = sample
    whole = estimate_total(
        energy_j, queries, population=200, covariates={"x": x}, covariate_means={"x": x.mean()}, method="t"
    )
    assert whole.mean == pytest.approx(energy_j.sum())
    assert whole.half_width == pytest.approx(0, abs=1e-4)
    noisy = estimate_total(energy_j, queries, population=200, sampling_share=0.5, method="t")
    assert noisy.half_width > 0


def test_unequal_windows_are_weighted_by_their_queries():
    total = estimate_total([10.0, 44.0, 8.0], [5, 20, 5], population=300, method="t")
    assert total.mean == pytest.approx(62 / 30 * 300)


def test_skewed_residuals_get_the_bootstrap_and_few_windows_nothing():
    rng = np.random.default_rng(1)
    gaussian = estimate_total(rng.normal(10, 1, 40), np.ones(40), population=1000)
    assert "Student t" in gaussian.method
    skewed = np.exp(np.random.default_rng(2).normal(0, 1.2, 40))
    assert "bootstrap-t" in estimate_total(skewed, np.ones(40), population=1000).method
    skewed = skewed[:15]
    chosen = estimate_total(skewed, np.ones(15), population=1000)
    assert "bootstrap-t" in chosen.method
    assert chosen.high - chosen.mean > 1.3 * (chosen.mean - chosen.low)
    asked = estimate_total(skewed, np.ones(15), population=1000, method="t")
    assert "needs" in asked.note
    with pytest.raises(StatisticsError, match="9 windows are too few"):
        estimate_total(skewed[:9], np.ones(9), population=1000)


def test_bootstrap_t_of_gaussian_windows_is_nearly_students():
    x = np.random.default_rng(2).normal(10, 1, 40)
    ours = estimate_total(x, np.ones(40), population=10**6, method="bootstrap-t")
    students = estimate_total(x, np.ones(40), population=10**6, method="t")
    assert (ours.low, ours.high) == pytest.approx((students.low, students.high), rel=0.004)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"population": 100}, "out of 100"),
        ({"queries": [10] * 19}, "20 energies and 19"),
        ({"covariates": {"x": np.ones(20)}, "covariate_means": {}}, "means over all queries"),
        ({"covariates": {"x": np.ones(20)}, "covariate_means": {"x": 1.0}}, "does not vary"),
        ({"energy_j": [np.nan] * 20}, "not finite"),
    ],
)
def test_unusable_samples_are_refused(sample, changes, words):
    energy_j, queries, _ = sample
    with pytest.raises(StatisticsError, match=words):
        estimate_total(**({"energy_j": energy_j, "queries": queries, "population": 500} | changes))


def test_unknown_method_is_named(sample):
    with pytest.raises(UnknownNameError, match="did you mean 'bootstrap-t'"):
        estimate_total(sample[0], sample[1], population=500, method="bootstrap")


def test_replicates_do_not_shrink_the_interval_of_the_queries():
    study = simulate(0, boards=1, sessions=1, runs=4, warm_up=0.0, window=0.0, run=0.0)
    units = measured_windows(study.windows)
    asked = units[units["run"] == 0].head(12)
    again = asked.assign(run=1)
    one = sample_total(asked, population=200, columns=["input_tokens"], covariates=study.covariates)
    both = sample_total(
        pd.concat([asked, again]), population=200, columns=["input_tokens"], covariates=study.covariates
    )
    assert both.half_width == pytest.approx(one.half_width)
    with pytest.raises(StatisticsError, match="different queries"):
        sample_total(units.groupby("run").head(12), population=200)


def test_regression_beats_the_mean_over_many_runs():
    study = simulate(1, boards=1, sessions=6, warm_up=0.0)
    table = totals_summary(
        totals_by_windows(measured_windows(study.windows), population=200, covariates=study.covariates)
    )
    widths = table.pivot_table(index="step", columns="method", values="half_width")
    assert (widths["regression"] < 0.75 * widths["mean per query"]).all()
    assert table["runs"].eq(24).all()
    assert table["held"].mean() > 0.9
    few = measured_windows(simulate(0, windows=8).windows)
    with pytest.raises(StatisticsError, match="shorter windows"):
        totals_by_windows(few, population=80, covariates=study.covariates)
