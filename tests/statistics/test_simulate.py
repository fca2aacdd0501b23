"""The simulated study: its components, its tables, and that they agree with each other."""

import numpy as np
import pandas as pd
import pytest

from energylab.errors import ParameterError
from energylab.statistics.simulate import simulate
from energylab.table import COLUMNS, WINDOW_COLUMNS


def test_same_seed_same_study_and_another_seed_another():
    first, again, other = simulate(3), simulate(3), simulate(4)
    pd.testing.assert_frame_equal(first.windows, again.windows)
    assert not first.windows["energy_j"].equals(other.windows["energy_j"])


def test_tables_have_the_columns_and_the_kind_of_the_real_ones():
    study = simulate(0)
    assert tuple(study.windows.columns) == WINDOW_COLUMNS
    assert tuple(study.tidy.columns) == COLUMNS
    assert set(study.windows["energy_kind"]) == set(study.tidy["energy_kind"]) == {"simulated"}
    assert study.describe().startswith("> ## SIMULATED")


def test_every_run_asks_every_query_once_and_its_total_is_the_sum_of_its_windows():
    study = simulate(1)
    for (session, run), part in study.windows.groupby(["session", "run"]):
        asked = [query for ids in part["query_ids"] for query in ids]
        assert sorted(asked) == list(range(study.population))
        row = study.tidy[(study.tidy["session"] == session) & (study.tidy["run"] == run)]
        assert row["energy_j"].item() == pytest.approx(part["energy_j"].sum())


def test_without_any_variance_every_run_has_the_mean_energy():
    still = simulate(0, board=0, session=0, run=0, window=0, warm_up=0)
    assert (still.tidy["energy_j"] / still.tidy["queries"]).to_numpy() == pytest.approx(300.0)


def test_levels_vary_by_what_was_asked_for():
    many = simulate(5, boards=1, sessions=400, runs=1, windows=2, warm_up=0, window=0, run=0, session=0.01)
    assert (many.tidy["energy_j"] / many.tidy["queries"]).std() / 300 == pytest.approx(0.01, rel=0.1)
    series = simulate(6, boards=1, sessions=1, runs=1, windows=3000, query=0, warm_up=0, correlation=0.6)
    power = series.windows["mean_power_w"]
    assert power.autocorr(1) == pytest.approx(0.6, abs=0.05)


def test_second_meter_has_the_bias_it_was_given():
    meters = simulate(2).meters.pivot_table(index=["session", "index"], columns="meter", values="energy_j")
    assert np.mean(meters["second"] / meters["first"]) - 1 == pytest.approx(-0.03, abs=0.002)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"bord": 0.1}, "allowed"), ({"runs": 0}, "at least 1"), ({"mean_j": 0}, "positive"), ({"explained": 2}, "0 to 1"),
     ({"query": 3.0}, "negative")],
)  # fmt: skip
def test_senseless_settings_are_refused(changes, words):
    with pytest.raises(ParameterError, match=words):
        simulate(0, **changes)
