"""The simulated board: exact energy, a counter that is quantised exactly as stated, and how a counter is watched."""

from __future__ import annotations

import math

import pytest

from energylab.clock import ManualClock
from energylab.errors import CounterStuckError, MeterError
from energylab.meters.base import update_period, wait_for_tick
from energylab.meters.replay import ReplayMeter, SimulatedBoard


def counter(tick_s=0.1, idle_w=60.0, start_s=0.0, **options):
    clock = ManualClock(start_s)
    meter = ReplayMeter(SimulatedBoard(clock, idle_w=idle_w), clock, tick_s=tick_s, **options)
    meter.open()
    return clock, meter


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
    clock, meter = counter(idle_w=33.3333, quantum_j=0.001)
    clock.sleep(0.7499)
    expected = math.floor(33.3333 * 0.7 / 0.001) * 0.001
    assert meter.read().energy_j == pytest.approx(expected, abs=1e-9)
    assert meter.read().time_s == pytest.approx(0.7499)


def test_waiting_for_a_tick_ends_right_after_it_or_with_an_error():
    clock, meter = counter()
    clock.sleep(0.03)
    assert wait_for_tick(meter, 1.0).time_s == pytest.approx(0.1, abs=0.0011)
    with pytest.raises(MeterError, match="did not step within 0.5 s"):
        wait_for_tick(counter(idle_w=0.0)[1], 0.5)


@pytest.mark.parametrize(
    ("tick_s", "poll_s", "period_s"),
    [(0.1, 0.002, 0.1), (0.02, 0.001, 0.02), (0.001, 0.0002, 0.001), (0.0001, 0.002, 0.002)],  # the last: too fast
)
def test_the_period_is_exact_to_the_polling(tick_s, poll_s, period_s):
    _, meter = counter(tick_s, start_s=3.21)
    assert update_period(meter, count=10, cap_s=5.0, poll_s=poll_s) == pytest.approx(period_s, abs=poll_s / 5)


def test_a_counter_that_stands_still_has_no_period_and_takes_no_longer_than_the_cap():
    clock, meter = counter(1000.0, start_s=3.21)
    with pytest.raises(CounterStuckError, match="did not move within 1.5 s"):
        update_period(meter, cap_s=1.5)
    assert clock.now() - 3.21 == pytest.approx(1.5, abs=0.01)
