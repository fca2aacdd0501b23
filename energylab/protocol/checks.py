"""Whether a window can be believed: every reason why not, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from energylab.errors import CounterStuckError, DeviceLostError, MeterError, MeterPermissionError
from energylab.meters.base import DeviceCounters, Meter, Reading
from energylab.protocol.settings import Settings
from energylab.record import DeviceState, QueryFailure

#: Every reason a window can be invalid for, and what it means.
REASONS = {
    "counter_stuck": "the counter did not step during the window",
    "negative_energy": "the counter went backwards",
    "counter_reset": "the counter started again from zero",
    "zero_reading": "the counter read exactly zero",
    "above_power_limit": "the mean power is above the board's limit",
    "below_idle": "the mean power is below the idle power",
    "too_few_ticks": "the error bound is too wide for the stated precision: lengthen window_s",
    "device_lost": "the device stopped answering",
    "permission_denied": "the counter may not be read",
    "meter_failed": "the meter failed",
    "state_unknown": "the device could not be asked for heat, slowdowns and other processes",
    "co_tenant": "another process was on the device",
    "thermal_slowdown": "the device slowed down because of heat",
    "power_brake": "the device slowed down because of an external power brake",
    "hardware_slowdown": "the device's hardware slowed it down",
    "query_failed": "a query raised an error",
    "not_steady": "the load on the server did not settle: more or less work was done than is credited",
    "out_of_memory": "a query ran out of memory",
}


@dataclass(frozen=True)
class MeterSpan:
    """What one meter gave for one window: two readings, or the error in their place."""

    meter: Meter
    start: Reading | None
    stop: Reading | None
    error: MeterError | None
    edge_error_s: float  # longest time an edge can be off
    edge_power_w: float | None  # largest power seen around the edges
    waiting_j: float = 0.0  # at most: what the device drew at rest, while the edges waited for a step of the counter

    @property
    def duration_s(self) -> float | None:
        """Time between the two readings, in seconds."""
        return None if self.start is None or self.stop is None else self.stop.time_s - self.start.time_s

    @property
    def bound_j(self) -> float | None:
        """Largest modelled error of the queries' energy: that of reading, and what was drawn while no query ran."""
        return None if self.reading_bound_j is None else self.reading_bound_j + self.waiting_j

    @property
    def reading_bound_j(self) -> float | None:
        """Largest modelled error of reading: at each edge one step (plus latency) at the largest power, and two quanta.

        None for estimates: their error is not that of reading a counter.
        """
        if self.meter.kind == "estimated" or self.edge_power_w is None or self.error is not None:
            return None
        return 2 * self.edge_error_s * self.edge_power_w + 2 * self.meter.quantum_j


def floored(meter: Meter, phase: str) -> bool:
    """Whether idle power is a floor under this phase: on a GPU that the phase works on.

    Preprocessing works on the host, and what a processor draws at rest is that of every other process, too: it may end
    before the first window.
    """
    of_processor = bool(meter.watches) and ("cuda" not in meter.watches or meter.device == "cpu")
    return phase != "preprocess" and not of_processor


def meter_reason(error: MeterError) -> str:
    """Name the reason behind a meter's error."""
    known = {
        DeviceLostError: "device_lost",
        MeterPermissionError: "permission_denied",
        CounterStuckError: "counter_stuck",
    }
    return next((reason for kind, reason in known.items() if isinstance(error, kind)), "meter_failed")


def span_reasons(span: MeterSpan, idle_w: float | None, phase: str, settings: Settings) -> list[str]:
    """Return every reason not to believe one scored meter's difference.

    Parameters
    ----------
    span : MeterSpan
        The two readings.
    idle_w : float or None
        Power of the device before the process touched it.
    phase : str
        What was done.
    settings : Settings
        The tolerances.

    Returns
    -------
    list of str
        Keys of `REASONS`; empty when nothing speaks against it.
    """
    if span.error is not None:
        return [meter_reason(span.error)]
    energy_j = span.stop.energy_j - span.start.energy_j
    if span.stop.energy_j == 0 and span.start.energy_j > 0:
        return ["zero_reading"]
    if energy_j < 0:
        # after a reset the counter holds at most what the device can have drawn since
        most_j = (span.meter.power_limit_w or float("inf")) * span.duration_s
        return ["counter_reset" if span.stop.energy_j <= min(most_j, span.start.energy_j / 2) else "negative_energy"]
    if energy_j == 0:
        return ["counter_stuck"]
    return _power_reasons(span, energy_j, idle_w if floored(span.meter, phase) else None, settings)


def _power_reasons(span: MeterSpan, energy_j: float, idle_w: float | None, settings: Settings) -> list[str]:
    bound_j = span.reading_bound_j or 0.0
    reasons = []
    limit_w = span.meter.power_limit_w
    if limit_w is not None and (energy_j - bound_j) / span.duration_s > limit_w * (1 + settings.power_tolerance):
        reasons.append("above_power_limit")
    if idle_w is not None and (energy_j + bound_j) / span.duration_s < idle_w * (1 - settings.idle_tolerance):
        reasons.append("below_idle")
    if bound_j / energy_j > settings.max_relative_bound:
        reasons.append("too_few_ticks")
    return reasons


def device_state(device: str, before: DeviceCounters, after: DeviceCounters, duration_s: float) -> DeviceState:
    """Turn what a device said before and after a window into its state across it."""

    def share(field: str) -> float | None:
        first, last = getattr(before, field), getattr(after, field)
        return (
            None
            if first is None or last is None or duration_s <= 0
            else min(max((last - first) / duration_s, 0.0), 1.0)
        )

    return DeviceState(
        device=device,
        temperature_c=after.temperature_c,
        sm_clock_mhz=after.sm_clock_mhz,
        memory_clock_mhz=after.memory_clock_mhz,
        power_cap_fraction=share("power_cap_s"),
        thermal_fraction=share("thermal_s"),
        power_brake_fraction=share("power_brake_s"),
        hardware_slowdown_fraction=share("hardware_slowdown_s"),
        cotenants=tuple(sorted({*before.cotenants, *after.cotenants})),
    )


def state_reasons(state: DeviceState, settings: Settings) -> list[str]:
    """Return the reasons a device's state gives; the software power cap is not one: it is normal near the limit."""
    slowed = {
        "thermal_slowdown": state.thermal_fraction,
        "power_brake": state.power_brake_fraction,
        "hardware_slowdown": state.hardware_slowdown_fraction,
    }
    reasons = [name for name, share in slowed.items() if share is not None and share > settings.slowdown_tolerance]
    return reasons + (["co_tenant"] if state.cotenants else [])


def failure_reasons(failures: Sequence[QueryFailure]) -> list[str]:
    """Return the reasons failed queries give."""
    return sorted({"out_of_memory" if failure.error == "OutOfMemoryError" else "query_failed" for failure in failures})
