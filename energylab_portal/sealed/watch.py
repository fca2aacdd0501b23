"""The meters of a sealed run: read as ever, and sampled beside it into a timeline of their own.

The samples lie in this process, outside the container. Together with the readings at the windows' edges they let
anyone check that the energy of every window agrees with what the device drew around it.
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
    """A meter whose counter is sampled in the background; whatever else is asked of it is the inner one's.

    `ours` returns the process ids, as the host numbers them, of the work that is measured: no co-tenants. Of `most`
    samples every second one is dropped, and they are then taken half as often.
    """

    def __init__(self, inner: Meter, period_s: float, ours: Callable[[], set[int]] = set, most: int = 50_000) -> None:
        self.inner, self.period_s, self._ours, self._most = inner, period_s, ours, most
        self._lock = threading.Lock()
        self._every, self._calls = 1, 0  # samples are kept every so many calls
        self.samples: list[tuple[float, float, float | None]] = []
        self._thread: Periodic | None = None

    def __getattr__(self, name: str) -> Any:
        """Whatever describes the meter is the inner one's."""
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """What the session tells the meter is for the inner one."""
        object.__setattr__(self.inner if name == "believed_w" else self, name, value)

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
        """Read the meter; a sample and a reading never cross."""
        with self._lock:
            return self.inner.read()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._thread = None
        self.sample(last=True)
        self.inner.close()

    def counters(self) -> DeviceCounters:
        """Return what the device says of itself; the work's own processes share it with nobody."""
        with self._lock:
            found = self.inner.counters()
        if self.kind != "estimated":  # the work is in a container, whose processor time this meter takes for others'
            found = replace(found, others_s=None)
        if not found.cotenants:
            return found
        return replace(found, cotenants=tuple(pid for pid in found.cotenants if pid not in self._ours()))

    def edge_power_w(self) -> float | None:
        with self._lock:
            return self.inner.edge_power_w()

    def sample(self, last: bool = False) -> None:
        """Read counter and power once, and keep them; a meter that fails now may answer the next time."""
        with self._lock:
            self._calls += 1
            if self._calls % self._every and not last:
                return
            try:
                state = DeviceCounters() if self.inner.of_processor else self.inner.counters()
                reading = self.inner.read()
            except MeterError:
                return  # a hole: where there are too many, the timeline is refused
            self.samples.append((reading.time_s, reading.energy_j, state.power_w))
            if len(self.samples) >= self._most:
                del self.samples[1::2]
                self._every *= 2

    def timeline(self, origin_s: float) -> Timeline:
        """Return the samples as columns, their times counted from `origin_s`."""
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
    """Wrap meters so that every window holds several samples, at most twenty a second."""
    period_s = min(max(window_s / 20, 0.05), 0.25)
    return tuple(WatchedMeter(meter, period_s, ours, most_samples(len(meters))) for meter in meters)
