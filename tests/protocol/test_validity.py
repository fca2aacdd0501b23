"""The error bound of a window, against the worked example of docs/statistics.md."""

from __future__ import annotations

import pytest

from energylab.clock import ManualClock
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.protocol.validity import Watch
from energylab.protocol.window import observe


@pytest.mark.parametrize(
    ("on_tick", "seconds", "edges_j", "rest_s"),
    [(False, 10.0, 2 * 0.1 * 400 + 2 * 0.001, 0.0), (True, 1.95, 2 * 0.001 * 400 + 2 * 0.001, 0.05)],
)
def test_a_bound_counts_both_edges(on_tick, seconds, edges_j, rest_s):
    clock = ManualClock()
    board = SimulatedBoard(clock, idle_w=70.0)
    meter = ReplayMeter(board, clock)  # steps of 0.1 s, whole millijoules
    meter.open()
    board.work(1.0, 400.0)
    watch = Watch(meter, on_tick, waiting_w=70.0)
    observe([watch], clock, lambda: board.work(seconds, 400.0))
    assert watch.power_w == 400.0
    assert watch.reading_bound_j == pytest.approx(edges_j)
    assert watch.bound_j == pytest.approx(edges_j + 70.0 * rest_s, abs=2 * 0.001 * 70.0)
