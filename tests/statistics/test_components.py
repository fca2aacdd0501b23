"""Variance components: against closed formulas, the known truth, and designs that cannot tell."""

import numpy as np
import pytest
from scipy import stats

from energylab.errors import StatisticsError, UnknownNameError
from energylab.statistics.components import nested_components, sampling_share
from energylab.statistics.mean_squares import nested_mean_squares
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows, run_totals


def units(seed=0, **changes):
    return measured_windows(simulate(seed, warm_up=0.0, **changes).windows)


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
