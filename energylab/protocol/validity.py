"""Whether a window can be believed: every reason why not, and every mark of one that can, by name.

A new reason is one line in `REASONS` and one in the function below that sees it: `span_reasons` (what a counter said),
`state_reasons` (what a device said) or `failure_reasons` (what queries raised).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from energylab import errors
from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading
from energylab.protocol import Settings
from energylab.record import DeviceState, QueryFailure

#: Every reason a window or an idle level can be invalid for, and what it means.
REASONS = {
    "counter_stuck": "the counter did not step during the window",
    "counter_jumped": "the counter stepped further, or backward, than the device can have made it",
    "negative_energy": "the counter went backwards",
    "counter_reset": "the counter started again from zero",
    "zero_reading": "the counter read exactly zero",
    "above_power_limit": "the mean power is above the board's limit, or above all that was seen in the warm-up",
    "below_idle": "the mean power is below the idle power",
    "too_few_ticks": "the error bound is too wide for the stated precision: lengthen window_s",
    "device_lost": "the device stopped answering",
    "permission_denied": "the counter may not be read",
    "meter_failed": "the meter failed",
    "state_unknown": "the device could not be asked for heat, slowdowns and other processes",
    "co_tenant": "another process was on the device",
    "process_stopped": "this process was stopped, or got no processor, for two seconds or longer",
    "thermal_slowdown": "the device slowed down because of heat",
    "power_brake": "the device slowed down because of an external power brake",
    "hardware_slowdown": "the device's hardware slowed it down",
    "query_failed": "a query raised an error",
    "not_steady": "the load on the server did not settle: more or less work was done than is credited",
    "out_of_memory": "a query ran out of memory",
    "server_running": "a server had its model on the device before the session began",
}

#: What is shown of a valid window wherever its figure is.
MARKS = {
    "busy_host": "other work was on the processor: an estimate from processor time is then off",
    "children_missed": "a child process began in the window and outlived it: its processor time is not counted",
    "few_ticks": "the error bound is wider than max_relative_bound: the protocol does not lengthen windows",
    "not_finite": "the model's outputs were not finite (NaN or infinity): its answers mean nothing",
    "truncated": "input was cut to the model's limit",
}

#: Reasons that no further try can change: the session ends with what it has.
HOPELESS = ("device_lost", "permission_denied", "counter_stuck")

#: What a meter's error is called, where it is none of its own.
_ERRORS = {
    errors.DeviceLostError: "device_lost",
    errors.MeterPermissionError: "permission_denied",
    errors.CounterStuckError: "counter_stuck",
    errors.CounterJumpError: "counter_jumped",
}


#: Two readings of one scored meter around one window; None in place of one that failed.
Edges = tuple[Reading | None, Reading | None]


@dataclass(frozen=True)
class Span:
    """What one meter gave for one stretch of time: two readings, or an error in place of one."""

    meter: Meter
    start: Reading | MeterError
    stop: Reading | MeterError
    edge_error_s: float  # longest time an edge can be off
    edges_w: tuple[float, ...] = ()  # power seen at the edges
    waiting_s: float = 0.0  # while no query ran, because the edges waited for a step of the counter
    rest_w: float | None = None  # power meanwhile; None: not known, the largest is taken

    @property
    def error(self) -> MeterError | None:
        return next((edge for edge in (self.start, self.stop) if isinstance(edge, MeterError)), None)

    @property
    def edges(self) -> Edges:
        return tuple(None if isinstance(edge, MeterError) else edge for edge in (self.start, self.stop))

    @property
    def duration_s(self) -> float | None:
        return None if self.error else self.stop.time_s - self.start.time_s

    @property
    def energy_j(self) -> float | None:
        return None if self.error else self.stop.energy_j - self.start.energy_j

    @property
    def power_w(self) -> float | None:
        """Largest power seen around the edges, the mean between them included."""
        mean = (self.energy_j / self.duration_s,) if self.duration_s else ()
        return max(self.edges_w + mean, default=None)

    @property
    def reading_bound_j(self) -> float | None:
        """Largest modelled error of reading: at each edge one step (plus latency) at the largest power, and two quanta.

        None for estimates: their error is not that of reading a counter.
        """
        if self.error or self.power_w is None or self.meter.kind == "estimated":
            return None
        return 2 * self.edge_error_s * self.power_w + 2 * self.meter.quantum_j

    @property
    def bound_j(self) -> float | None:
        """Largest modelled error of the queries' energy: that of reading, and what was drawn while no query ran."""
        if self.reading_bound_j is None:
            return None
        return self.reading_bound_j + self.waiting_s * (self.power_w if self.rest_w is None else self.rest_w)


def span_reasons(
    span: Span, settings: Settings, idle_w: float | None = None, believed_w: float | None = None
) -> list[str]:
    """Return every reason not to believe one scored meter's difference.

    `idle_w` is the least power of the device under this phase, `believed_w` the largest where it tells no limit.
    """
    if span.error:
        return [next((name for kind, name in _ERRORS.items() if isinstance(span.error, kind)), "meter_failed")]
    if span.stop.energy_j == 0 and span.start.energy_j > 0:
        return ["zero_reading"]
    limit_w = span.meter.power_limit_w or believed_w
    if span.energy_j < 0:
        # after a reset the counter holds at most what the device can have drawn since
        most_j = (limit_w or float("inf")) * span.duration_s
        return ["counter_reset" if span.stop.energy_j <= min(most_j, span.start.energy_j / 2) else "negative_energy"]
    if span.energy_j == 0:  # an estimate of no processor time is no failure
        return [] if span.meter.kind == "estimated" else ["counter_stuck"]
    bound_j = span.reading_bound_j or 0.0
    least_w, most_w = ((span.energy_j + sign * bound_j) / span.duration_s for sign in (-1, 1))
    reasons = []
    if limit_w is not None and least_w > limit_w * (1 + settings.power_tolerance):
        reasons.append("above_power_limit")
    if idle_w is not None and most_w < idle_w * (1 - settings.idle_tolerance):
        reasons.append("below_idle")
    return reasons


def loose(span: Span, settings: Settings) -> bool:
    """Whether the error of reading is too wide for the stated precision."""
    return bool(span.energy_j) and (span.reading_bound_j or 0.0) / span.energy_j > settings.max_relative_bound


def device_state(device: str, before: DeviceCounters, after: DeviceCounters, duration_s: float) -> DeviceState:
    """Turn what a device said before and after a window into its state across it."""

    def grown(name: str) -> float | None:
        first, last = getattr(before, name), getattr(after, name)
        return None if first is None or last is None else max(last - first, 0.0)

    slowed = {name: grown(f"{name}_s") for name in ("power_cap", "thermal", "power_brake", "hardware_slowdown")}
    own_s, others_s = grown("own_s"), grown("others_s")
    if others_s is not None and own_s is not None:
        others_s = max(others_s - 0.04, 0.0)  # the kernel counts in hundredths of a second
        others_s = others_s / (own_s + others_s) if own_s + others_s > 0 else 0.0
    return DeviceState(
        device=device,
        temperature_c=after.temperature_c,
        sm_clock_mhz=after.sm_clock_mhz,
        memory_clock_mhz=after.memory_clock_mhz,
        **{
            f"{name}_fraction": min(seconds / duration_s, 1.0)
            for name, seconds in slowed.items()
            if seconds is not None and duration_s > 0
        },
        others_fraction=None if own_s is None else others_s,
        cotenants=tuple(sorted({*before.cotenants, *after.cotenants})),
    )


def state_reasons(state: DeviceState, settings: Settings, estimated: bool) -> list[str]:
    """Return the reasons a device's state gives; the software power cap is not one: it is normal near the limit.

    What others do on a processor is in a measurement of it; an estimate counts this session alone, and is marked.
    """
    slowed = {
        "thermal_slowdown": state.thermal_fraction,
        "power_brake": state.power_brake_fraction,
        "hardware_slowdown": state.hardware_slowdown_fraction,
    }
    reasons = [name for name, share in slowed.items() if (share or 0.0) > settings.slowdown_tolerance]
    return reasons + (["co_tenant"] if state.cotenants or (busy(state, settings) and not estimated) else [])


def busy(state: DeviceState, settings: Settings) -> bool:
    """Whether other processes used more of the processor's time than is tolerated."""
    return (state.others_fraction or 0.0) > settings.others_tolerance


def failure_reasons(failures: Sequence[QueryFailure]) -> list[str]:
    """Return the reasons failed queries give."""
    return sorted({"out_of_memory" if failure.error == "OutOfMemoryError" else "query_failed" for failure in failures})
