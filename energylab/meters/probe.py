"""What a counter is like: how often it steps, and what one read of it costs. Works on any open meter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from energylab.clock import Clock
from energylab.meters.base import Meter


def read_cost(meter: Meter, reads: int = 20) -> float:
    """Return the median time one read takes, in seconds of the machine's own clock (not the meter's)."""
    costs = []
    for _ in range(reads):
        start_s = time.perf_counter()
        meter.read()
        costs.append(time.perf_counter() - start_s)
    return statistics.median(costs)


def update_period(meter: Meter, steps: int = 4, cap_s: float = 1.0, poll_s: float = 0.002) -> float | None:
    """Watch a counter and return the time between two of its steps.

    Waits between the reads, so that it neither burns a core nor warms an idle device, and gives up after `cap_s`.
    The result is exact to `poll_s` over the number of steps seen; a counter that steps faster than it is read gives
    the time between two reads, which is too long rather than too short.

    Parameters
    ----------
    meter : Meter
        An open meter.
    steps : int, default 4
        Steps to see after the first one.
    cap_s : float, default 1.0
        Longest time to watch, in seconds.
    poll_s : float, default 0.002
        Time between two reads, in seconds.

    Returns
    -------
    float or None
        Mean time between steps in seconds; None when fewer than two steps came within `cap_s`.
    """

    def look() -> tuple[float, float]:
        reading = meter.read()
        return reading.energy_j, reading.time_s

    edges = step_times(look, meter.clock, steps + 1, cap_s, poll_s)
    return (edges[-1] - edges[0]) / (len(edges) - 1) if len(edges) > 1 else None


def step_times(
    look: Callable[[], tuple[float, float]], clock: Clock, steps: int, cap_s: float, poll_s: float = 0.002
) -> list[float]:
    """Return the times at which a value was seen to change: up to `steps` of them, within `cap_s` seconds.

    Parameters
    ----------
    look : callable
        Returns the value and its time in seconds.
    clock : Clock
        Waits between two looks.
    steps, cap_s, poll_s
        As in `update_period`.

    Returns
    -------
    list of float
        Times in seconds, of the first look that saw each new value.
    """
    value, time_s = look()
    deadline_s = time_s + cap_s
    edges: list[float] = []
    while len(edges) < steps and time_s < deadline_s:
        clock.sleep(poll_s)
        seen, time_s = look()
        if seen != value:
            edges.append(time_s)
        value = seen
    return edges
