"""What every meter is: a counter of joules with a monotonic time beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from energylab.clock import Clock
from energylab.errors import CounterStuckError, MeterError
from energylab.parameters import Parameters
from energylab.record import DeviceFacts, EnergyKind, MeterFacts


@dataclass(frozen=True)
class Reading:
    """One reading of a counter.

    Attributes
    ----------
    energy_j : float
        Cumulative energy since an arbitrary origin, in joules.
    time_s : float
        Monotonic time of the reading, in seconds.
    """

    energy_j: float
    time_s: float


@dataclass(frozen=True)
class DeviceCounters:
    """What a device tells of itself beside energy, read between windows.

    The four ``*_s`` fields are cumulative seconds since an arbitrary origin: a window's share is a difference.
    None means the device does not say.
    """

    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_w: float | None = None
    power_cap_s: float | None = None
    thermal_s: float | None = None
    power_brake_s: float | None = None
    hardware_slowdown_s: float | None = None
    cotenants: tuple[int, ...] = ()


class Meter(ABC):
    """A source of energy. Every meter is a counter: a window is the difference of two readings.

    Creating a meter touches nothing; `open` does. A meter that samples power integrates it in the background, so
    that it is a counter too.

    Attributes
    ----------
    name : str
        Name of the source (``nvml``, ``rapl`` …).
    kind : EnergyKind
        Kind of the energy it gives; a meter that wraps another has the kind of its actual source.
    device : str
        What it watches: a board's UUID, ``cpu``, ``package-0``.
    update_period_s : float or None
        Time between two steps of the counter, measured by `open`; None for a counter without visible steps.
    latency_s : float
        How late a change of power can appear in the counter.
    quantum_j : float
        Resolution of the counter.
    power_limit_w : float or None
        Largest power the device may draw, where known.
    gain_error : float or None
        Relative gain error of the sensor, fixed per board; not part of a window's bound.
    watches : tuple of str
        Types of device whose energy it can give: a meter may be scored on these alone.
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
    gain_error: float | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()

    @classmethod
    def for_devices(cls, devices: Sequence[DeviceFacts], parameters: Parameters) -> list[Meter]:
        """Make the meters of these devices, unopened: one a device, or one for the whole machine.

        Raises
        ------
        MeterError
            If this kind of meter cannot be chosen by its name.
        """
        raise MeterError(f"meter {cls.name!r} cannot be chosen by name; create it and hand it over")

    @classmethod
    def why_not(cls, devices: Sequence[DeviceFacts]) -> str | None:
        """Say why this meter cannot be used on these devices here; None when it can. Cheap: opens nothing."""
        blind = sorted({device.type for device in devices} - set(cls.watches))
        return f"it does not see the energy of a {' or '.join(blind)} device" if blind else None

    @abstractmethod
    def open(self) -> None:
        """Connect to the source and measure its update period.

        Raises
        ------
        MeterPermissionError
            If the counter exists but may not be read; the message names the command that grants it.
        MeterError
            If the source is not there.
        """

    @abstractmethod
    def read(self) -> Reading:
        """Return cumulative joules and the time they were read at.

        Raises
        ------
        DeviceLostError
            If the device no longer answers.
        MeterError
            If the reading failed otherwise.
        """

    def close(self) -> None:  # noqa: B027 - most meters hold nothing
        """Release what `open` took."""

    def counters(self) -> DeviceCounters:
        """Return what the device says of itself beside energy; all None where it says nothing."""
        return DeviceCounters()

    def edge_power_w(self) -> float | None:
        """Return the largest power seen just now, in watts; the power limit if the meter cannot see power."""
        return self.power_limit_w

    def facts(self, scored: bool) -> MeterFacts:
        """Describe the meter for the record."""
        return MeterFacts(
            name=self.name,
            source=self.source,
            kind=self.kind,
            device=self.device,
            scored=scored,
            update_period_s=self.update_period_s,
            read_cost_s=self.read_cost_s,
            latency_s=self.latency_s,
            quantum_j=self.quantum_j,
            gain_error=self.gain_error,
            notes=self.notes,
        )

    def __enter__(self) -> Meter:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def wait_for_tick(meter: Meter, timeout_s: float, poll_s: float = 0.001) -> Reading:
    """Poll until the counter steps, and return the reading right after the step.

    Parameters
    ----------
    meter : Meter
        An open meter.
    timeout_s : float
        Longest time to wait.
    poll_s : float, default 0.001
        Time between two readings: the residual uncertainty of the edge.

    Returns
    -------
    Reading
        The first reading that differs from the one at the call.

    Raises
    ------
    CounterStuckError
        If the counter did not step within `timeout_s`.
    """
    first = meter.read()
    while True:
        meter.clock.sleep(poll_s)
        reading = meter.read()
        if reading.energy_j != first.energy_j:
            return reading
        if reading.time_s - first.time_s > timeout_s:
            raise CounterStuckError(f"{meter.name}: the counter of {meter.device} did not step within {timeout_s:g} s")
