"""The simulated board: exact energy, and a counter that is quantised exactly as stated."""

from __future__ import annotations

import math

import pytest

from energylab.clock import ManualClock
from energylab.errors import MeterError
from energylab.meters.base import wait_for_tick
from energylab.meters.replay import ReplayMeter, SimulatedBoard


def test_a_board_adds_work_and_rest_exactly():
    clock = ManualClock()
    board = SimulatedBoard(clock, idle_w=50.0)
    clock.sleep(2.0)
    board.work(3.0, 400.0)
    board.work(1.0, 200.0)
    clock.sleep(4.0)
    assert board.energy_j(clock.now()) == pytest.approx(2 * 50 + 3 * 400 + 200 + 4 * 50)
    assert board.energy_j(3.5) == pytest.approx(2 * 50 + 1.5 * 400)
    assert [board.power_w(t) for t in (1.0, 2.0, 5.5, 7.0)] == [50.0, 400.0, 200.0, 50.0]
    assert board.largest_power_w(4.9, 6.1) == 400.0


def test_the_counter_shows_the_last_tick_in_whole_quanta():
    clock = ManualClock()
    board = SimulatedBoard(clock, idle_w=33.3333)
    meter = ReplayMeter(board, clock, tick_s=0.1, quantum_j=0.001)
    meter.open()
    clock.sleep(0.7499)
    expected = math.floor(33.3333 * 0.7 / 0.001) * 0.001
    assert meter.read().energy_j == pytest.approx(expected, abs=1e-9)
    assert meter.read().time_s == pytest.approx(0.7499)


def test_waiting_for_a_tick_ends_right_after_it_or_with_an_error():
    clock = ManualClock()
    meter = ReplayMeter(SimulatedBoard(clock, idle_w=60.0), clock, tick_s=0.1)
    meter.open()
    clock.sleep(0.03)
    assert wait_for_tick(meter, 1.0).time_s == pytest.approx(0.1, abs=0.0011)
    stuck = ReplayMeter(SimulatedBoard(clock, idle_w=0.0), clock, tick_s=0.1)
    stuck.open()
    with pytest.raises(MeterError, match="did not step within 0.5 s"):
        wait_for_tick(stuck, 0.5)
