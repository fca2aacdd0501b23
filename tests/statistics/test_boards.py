"""Both intervals of every board, in the unit that people read."""

import numpy as np
import pytest

from energylab.statistics.boards import board_intervals
from energylab.statistics.intervals import expanded, mean_interval
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows, run_totals


def test_sessions_are_the_independent_values():
    units = measured_windows(simulate(0, warm_up=0.0).windows)
    table = board_intervals(units)
    first = run_totals(units).query("board == 'SIM-0'").groupby("session")["per_query_j"].mean()
    expected = mean_interval(first).scaled(1000 / 3600)
    row = table.iloc[0]
    assert (row["energy_wh"], row["low"], row["high"]) == pytest.approx((expected.mean, expected.low, expected.high))
    assert row["expanded_high"] == pytest.approx(expanded(expected).high)
    assert table["energy_kind"].eq("simulated").all()


def test_one_session_is_named_and_one_run_has_no_interval():
    one = board_intervals(measured_windows(simulate(0, boards=1, sessions=1, warm_up=0.0).windows)).iloc[0]
    assert one["kind"] == "within-session"
    assert "one session" in one["note"]
    single = board_intervals(measured_windows(simulate(0, boards=1, sessions=1, runs=1, warm_up=0.0).windows)).iloc[0]
    assert single["kind"] == "none"
    assert np.isnan(single["low"])
    assert "at least 2" in single["note"]
