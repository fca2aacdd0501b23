"""Whether a window can be believed: every reason why not, and every mark of one that can, by name.

A new reason is one line in `REASONS` and one in the function below that sees it: `reading_reasons` (what a counter
said), `state_reasons` (what a device said) or `failure_reasons` (what queries raised).
"""

from __future__ import annotations

from collections.abc import Sequence

from energylab import errors
from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading, wait_for_tick
from energylab.protocol.settings import Settings
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


#: Time between two readings while waiting for a step of the counter.
POLL_S = 0.001

#: How far the time of a reading may lie outside the call that made it.
SLACK_S = 1.0


def _check_reading(meter: Meter, reading: Reading | MeterError, before_s: float) -> None:
    """Refuse a meter, of a file of one's own perhaps, whose readings are none, or whose time is another clock's."""
    if isinstance(reading, MeterError):  # the window says so
        return
    if not isinstance(reading, Reading):
        raise MeterError(f"meter {meter.name!r}: read() returned {reading!r}; it must return energylab.meters.Reading")
    if not before_s - SLACK_S <= reading.time_s <= meter.clock.now() + SLACK_S:
        raise MeterError(
            f"meter {meter.name!r}: read() returned time_s={reading.time_s!r}, but its clock shows {before_s:.3f} s; "
            "take it from self.clock.now(), in seconds"
        )


class Watch:
    """What one meter and its device say of a stretch of time: two readings, or an error in place of one, and a state.

    `on_tick` says whether the edges of all meters wait for a step of their counters, `waiting_w` what the device draws
    while they wait, where that is known. The device's state is read at creation and at the end.
    """

    start: Reading | MeterError | None = None
    stop: Reading | MeterError | None = None
    state: DeviceState | None = None  # None: the device could not be asked
    marks: tuple[str, ...] = ()
    stopped = False  # whether this process stood still meanwhile
    _waiting_s = 0.0  # time in which no query ran

    def __init__(self, meter: Meter, on_tick: bool, waiting_w: float | None = None) -> None:
        self.meter, self._on_tick, self._waiting_w = meter, on_tick, waiting_w
        self._edges_w: list[float | None] = []  # power seen at the edges
        self._before = _counters(meter)

    def ready(self) -> None:
        """Read once: the first reading after a pause costs ten times the next one, and ends inside the window."""
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
        """Ask the device, after all readings; `work_s` is the time in which queries ran."""
        after, self.stopped = _counters(self.meter), self.meter.clock.stopped_s() > self._stopped_s
        if not self.error:
            self._edges_w.append(self.meter.edge_power_w())
            self._waiting_s = max(self.duration_s - work_s, 0.0) if self._on_tick else 0.0
        self.marks = after.marks if after else ()
        if self._before and after:
            self.state = device_state(self.meter.device, self._before, after, self.duration_s or 0.0)

    def _read(self, on_tick: bool) -> Reading | MeterError:
        """Read the meter; an error is kept as the reading, so that the window can say what happened."""
        step_s = self.meter.update_period_s
        try:
            if on_tick and step_s:
                return wait_for_tick(self.meter, timeout_s=max(1.0, 20 * step_s), poll_s=POLL_S)
            return self.meter.read()
        except MeterError as error:
            return error

    @property
    def edges(self) -> tuple[Reading | None, Reading | None]:
        """The two readings; None in place of one that failed."""
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
        """Largest power seen around the edges, the mean between them included."""
        mean_w = self.energy_j / self.duration_s if self.duration_s else None
        return max((power for power in (*self._edges_w, mean_w) if power is not None), default=None)

    @property
    def reading_bound_j(self) -> float | None:
        """Largest modelled error of reading: at each edge one step (plus latency) at the largest power, and two quanta.

        None for estimates: their error is not that of reading a counter.
        """
        if self.error or self.power_w is None or self.meter.kind == "estimated":
            return None
        step_s = self.meter.update_period_s or 0.0
        late_s = (POLL_S if self._on_tick and step_s else step_s) + self.meter.latency_s
        return 2 * late_s * self.power_w + 2 * self.meter.quantum_j

    @property
    def bound_j(self) -> float | None:
        """Largest modelled error of the queries' energy: that of reading, and what was drawn while no query ran."""
        if self.reading_bound_j is None:
            return None
        return self.reading_bound_j + self._waiting_s * (self.power_w if self._waiting_w is None else self._waiting_w)


def _counters(meter: Meter) -> DeviceCounters | None:
    try:
        return meter.counters()
    except MeterError:
        return None


def reading_reasons(
    span: Watch, settings: Settings, idle_w: float | None = None, believed_w: float | None = None
) -> list[str]:
    """Return every reason not to believe the energy that one meter gave.

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


def loose(span: Watch, settings: Settings) -> bool:
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
