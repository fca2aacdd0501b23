"""Planning: the expected precision against simulated studies, and the cheapest design against a search by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from energylab.errors import StatisticsError
from energylab.statistics.components import Components, nested_components
from energylab.statistics.precision import cv_by_length, cv_by_runs, plan, relative_half_width
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows, run_totals

CVS = {"board": 0.02, "session": 0.006, "run": 0.004, "window": 0.008, "query": 0.3}


@pytest.fixture
def known():
    table = pd.DataFrame(
        [{"level": name, "units": 9, "cv": cv, "low": cv, "high": cv, "note": ""} for name, cv in CVS.items()]
    )
    return Components(mean_j=300.0, energy_kind="simulated", queries=200, windows=20.0, table=table)


def test_expected_error_is_that_of_simulated_studies(known):
    study = simulate(1, boards=1, sessions=1000, runs=2, windows=4, queries_per_window=10, warm_up=0.0)
    spread = run_totals(measured_windows(study.windows)).groupby("session")["per_query_j"].mean().std() / 300
    few = Components(mean_j=300.0, energy_kind="simulated", queries=40, windows=4.0, table=known.table)
    expected = relative_half_width(few, 9, 2, 40) / stats.t.ppf(0.975, 8) * np.sqrt(9)
    assert spread == pytest.approx(float(expected), rel=0.07)


def test_one_session_has_no_interval_and_queries_end_at_all(known):
    assert relative_half_width(known, 1, 10, 200) == np.inf
    assert relative_half_width(known, 5, 1, 100) > 3 * relative_half_width(known, 5, 1, 200)
    with pytest.raises(StatisticsError, match="at most the 200"):
        relative_half_width(known, 5, 1, 201)


def test_plan_is_the_cheapest_of_all_designs_that_reach_the_target(known):
    table = plan(known, 20_000.0, [0.05, 0.01, 0.0001], most_sessions=12, runs=(1, 2))
    row = table.iloc[1]
    assert row["reached"] <= 0.01
    sessions, runs, queries = np.meshgrid(np.arange(2, 13), [1, 2], np.arange(1, 201))
    energy_wh = sessions * (20_000 + runs * queries * 300) / 3600
    cheaper = (relative_half_width(known, sessions, runs, queries) <= 0.01) & (energy_wh < 0.98 * row["energy_wh"])
    assert not cheaper.any()
    assert pd.isna(table.iloc[2]["sessions"])


def test_plan_refuses_nonsense(known):
    with pytest.raises(StatisticsError, match="target"):
        plan(known, 0.0, [2])
    with pytest.raises(StatisticsError, match="overhead"):
        plan(known, float("nan"))


def test_spread_falls_with_the_square_root_of_independent_windows():
    table = cv_by_length(measured_windows(simulate(2, windows=64, warm_up=0.0).windows))
    assert table["joined"].tolist() == [1, 2, 4, 8, 16, 32]
    assert ((table["low"] <= table["independent"]) & (table["independent"] <= table["high"])).all()
    assert table["cv"].iloc[0] == pytest.approx(np.sqrt(0.3**2 / 10 + 0.008**2), rel=0.05)
    with pytest.raises(StatisticsError, match="single window"):
        cv_by_length(measured_windows(simulate(2, windows=1).windows))


def test_spread_of_sessions_is_found_by_runs():
    units = measured_windows(simulate(3, boards=2, sessions=30, runs=3, windows=5, warm_up=0.0).windows)
    table = cv_by_runs(units, nested_components(units))
    assert table["runs"].tolist() == [1, 2, 3]
    assert ((table["low"] <= table["expected"]) & (table["expected"] <= table["high"])).all()
    one = measured_windows(simulate(3, boards=2, sessions=1, warm_up=0.0).windows)
    components = nested_components(units)
    with pytest.raises(StatisticsError, match="at least two"):
        cv_by_runs(one, components)
