"""Integrated power against integrals known in closed form."""

from __future__ import annotations

import threading
import time

import pytest

from energylab.clock import Clock, ManualClock
from energylab.errors import DeviceLostError
from energylab.meters.sampler import PowerIntegrator


def test_a_straight_ramp_is_exact():
    clock = ManualClock()
    integrator = PowerIntegrator(lambda: 100 + 20 * clock.now(), clock)
    integrator.sample()
    for _ in range(7):
        clock.sleep(0.37)
        integrator.sample()
    end = clock.now()
    assert integrator.read().energy_j == pytest.approx(100 * end + 10 * end**2)


def test_repeated_samples_are_kept():
    """A sensor that repeats its value for a second has drawn that power for a second."""
    clock = ManualClock()
    integrator = PowerIntegrator(lambda: 80.0, clock)
    for _ in range(101):
        integrator.sample()
        clock.sleep(0.01)
    assert integrator.read().energy_j == pytest.approx(80 * 1.01)


def test_gap_and_largest_power_since_the_last_read():
    clock, powers = ManualClock(), iter([50.0, 400.0, 60.0, 60.0, 70.0, 70.0])
    integrator = PowerIntegrator(lambda: next(powers), clock)
    integrator.sample()
    clock.sleep(0.05)
    integrator.sample()
    clock.sleep(1.5)
    integrator.read()
    assert integrator.worst_gap_s == pytest.approx(1.5)
    assert integrator.largest_w == 400.0
    clock.sleep(0.1)
    integrator.sample()
    integrator.read()
    assert integrator.worst_gap_s == pytest.approx(0.1)
    assert integrator.largest_w == 70.0


def test_an_error_in_the_thread_is_raised_at_the_next_read_and_stays():
    calls = []

    def power_w():
        calls.append(0)
        if len(calls) > 3:
            raise DeviceLostError("gone")
        return 100.0

    integrator = PowerIntegrator(power_w, Clock(), period_s=0.001)
    integrator.start()
    while len(calls) < 4:
        time.sleep(0.005)
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="gone"):
            integrator.read()
    integrator.stop()


def test_the_thread_samples_until_it_is_stopped():
    seen = []
    integrator = PowerIntegrator(lambda: seen.append(0) or 100.0, Clock(), period_s=0.001)
    integrator.start()
    start = integrator.read()
    while len(seen) < 10:
        time.sleep(0.002)
    stop = integrator.read()
    integrator.stop()
    assert stop.energy_j - start.energy_j == pytest.approx(100 * (stop.time_s - start.time_s))
    assert "energylab-power" not in [thread.name for thread in threading.enumerate()]
