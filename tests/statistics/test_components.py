"""Variance components: against closed formulas, the known truth, and designs that cannot tell."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from energylab.errors import StatisticsError, UnknownNameError
from energylab.statistics.components import (
    MeanSquare,
    difference_interval,
    nested_components,
    nested_mean_squares,
    sampling_share,
)
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows, run_totals


def units(seed=0, **changes):
    return measured_windows(simulate(seed, warm_up=0.0, **changes).windows)


def test_mean_squares_of_a_balanced_design_are_those_of_the_textbook():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(3, 4, 5))
    index = pd.MultiIndex.from_product([range(3), range(4), range(5)], names=["board", "session", "run"])
    runs = pd.DataFrame({"y": y.ravel()}, index=index).reset_index()
    runs["session"] = runs["board"] * 10 + runs["session"]
    squares, size = nested_mean_squares(runs)
    means = y.mean(axis=2)
    assert squares["run"].value == pytest.approx(((y - means[..., None]) ** 2).sum() / 48)
    assert squares["session"].value == pytest.approx(5 * ((means - means.mean(axis=1)[:, None]) ** 2).sum() / 9)
    assert squares["board"].value == pytest.approx(20 * means.mean(axis=1).var(ddof=1))
    assert (squares["run"].df, squares["session"].df, squares["board"].df) == (48, 9, 2)
    assert size == pytest.approx({"run": 1, "session": 5, "board": 20})


def test_unbalanced_mean_squares_are_unbiased_for_the_run_and_close_for_the_session():
    rng = np.random.default_rng(1)
    counts = [2, 3, 5, 2, 4, 3]
    session = np.repeat(np.arange(6), counts)
    found = []
    for _ in range(500):
        y = rng.normal(0, 2, 6)[session] + rng.normal(size=len(session))
        squares, size = nested_mean_squares(pd.DataFrame({"board": 0, "session": session, "y": y}))
        found.append(((squares["session"].value - squares["run"].value) / size["session"], squares["run"].value))
    assert np.mean(found, axis=0) == pytest.approx([4.0, 1.0], rel=0.12)


def test_interval_of_a_difference_is_the_exact_chi_square_one_when_the_smaller_is_known():
    low, high = difference_interval(MeanSquare(3.0, 7), MeanSquare(0.0, 1))
    assert low == pytest.approx(7 * 3 / stats.chi2.ppf(0.975, 7))
    assert high == pytest.approx(7 * 3 / stats.chi2.ppf(0.025, 7))


def test_interval_of_a_difference_is_the_exact_f_test_at_zero():
    # MLS ends are built so that the lower end is 0 exactly where the F test of "no difference" is at its edge
    f = stats.f.ppf(0.975, 5, 12)
    low, _ = difference_interval(MeanSquare(f, 5), MeanSquare(1.0, 12))
    assert low == pytest.approx(0.0, abs=1e-9)


def test_mixed_model_agrees_with_the_analysis_of_variance_in_a_balanced_design():
    table = nested_components(units(0)).table.set_index("level")
    totals = run_totals(units(0))
    totals = totals.assign(y=totals["per_query_j"] / totals.groupby("board")["per_query_j"].mean().mean())
    squares, size = nested_mean_squares(totals)
    for name, below in (("board", "session"), ("session", "run")):
        expected = np.sqrt((squares[name].value - squares[below].value) / size[name])
        assert table.loc[name, "cv"] == pytest.approx(expected, rel=0.02)


def test_the_truth_lies_in_the_intervals():
    truth = simulate(11).truth
    held = 0
    for seed in range(6):
        table = nested_components(units(seed)).table.set_index("level")
        held += sum(table.loc[name, "low"] <= truth[name] <= table.loc[name, "high"] for name in truth)
    assert stats.binomtest(held, 30, 0.95).pvalue > 0.001


def test_what_the_design_cannot_tell_is_not_told():
    one = nested_components(units(0, boards=1, sessions=1))
    assert one.table.set_index("level")["cv"].isna().to_dict() == {
        "board": True, "session": True, "run": False, "window": False, "query": False,
    }  # fmt: skip
    with pytest.raises(StatisticsError, match="not known here: 1 board"):
        one.cv("board")
    with pytest.raises(UnknownNameError, match="did you mean 'window'"):
        one.cv("windows")
    with pytest.raises(StatisticsError, match="at least two complete runs"):
        nested_components(units(0, boards=1, sessions=1, runs=1))


def test_single_window_runs_keep_their_noise():
    table = nested_components(units(0, windows=1, queries_per_window=20)).table.set_index("level")
    assert "one window a run" in table.loc["run", "note"]
    assert np.isfinite(table.loc["run", "cv"])
    assert np.isnan(table.loc["window", "cv"])


def test_sampling_share_is_the_part_that_is_not_noise():
    study = simulate(0, warm_up=0.0)
    kept = measured_windows(study.windows)
    components = nested_components(kept)
    expected = 0.3**2 / 10 / (0.3**2 / 10 + 0.008**2)
    assert sampling_share(kept, components) == pytest.approx(expected, abs=0.003)
    left = 0.3 * 0.09 / 10
    with_tokens = sampling_share(kept, components, study.covariates)
    assert with_tokens == pytest.approx(left / (left + 0.008**2), abs=0.01)
