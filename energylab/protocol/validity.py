"""Whether a window is valid: all reasons for invalidity, and all warnings on valid windows, by name.

A new reason is one line in `REASONS` and one in the function below that detects it: `reading_reasons` (from counter
readings), `state_reasons` (from the device's state) or `failure_reasons` (from errors that queries raised).
"""

from __future__ import annotations

from collections.abc import Sequence

from energylab import errors
from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading, wait_for_tick
from energylab.protocol.settings import Settings
from energylab.record import DeviceState, QueryFailure

#: Every reason that makes a window or an idle level invalid, and what it means.
REASONS = {
    "counter_stuck": "the counter did not step during the window",
    "counter_jumped": "the counter moved backwards, or by more energy than the device can have used",
    "negative_energy": "the counter went backwards",
    "counter_reset": "the counter started again from zero",
    "zero_reading": "the counter read exactly zero",
    "above_power_limit": "the mean power is above the board's limit (if unknown: twice the warm-up's largest power)",
    "below_idle": "the mean power is below the idle power",
    "too_few_ticks": "the error bound is wider than max_relative_bound: lengthen window_s",
    "device_lost": "the device stopped answering",
    "permission_denied": "no permission to read the counter",
    "meter_failed": "the meter failed",
    "state_unknown": "temperature, slowdowns and other processes could not be read from the device",
    "co_tenant": "another process was on the device",
    "process_stopped": "this process was stopped, or not scheduled, for two seconds or longer",
    "thermal_slowdown": "the device slowed down because of heat",
    "power_brake": "the device slowed down because of an external power brake",
    "hardware_slowdown": "the device's hardware slowed it down",
    "query_failed": "a query raised an error",
    "not_steady": "the load on the server did not settle: the work done in the window is not the work counted for it",
    "out_of_memory": "a query ran out of memory",
    "server_running": "the server had loaded its model before the session began",
}

#: Warnings on valid windows, shown wherever the figure is shown. Records store their names in the field `marks`.
WARNINGS = {
    "busy_host": "other programs used the processor: an estimate may be many times too high; close them, measure again",
    "children_missed": "a child process started in the window and outlived it: its processor time is not counted",
    "few_ticks": "the error bound is wider than max_relative_bound: the protocol does not lengthen windows",
    "not_finite": "the model's outputs were not finite (NaN or infinity): its answers are meaningless",
    "truncated": "input was cut to the model's limit",
}

#: Reasons that another attempt cannot remove: the session ends and keeps what was measured.
UNRECOVERABLE = ("device_lost", "permission_denied", "counter_stuck")

#: The reason for each kind of meter error; every other error is "meter_failed".
_ERRORS = {
    errors.DeviceLostError: "device_lost",
    errors.MeterPermissionError: "permission_denied",
    errors.CounterStuckError: "counter_stuck",
    errors.CounterJumpError: "counter_jumped",
}


#: Time between two readings while waiting for a step of the counter.
POLL_S = 0.001

#: How far the time of a reading may lie outside the call of `read`.
SLACK_S = 1.0


def _check_reading(meter: Meter, reading: Reading | MeterError, before_s: float) -> None:
    """Refuse a meter whose `read` returns no Reading, or takes the time from another clock."""
    if isinstance(reading, MeterError):  # becomes a reason of the window
        return
    if not isinstance(reading, Reading):
        raise MeterError(f"meter {meter.name!r}: read() returned {reading!r}; it must return energylab.meters.Reading")
    if not before_s - SLACK_S <= reading.time_s <= meter.clock.now() + SLACK_S:
        raise MeterError(
            f"meter {meter.name!r}: read() returned time_s={reading.time_s!r}, but its clock shows {before_s:.3f} s; "
            "take it from self.clock.now(), in seconds"
        )


class Watch:
    """One meter over one window: the readings at its two edges (or the errors raised there), and the device's state.

    With `on_tick`, readings are taken right after a step of the counter; `waiting_w` is the power of the device during
    that wait, if known. The device's state is read when the watch is created and at the end.
    """

    start: Reading | MeterError | None = None
    stop: Reading | MeterError | None = None
    state: DeviceState | None = None  # None: it could not be read
    warnings: tuple[str, ...] = ()
    stopped = False  # whether this process was stopped during the window
    _waiting_s = 0.0  # time without a running query

    def __init__(self, meter: Meter, on_tick: bool, waiting_w: float | None = None) -> None:
        self.meter, self._on_tick, self._waiting_w = meter, on_tick, waiting_w
        self._edges_w: list[float | None] = []  # power seen at the edges
        self._before = _counters(meter)

    def ready(self) -> None:
        """Read once before the window: the first reading after a pause takes ten times as long as later ones."""
        self._edges_w = [None if self.meter.kind == "estimated" else self.meter.edge_power_w()]
        self._stopped_s = self.meter.clock.stopped_s()
        before_s = self.meter.clock.now()
        _check_reading(self.meter, self._read(False), before_s)

    def begin(self) -> None:
        """Take the first reading."""
        self.start = self._read(self._on_tick)

    def end(self) -> None:
        """Take the last reading."""
        self.stop = self._read(self._on_tick)

    def ask(self, work_s: float) -> None:
        """Read the device's state, after all readings; `work_s` is the time during which queries ran."""
        after, self.stopped = _counters(self.meter), self.meter.clock.stopped_s() > self._stopped_s
        if not self.error:
            self._edges_w.append(self.meter.edge_power_w())
            self._waiting_s = max(self.duration_s - work_s, 0.0) if self._on_tick else 0.0
        self.warnings = after.warnings if after else ()
        if self._before and after:
            self.state = device_state(self.meter.device, self._before, after, self.duration_s or 0.0)

    def _read(self, on_tick: bool) -> Reading | MeterError:
        """Read the meter; an error is kept in place of the reading and becomes a reason of the window."""
        step_s = self.meter.update_period_s
        try:
            if on_tick and step_s:
                return wait_for_tick(self.meter, timeout_s=max(1.0, 20 * step_s), poll_s=POLL_S)
            return self.meter.read()
        except MeterError as error:
            return error

    @property
    def edges(self) -> tuple[Reading | None, Reading | None]:
        """The two readings; None for a failed one."""
        return tuple(None if isinstance(edge, MeterError) else edge for edge in (self.start, self.stop))

    @property
    def error(self) -> MeterError | None:
        return next((edge for edge in (self.start, self.stop) if isinstance(edge, MeterError)), None)

    @property
    def duration_s(self) -> float | None:
        return None if self.error else self.stop.time_s - self.start.time_s

    @property
    def energy_j(self) -> float | None:
        return None if self.error else self.stop.energy_j - self.start.energy_j

    @property
    def power_w(self) -> float | None:
        """Largest power seen around the edges, or the window's mean power if that is larger."""
        mean_w = self.energy_j / self.duration_s if self.duration_s else None
        return max((power for power in (*self._edges_w, mean_w) if power is not None), default=None)

    @property
    def reading_bound_j(self) -> float | None:
        """Bound on the reading error: per edge, one step plus latency at the largest power, and one quantum.

        None for estimates, whose error is of another kind.
        """
        if self.error or self.power_w is None or self.meter.kind == "estimated":
            return None
        step_s = self.meter.update_period_s or 0.0
        late_s = (POLL_S if self._on_tick and step_s else step_s) + self.meter.latency_s
        return 2 * late_s * self.power_w + 2 * self.meter.quantum_j

    @property
    def bound_j(self) -> float | None:
        """Error bound of the window: the reading error, plus the energy used while no query ran."""
        if self.reading_bound_j is None:
            return None
        return self.reading_bound_j + self._waiting_s * (self.power_w if self._waiting_w is None else self._waiting_w)


def _counters(meter: Meter) -> DeviceCounters | None:
    try:
        return meter.counters()
    except MeterError:
        return None


def reading_reasons(
    span: Watch, settings: Settings, idle_w: float | None = None, assumed_limit_w: float | None = None
) -> list[str]:
    """Return every reason why the energy of one meter is invalid.

    `idle_w` is the least power possible in this phase; `assumed_limit_w` replaces a power limit that is not known.
    """
    if span.error:
        return [next((name for kind, name in _ERRORS.items() if isinstance(span.error, kind)), "meter_failed")]
    if span.stop.energy_j == 0 and span.start.energy_j > 0:
        return ["zero_reading"]
    limit_w = span.meter.power_limit_w or assumed_limit_w
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


def loose(span: Watch, settings: Settings) -> bool:
    """Whether the reading error exceeds max_relative_bound."""
    return bool(span.energy_j) and (span.reading_bound_j or 0.0) / span.energy_j > settings.max_relative_bound


def device_state(device: str, before: DeviceCounters, after: DeviceCounters, duration_s: float) -> DeviceState:
    """Return the device's state over a window, from its counters before and after."""

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
    """Return the reasons from a device's state. The software power cap is no reason: it is normal near the limit.

    A processor's counter includes other processes, so their load makes it invalid; an estimate gets a warning instead.
    """
    slowed = {
        "thermal_slowdown": state.thermal_fraction,
        "power_brake": state.power_brake_fraction,
        "hardware_slowdown": state.hardware_slowdown_fraction,
    }
    reasons = [name for name, share in slowed.items() if (share or 0.0) > settings.slowdown_tolerance]
    return reasons + (["co_tenant"] if state.cotenants or (busy(state, settings) and not estimated) else [])


def busy(state: DeviceState, settings: Settings) -> bool:
    """Whether other processes used more processor time than `others_tolerance`."""
    return (state.others_fraction or 0.0) > settings.others_tolerance


def failure_reasons(failures: Sequence[QueryFailure]) -> list[str]:
    """Return the reasons from failed queries."""
    return sorted({"out_of_memory" if failure.error == "OutOfMemoryError" else "query_failed" for failure in failures})
