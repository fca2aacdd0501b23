"""Integrates power to a counter: samples in the background, trapezoids between them, and a sample at every read."""

from __future__ import annotations

import threading
from collections.abc import Callable

from energylab.clock import Clock, Periodic
from energylab.errors import MeterError
from energylab.meters.base import Reading


class PowerIntegrator:
    """Integrates a power sensor by the trapezoidal rule.

    `power_w` returns the current power in watts. A thread takes a sample every `period_s` seconds. Every read takes
    another one, so that the last trapezoid ends exactly at the edge of the window. Samples that repeat the last value
    count like any other. `worst_gap_s` and `largest_w` are the longest time between two samples and the largest power
    between the last two reads.
    """

    def __init__(self, power_w: Callable[[], float], clock: Clock, period_s: float = 0.05) -> None:
        self._power_w, self._clock = power_w, clock
        self._lock = threading.Lock()
        self._thread = Periodic(self.sample, period_s, "energylab-power")
        self._last: Reading | None = None
        self._last_w = 0.0
        self._error: MeterError | None = None
        self._gap_s = self._largest_w = 0.0  # since the last read
        self.worst_gap_s = self.largest_w = 0.0

    def start(self) -> None:
        """Take the first sample and start the thread."""
        self.sample()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._thread.stop()

    def sample(self) -> Reading:
        """Take one sample now and add its trapezoid. After an error every sample fails: the integral has a gap."""
        with self._lock:
            if self._error is not None:
                raise self._error
            try:
                # The middle of the call is the best guess of when the sensor was read.
                before_s = self._clock.now()
                power_w = self._power_w()
                return self._add((before_s + self._clock.now()) / 2, power_w)
            except MeterError as error:
                self._error = error
                raise

    def read(self) -> Reading:
        """Take one sample now, and note the longest gap and the largest power since the last read."""
        now = self.sample()
        with self._lock:
            self.worst_gap_s, self._gap_s = self._gap_s, 0.0
            self.largest_w, self._largest_w = self._largest_w, self._last_w
        return now

    def _add(self, time_s: float, power_w: float) -> Reading:
        last = self._last or Reading(0.0, time_s)
        gap_s = time_s - last.time_s
        self._last = Reading(last.energy_j + gap_s * (self._last_w + power_w) / 2, time_s)
        self._last_w = power_w
        self._gap_s, self._largest_w = max(self._gap_s, gap_s), max(self._largest_w, power_w)
        return self._last
