"""Spreads are found where they were put in, and said to be unknown where the data cannot tell."""

from __future__ import annotations

import builders
import numpy as np
import pandas as pd
import pytest

from energylab import store
from energylab.energy import run_energies
from energylab.errors import CohortError, ParameterError, StatisticsError
from energylab.parameters import Parameters
from energylab.statistics.simulate import simulate
from energylab.statistics.variance import (
    Components,
    agreement,
    by_board,
    components,
    difference_interval,
    drift,
    or_reason,
    plan,
    read_study,
    relative_half_width,
)

#: Many boards and sessions, so that estimates are near the truth.
LARGE = {"boards": 12, "sessions": 8, "runs": 4, "windows": 5}


def test_components_are_near_what_was_put_in():
    study = simulate(3, **LARGE)
    found = components(study.table)
    assert found.energy_kind == "simulated"
    assert found.energy_wh == pytest.approx(300 / 3.6, rel=0.02)
    assert found.cv("board") == pytest.approx(0.02, rel=0.5)
    assert found.cv("session") == pytest.approx(0.006, rel=0.2)
    assert found.cv("run") == pytest.approx(np.hypot(0.004, 0.008 / np.sqrt(5)), rel=0.1)  # with its windows' noise


def test_intervals_of_components_hold():
    held = {level: 0 for level in ("board", "session", "run")}
    truth = {"board": 0.02, "session": 0.006, "run": np.hypot(0.004, 0.008 / np.sqrt(2))}
    for seed in range(30):
        table = components(simulate(seed, windows=2, queries=2).table).table.set_index("level")
        for level in held:
            held[level] += table.loc[level, "low"] <= truth[level] <= table.loc[level, "high"]
    assert min(held.values()) >= 26


def test_phases_of_a_run_are_added_before_anything_else():
    table = simulate(1, boards=1, sessions=2).table
    twice = pd.concat([table, table.assign(phase="preprocess", energy_j=table["energy_j"] / 10)])
    assert run_energies(twice)["energy_wh"].to_numpy() == pytest.approx(
        1.1 * run_energies(table)["energy_wh"].to_numpy()
    )
    assert components(twice).energy_wh == pytest.approx(1.1 * components(table).energy_wh)


@pytest.mark.parametrize(
    ("level", "note"), [("board", "1 board"), ("session", "one session per board"), ("run", "one run per session")]
)
def test_what_the_design_cannot_tell_is_said(level, note):
    found = components(simulate(0, **{f"{level}s": 1}).table)
    with pytest.raises(StatisticsError, match=note):
        found.cv(level)


def test_difference_interval_is_exact_in_its_limits():
    low, high = difference_interval((2.0, 9), (0.0, 1.0))
    assert (low, high) == pytest.approx((2 * 9 / 19.0228, 2 * 9 / 2.7004), rel=1e-4)  # chi-square with 9 degrees
    low, high = difference_interval((2.0, 9), (1.0, 1e9))
    assert (low, high) == pytest.approx((2 * 9 / 19.0228 - 1, 2 * 9 / 2.7004 - 1), rel=1e-3)


def test_drift_is_found_steady_sessions_keep_every_window_and_those_that_share_a_run_are_worth_fewer():
    moving = drift(simulate(2, drift=0.05, window=0.002, run=0.0).windows)
    assert ((moving["low"] <= 0.05) & (moving["high"] >= 0.05)).mean() >= 0.75
    assert moving["slope"].mean() == pytest.approx(0.05, rel=0.1)
    still = drift(simulate(2, run=0.0).windows)
    assert (still["windows"] == 80).all()
    assert ((still["low"] <= 0) & (still["high"] >= 0)).mean() >= 0.75
    assert still["effective"].median() > 60
    found = drift(simulate(2, run=0.02, window=0.002, runs=8).windows)
    assert found["effective"].median() < 30
    assert found["lag_1"].median() > 0.5


def test_every_board_has_its_energy_and_all_of_them_a_wider_interval():
    found = by_board(simulate(0).table)
    assert list(found.index) == ["SIM-0", "SIM-1", "SIM-2", "all boards"]
    assert found.loc["all boards", "energy_wh"] == pytest.approx(found["energy_wh"].iloc[:3].mean())
    width = found["repeatability_high"] - found["repeatability_low"]
    assert width["all boards"] > width.iloc[:3].max()


def test_the_plan_is_the_fewest_sessions_that_reach_the_target():
    spread = Components(1.0, "simulated", pd.DataFrame({"level": ["session", "run"], "cv": [0.006, 0.004]}))
    assert relative_half_width(spread, 4, 1) == pytest.approx(3.1824 * np.hypot(0.006, 0.004) / 2, rel=1e-4)
    table = plan(spread, [0.02, 0.005])
    for runs in (1, 3, 10):
        enough = int(table.loc[0.005, f"sessions of {runs} runs"])
        assert relative_half_width(spread, enough, runs) <= 0.005 < relative_half_width(spread, enough - 1, runs)


def test_two_meters_differ_by_their_bias():
    found = agreement(simulate(0).meters)
    assert found.bias.low < -0.0305 < found.bias.high  # -0.03 relative to the mean of both
    assert found.limits[1] - found.limits[0] == pytest.approx(2 * 1.96 * 0.015, rel=0.1)
    with pytest.raises(StatisticsError, match="two meters"):
        agreement(simulate(0).meters.query("meter == 'first'"))


def test_records_of_one_model_make_a_study(tmp_path):
    for repeat in range(2):
        for model in ("a", "b"):
            store.write(builders.record(Parameters(model=model, repeat=repeat)), tmp_path / f"{model}{repeat}")
    with pytest.raises(CohortError, match="2 values of model"):
        read_study(tmp_path)
    with pytest.raises(StatisticsError, match="there are: .* / a"):
        read_study(tmp_path, model="c")
    study = read_study(tmp_path, model="a")
    assert study.table["session"].nunique() == 2
    assert len(study.meters) == len(study.windows)
    assert study.kind in study.describe()


def test_what_the_data_cannot_carry_is_a_sentence():
    reason = or_reason(components, simulate(0, boards=1, sessions=1, runs=1).table)
    assert "Not possible with these data: variance needs at least two complete runs" in reason
    assert or_reason(plan, reason, [0.01]) is reason


def test_a_simulation_that_makes_no_sense_is_refused():
    with pytest.raises(ParameterError, match="no setting 'bord'"):
        simulate(0, bord=1)
    with pytest.raises(ParameterError, match="at least 1"):
        simulate(0, boards=0)
