"""Watching a counter: the time between its steps, and when it gives up."""

from __future__ import annotations

import pytest

from energylab.clock import ManualClock
from energylab.errors import CounterStuckError
from energylab.meters.base import update_period
from energylab.meters.replay import ReplayMeter, SimulatedBoard


def counter(tick_s):
    clock = ManualClock(3.21)
    meter = ReplayMeter(SimulatedBoard(clock, idle_w=60.0), clock, tick_s=tick_s)
    meter.open()
    return clock, meter


@pytest.mark.parametrize(("tick_s", "poll_s"), [(0.1, 0.002), (0.02, 0.001), (0.001, 0.0002)])
def test_the_period_is_exact_to_the_polling(tick_s, poll_s):
    clock, meter = counter(tick_s)
    assert update_period(meter, count=10, cap_s=5.0, poll_s=poll_s) == pytest.approx(tick_s, abs=poll_s / 5)


def test_a_counter_faster_than_the_polling_is_called_as_slow_as_the_polling():
    clock, meter = counter(0.0001)
    assert update_period(meter, poll_s=0.002) == pytest.approx(0.002)


def test_a_counter_that_stands_still_has_no_period_and_takes_no_longer_than_the_cap():
    clock, meter = counter(1000.0)
    start_s = clock.now()
    with pytest.raises(CounterStuckError, match="did not move within 1.5 s"):
        update_period(meter, cap_s=1.5)
    assert clock.now() - start_s == pytest.approx(1.5, abs=0.01)
