"""The meters of a sealed run: read as ever, and sampled beside it into a timeline of their own.

The samples lie in this process, outside the container. Together with the readings at the windows' edges they let
anyone check that the energy of every window agrees with what the device drew around it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from energylab.meters.base import DeviceCounters, Meter, Reading
from energylab.meters.sampler import Periodic
from energylab.protocol.window import Edge
from energylab.record import MeterFacts
from energylab_portal.sealed.statement import Point, Sample, Timeline, WindowReadings

#: Most samples of one timeline; a longer session is sampled half as often.
MAX_SAMPLES = 50_000


class WatchedMeter(Meter):
    """A meter whose counter is sampled in the background.

    Parameters
    ----------
    inner : Meter
        The meter that is read.
    period_s : float
        Time between two samples, in seconds.
    ours : callable, optional
        Returns the process ids, as the host numbers them, of the work that is measured: no co-tenants.
    """

    def __init__(self, inner: Meter, period_s: float, ours: Callable[[], set[int]] = set) -> None:
        super().__init__(inner.clock)
        self.inner = inner
        self.period_s = period_s
        self._ours = ours
        self._lock = threading.Lock()
        self._every = 1  # samples are kept every so many calls
        self._calls = 0
        self.samples: list[Sample] = []
        self._thread: Periodic | None = None

    name = property(lambda self: self.inner.name)
    kind = property(lambda self: self.inner.kind)
    device = property(lambda self: self.inner.device)
    source = property(lambda self: self.inner.source)
    update_period_s = property(lambda self: self.inner.update_period_s)
    read_cost_s = property(lambda self: self.inner.read_cost_s)
    latency_s = property(lambda self: self.inner.latency_s)
    quantum_j = property(lambda self: self.inner.quantum_j)
    power_limit_w = property(lambda self: self.inner.power_limit_w)
    gain_error = property(lambda self: self.inner.gain_error)
    notes = property(lambda self: self.inner.notes)

    def open(self) -> None:
        """Open the meter and begin to sample it."""
        self.inner.open()
        self.sample()
        self._thread = Periodic(self.sample, self.period_s, "energylab-timeline")
        self._thread.start()

    def read(self) -> Reading:
        """Read the meter; a sample and a reading never cross."""
        with self._lock:
            return self.inner.read()

    def close(self) -> None:
        """Take a last sample, end the sampling and close the meter."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None
        self.inner.close()

    def counters(self) -> DeviceCounters:
        """Return what the device says of itself."""
        with self._lock:
            found = self.inner.counters()
        if self.kind != "estimated":  # the work is in a container, whose processor time this meter takes for others'
            found = replace(found, others_s=None)
        if not found.cotenants:
            return found
        return replace(found, cotenants=tuple(pid for pid in found.cotenants if pid not in self._ours()))

    def edge_power_w(self) -> float | None:
        """Return the largest power seen just now."""
        with self._lock:
            return self.inner.edge_power_w()

    def facts(self, scored: bool) -> MeterFacts:
        """Describe the meter that is read."""
        return self.inner.facts(scored)

    def sample(self) -> None:
        """Read counter and device once, and keep it."""
        with self._lock:
            self._calls += 1
            if self._calls % self._every:
                return
            state = DeviceCounters() if self.inner.of_processor else self.inner.counters()
            reading = self.inner.read()
            fields = (state.power_w, state.temperature_c, state.sm_clock_mhz)
            self.samples.append(Sample.model_construct(
                time_s=reading.time_s, energy_j=reading.energy_j,
                power_w=fields[0], temperature_c=fields[1], sm_clock_mhz=fields[2],
            ))  # fmt: skip
            if len(self.samples) >= MAX_SAMPLES:
                del self.samples[1::2]
                self._every *= 2

    @property
    def sampled_s(self) -> float:
        """Time between two samples that were kept, in seconds."""
        return self.period_s * self._every


def timeline(meter: WatchedMeter, readings: Sequence[WindowReadings], origin_s: float) -> Timeline:
    """Join a meter's samples with the readings at the windows' edges, in order of time.

    Parameters
    ----------
    meter : WatchedMeter
        Closed.
    readings : sequence of WindowReadings
        Of all meters; those of this one are taken.
    origin_s : float
        Clock time that times are counted from.
    """
    edges = {
        (point.time_s, point.energy_j): Sample(time_s=point.time_s, energy_j=point.energy_j)
        for window in readings
        if window.device == meter.device
        for point in (window.start, window.stop)
        if point is not None
    }
    samples = [sample.model_copy(update={"time_s": sample.time_s - origin_s}) for sample in meter.samples]
    joined = sorted([*samples, *edges.values()], key=lambda sample: (sample.time_s, sample.energy_j))
    return Timeline(device=meter.device, meter=meter.name, period_s=meter.sampled_s, samples=tuple(joined))


def window_readings(
    edges: Sequence[Sequence[Edge]], meters: Sequence[Meter], origin_s: float
) -> tuple[WindowReadings, ...]:
    """Write down the readings at every window's edges, of every scored meter."""

    def point(reading: Reading | None) -> Point | None:
        return None if reading is None else Point(time_s=reading.time_s - origin_s, energy_j=reading.energy_j)

    return tuple(
        WindowReadings(window=index, device=meter.device, start=point(start), stop=point(stop))
        for index, window in enumerate(edges)
        for meter, (start, stop) in zip(meters, window, strict=False)
    )


def watched(meters: Sequence[Meter], window_s: float, ours: Callable[[], set[int]] = set) -> tuple[WatchedMeter, ...]:
    """Wrap meters so that every window holds several samples, at most twenty a second."""
    period_s = min(max(window_s / 20, 0.05), 0.25)
    return tuple(WatchedMeter(meter, period_s, ours) for meter in meters)
