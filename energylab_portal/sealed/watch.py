"""The meters of a sealed run: read as in any session, and sampled in the background into a timeline.

The samples are kept in this process, outside the container. With the readings at the windows' edges they allow a
check that the energy of each window agrees with the device's power around it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

from energylab.clock import Periodic
from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading
from energylab_portal.sealed.statement import Timeline, most_samples


class WatchedMeter:
    """A meter whose counter is sampled in the background; all other calls go to the inner meter.

    `ours` returns the host's ids of the measured processes, which are no co-tenants. When `most` samples are kept,
    every second one is dropped, and the period doubles.
    """

    def __init__(self, inner: Meter, period_s: float, ours: Callable[[], set[int]] = set, most: int = 50_000) -> None:
        self.inner, self.period_s, self._ours, self._most = inner, period_s, ours, most
        self._lock = threading.Lock()
        self._every, self._calls = 1, 0  # one sample is kept every `_every` calls
        self.samples: list[tuple[float, float, float | None]] = []
        self._thread: Periodic | None = None

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the inner meter."""
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the session's limit on the inner meter, and all else here."""
        object.__setattr__(self.inner if name == "assumed_limit_w" else self, name, value)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def open(self) -> None:
        self.inner.open()
        self.sample()
        self._thread = Periodic(self.sample, self.period_s, "energylab-timeline")
        self._thread.start()

    def read(self) -> Reading:
        """Read the meter; a lock separates readings and samples."""
        with self._lock:
            return self.inner.read()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._thread = None
        self.sample(last=True)
        self.inner.close()

    def counters(self) -> DeviceCounters:
        """Return the device's state; the measured processes do not count as co-tenants."""
        with self._lock:
            found = self.inner.counters()
        if self.kind != "estimated":  # this meter counts the container's processor time as that of other processes
            found = replace(found, others_s=None)
        if not found.cotenants:
            return found
        return replace(found, cotenants=tuple(pid for pid in found.cotenants if pid not in self._ours()))

    def edge_power_w(self) -> float | None:
        with self._lock:
            return self.inner.edge_power_w()

    def sample(self, last: bool = False) -> None:
        """Read counter and power once, and keep them; a failing meter is read again at the next call."""
        with self._lock:
            self._calls += 1
            if self._calls % self._every and not last:
                return
            try:
                state = DeviceCounters() if self.inner.of_processor else self.inner.counters()
                reading = self.inner.read()
            except MeterError:
                return  # a missing sample: the checks refuse a timeline with too many of them
            self.samples.append((reading.time_s, reading.energy_j, state.power_w))
            if len(self.samples) >= self._most:
                del self.samples[1::2]
                self._every *= 2

    def timeline(self, origin_s: float) -> Timeline:
        """Return the samples as columns, with times relative to `origin_s`."""
        powers = tuple(power_w for _, _, power_w in self.samples)
        return Timeline(
            device=self.device,
            meter=self.name,
            period_s=self.period_s * self._every,
            time_s=tuple(time_s - origin_s for time_s, _, _ in self.samples),
            energy_j=tuple(energy_j for _, energy_j, _ in self.samples),
            power_w=() if all(power_w is None for power_w in powers) else powers,
        )


def watched(meters: Sequence[Meter], window_s: float, ours: Callable[[], set[int]] = set) -> tuple[WatchedMeter, ...]:
    """Wrap meters to take several samples per window, at most twenty per second."""
    period_s = min(max(window_s / 20, 0.05), 0.25)
    return tuple(WatchedMeter(meter, period_s, ours, most_samples(len(meters))) for meter in meters)
