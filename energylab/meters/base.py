"""The base class of meters: counters of joules, read together with a monotonic time."""

from __future__ import annotations

import itertools
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from energylab.clock import Clock
from energylab.errors import CounterStuckError, MeterError
from energylab.parameters import Parameters
from energylab.record import DeviceFacts, EnergyKind, MeterFacts


class Reading(NamedTuple):
    """Cumulative energy since an arbitrary origin, in joules, and the monotonic time of the reading, in seconds."""

    energy_j: float
    time_s: float


@dataclass(frozen=True)
class DeviceCounters:
    """State of a device other than energy, read between windows; None where the device does not report it.

    Fields in ``_s`` are cumulative seconds since an arbitrary origin: a window's share is a difference.
    """

    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_w: float | None = None
    power_cap_s: float | None = None
    thermal_s: float | None = None
    power_brake_s: float | None = None
    hardware_slowdown_s: float | None = None
    own_s: float | None = None  # processor time of the session's processes, on a processor
    others_s: float | None = None  # processor time of all other processes, on a processor
    cotenants: tuple[int, ...] = ()  # ids of other processes on a board
    warnings: tuple[str, ...] = ()  # since the last call: keys of `energylab.protocol.validity.WARNINGS`


class Meter(ABC):
    """A source of energy. Every meter is a counter: a window is the difference of two readings.

    Creating a meter opens nothing; `open` does. A meter that samples power integrates it in the background. A new
    meter is a module ``energylab/meters/NAME.py`` with one class ``NameMeter``, or a class in your own file.

    Attributes
    ----------
    name : str
        Name of the source (``nvml``, ``rapl`` …).
    watches : tuple of str
        Types of device whose energy it measures; only models on these can be rated by it.
    kind : EnergyKind
        Kind of its energy; a meter that wraps another has the kind of its actual source.
    device, source : str
        What it measures (a board's UUID, ``cpu``, ``package-0``), and what it reads.
    update_period_s : float or None
        Time between two steps of the counter, measured by `open` or, where its quantum hides steps, stated; None for a
        counter without visible steps.
    latency_s, quantum_j : float
        How late a change of power can appear in the counter, in seconds, the time of a slow read included; its
        resolution, in joules.
    power_limit_w, assumed_limit_w : float or None
        Largest power the device may draw, if it reports one; otherwise a limit assumed from the power in the warm-up.
    gain_error : float or None
        Relative gain error of the sensor, fixed per board; not part of a window's bound.
    """

    name: ClassVar[str]
    watches: ClassVar[tuple[str, ...]] = ()
    kind: EnergyKind
    device: str
    source: str
    update_period_s: float | None = None
    read_cost_s: float | None = None
    latency_s: float = 0.0
    quantum_j: float = 0.0
    power_limit_w: float | None = None
    assumed_limit_w: float | None = None
    gain_error: float | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()

    @classmethod
    def for_devices(cls, devices: Sequence[DeviceFacts], parameters: Parameters) -> list[Meter]:
        """Make the meters of these devices, unopened: one per device, or one for the whole machine."""
        raise MeterError(f"meter {cls.name!r} cannot be chosen by name; create it and pass it by meters=")

    @classmethod
    def unavailable(cls, devices: Sequence[DeviceFacts]) -> str | None:
        """Return why this meter cannot be used on these devices here; None when it can. Cheap: opens nothing."""
        missing = sorted({device.type for device in devices} - set(cls.watches))
        known = ", ".join(cls.watches) or "none"
        return f"it cannot measure a {' or '.join(missing)} device (its watches: {known})" if missing else None

    @abstractmethod
    def open(self) -> None:
        """Connect to the source, check that its counter moves, and measure its update period.

        Raises a `MeterError` if the source is missing or its counter does not move, a `MeterPermissionError` if it may
        not be read; the message names the command that grants access.
        """

    @abstractmethod
    def read(self) -> Reading:
        """Return cumulative joules and the time of the reading.

        Raises a `MeterError` if reading fails or gives an impossible value; the window is then invalid.
        """

    def close(self) -> None:  # noqa: B027 - most meters hold nothing
        """Release what `open` took."""

    def counters(self) -> DeviceCounters:
        """Return the state of the device other than energy."""
        return DeviceCounters()

    def edge_power_w(self) -> float | None:
        """Return the largest power since the last reading, in watts; the power limit if the meter cannot read power."""
        return self.power_limit_w

    @property
    def of_processor(self) -> bool:
        """Whether it measures a processor, which other processes use too."""
        return bool(self.watches) and ("cuda" not in self.watches or self.device == "cpu")

    def facts(self, scored: bool) -> MeterFacts:
        """Describe the meter for the record."""
        told = MeterFacts.model_fields.keys() - {"scored"}
        return MeterFacts(scored=scored, **{name: getattr(self, name) for name in told})

    def __enter__(self) -> Meter:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def wait_for_tick(meter: Meter, timeout_s: float, poll_s: float = 0.001) -> Reading:
    """Poll until the counter steps, and return the reading right after the step, exact to `poll_s`."""
    for reading in steps(meter.read, meter.clock, timeout_s, poll_s):
        return reading
    raise CounterStuckError(f"{meter.name}: the counter of {meter.device} did not step within {timeout_s:g} s")


def read_cost(meter: Meter, reads: int = 20) -> float:
    """Return the median time one read takes, in seconds of the machine's own clock (not the meter's)."""
    costs = []
    for _ in range(reads):
        start_s = time.perf_counter()
        meter.read()
        costs.append(time.perf_counter() - start_s)
    return statistics.median(costs)


def update_period(meter: Meter, count: int = 4, cap_s: float = 1.0, poll_s: float = 0.002) -> float:
    """Return the mean time between two steps of a counter, in seconds.

    If the counter steps faster than it is read, this is the time between two reads, which is too long rather than too
    short. A counter that steps fewer than twice within `cap_s` seconds is a `CounterStuckError`.
    """
    edges = list(itertools.islice(steps(meter.read, meter.clock, cap_s, poll_s), count + 1))
    if len(edges) < 2:
        often = "stepped once" if edges else "did not move"
        raise CounterStuckError(f"{meter.name}: the counter of {meter.device} {often} within {cap_s:g} s")
    return (edges[-1].time_s - edges[0].time_s) / (len(edges) - 1)


def steps(look: Callable[[], Reading], clock: Clock, cap_s: float, poll_s: float = 0.002) -> Iterator[Reading]:
    """Call `look` every `poll_s` for `cap_s` seconds, and yield the first reading after each change of energy."""
    last = look()
    deadline_s = last[1] + cap_s
    while last[1] <= deadline_s:
        clock.sleep(poll_s)
        seen = look()
        if seen[0] != last[0]:
            yield seen
        last = seen
