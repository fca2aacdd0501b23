"""One window: lead in, read, run whole queries, read. Nothing but the model's work lies between the readings."""

from __future__ import annotations

import gc
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from energylab.clock import Clock
from energylab.errors import MeterError, SealError
from energylab.meters.base import DeviceCounters, Meter, Reading, wait_for_tick
from energylab.protocol import Settings, validity
from energylab.protocol.validity import MeterSpan
from energylab.protocol.workload import Batch, Work, Workload, failures_of
from energylab.record import DeviceState, MeterReadings, Window
from energylab.tasks.base import Tokens

#: Time between two readings while waiting for a step of the counter.
POLL_S = 0.001

#: Two readings of one scored meter around one window; None in place of one that failed.
Edge = tuple[Reading | None, Reading | None]


@dataclass
class Bench:
    """Everything one session measures with; the last five fill as the session learns them."""

    workload: Workload
    scored: Sequence[Meter]  # open meters that give the energy: one a device, or one for all
    extra: Sequence[Meter]  # open meters that watch the same windows
    settings: Settings
    clock: Clock  # the meters' clock
    origin_s: float  # time the session's times are counted from
    rng: random.Random
    idle_w: dict[str, float] = field(default_factory=dict)  # device -> power without context
    rest_w: dict[str, float] = field(default_factory=dict)  # device -> power at rest with the model loaded
    pace_s: dict[str, float] = field(default_factory=dict)  # phase -> seconds a query, from the warm-up
    size_b: dict[str, float] = field(default_factory=dict)  # phase -> bytes of a query's inputs in memory
    believed_w: dict[str, float] = field(default_factory=dict)  # phase -> largest power where no limit is told
    work_w: float | None = None  # mean power while working, from the warm-up
    edges: list[tuple[Edge, ...]] = field(default_factory=list)  # of every window, the scored meters' readings

    @property
    def meters(self) -> list[Meter]:
        """Scored meters last: they are read closest to the work."""
        return [*self.extra, *self.scored]

    @property
    def step_s(self) -> float:
        """Longest time a change of power may stay unseen: step and latency of the slowest scored meter."""
        return max((meter.update_period_s or 0.0) + meter.latency_s for meter in self.scored)

    @property
    def stepped(self) -> bool:
        """Whether a scored counter moves in visible steps."""
        return any(meter.update_period_s for meter in self.scored)


@dataclass(frozen=True)
class Block:
    """The queries of one planned window; `keep` whether its outputs are answers to be read."""

    run: int
    phase: str
    number: int
    queries: tuple[int, ...]
    keep: bool = False


@dataclass
class _Seen:
    """What was seen of a window beside its readings."""

    work: Work
    spans: Sequence[MeterSpan] = ()
    states: Sequence[DeviceState] = ()
    tokens: Mapping[str, int | None] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    marks: Sequence[str] = ()


def measure_window(bench: Bench, block: Block, index: int, attempt: int) -> tuple[Window, list[tuple[Batch, Any]]]:
    """Measure one block of queries once: the window, and what the model returned where that is kept.

    `index` is the position of the window in the session, `attempt` the number of the try.
    """
    batches, work = _prepare(bench, block)
    if work.failures:
        bench.edges.append(())
        return _window(bench, block, index, attempt, _Seen(work)), []
    before = {meter.device: state_of(meter) for meter in bench.scored}
    on_tick = _edges_on_tick(bench, block)
    _lead_in(bench, block.phase, batches, on_tick)
    gc.collect()
    gc.disable()  # a collection inside the window would be charged to the model
    try:
        seen = _between_readings(bench, block, batches, on_tick)
    finally:
        gc.enable()
        bench.workload.end()
    bench.edges.append(tuple((span.start, span.stop) for span in seen.spans[-len(bench.scored) :]))
    after = {meter.device: state_of(meter) for meter in bench.scored}
    seen.states = _states(bench, before, after, seen.spans)
    seen.marks = [mark for found in after.values() if found is not None for mark in found.marks]
    seen.tokens = _count(bench, block.phase, batches, seen.work)
    window = _window(bench, block, index, attempt, seen)
    return window, list(zip(batches, seen.work.outputs, strict=False)) if block.keep else []


def _prepare(bench: Bench, block: Block) -> tuple[list[Batch], Work]:
    batches, work = [], Work()
    for queries in bench.workload.cut(block.queries, block.phase):
        try:
            batches.append(bench.workload.prepare(block.phase, queries))
        except Exception as error:  # noqa: BLE001 - kept with the query, and makes the window invalid
            work.failures += failures_of(queries, error)
    return batches, work


def _edges_on_tick(bench: Bench, block: Block) -> bool:
    """Whether this window begins and ends on a step of the counter.

    Dithered edges are right on average, and off by up to one step at each edge. They are kept while that is within
    the stated precision; otherwise, or where one batch is too long to be spent on a lead-in, edges wait for a step.
    The device rests meanwhile: that energy is in the window and not of its queries, and the bound says so.
    """
    settings = bench.settings
    if not bench.stepped or settings.edges == "dithered" or bench.workload.continuous:
        return False
    if settings.edges == "tick":
        return True
    batch_s = bench.pace_s.get(block.phase, 0.0) * bench.workload.batch_size
    planned_s = max(settings.window_s, bench.pace_s.get(block.phase, 0.0) * len(block.queries))
    usual_w = bench.work_w or max([*bench.idle_w.values(), 1.0])
    ratio = max((meter.edge_power_w() or 0.0) for meter in bench.scored) / usual_w
    too_loose = 2 * bench.step_s / planned_s * max(ratio, 1.0) > settings.max_relative_bound
    return too_loose or batch_s > settings.window_s / 4


def _lead_in(bench: Bench, phase: str, batches: Sequence[Batch], on_tick: bool) -> None:
    """Bring the device to its working power before the first reading, at a random time of the counter's step.

    A counter read between two steps lags by the energy since the last one. With the same power before the start as
    before the end, the two lags cancel on average; a start on idle would make the window too small.
    """
    if not bench.stepped or on_tick or not batches or bench.workload.continuous:
        return
    if bench.settings.dither:
        bench.clock.sleep(bench.rng.random() * bench.step_s)
    lead_until = bench.clock.now() + 2 * bench.step_s
    call = bench.workload.run(phase)
    position = 0
    while bench.clock.now() < lead_until:
        try:
            call(batches[position % len(batches)].inputs)
        except Exception:  # noqa: BLE001 - the window itself meets the same query, and records what it says
            break
        bench.workload.synchronize()
        position += 1


def _between_readings(bench: Bench, block: Block, batches: Sequence[Batch], on_tick: bool) -> _Seen:
    try:
        bench.workload.begin(block.phase, batches)
    except SealError:  # broken rules end the session
        raise
    except Exception as error:  # noqa: BLE001 - what was measured before is kept
        return _Seen(Work(failures=failures_of(block.queries, error)))
    meters, clock = bench.meters, bench.clock
    edge_power = [meter.edge_power_w() if meter.kind != "estimated" else None for meter in meters]
    stopped_s = clock.stopped_s()
    for meter in meters:  # the first reading after a pause costs ten times the next one, and ends inside the window
        _read(meter, False)
    starts = [_read(meter, on_tick) for meter in meters]
    begun_s = clock.now()
    work = bench.workload.work_through(block.phase, batches, clock, bench.settings.window_s, block.keep)
    work_s = clock.now() - begun_s
    stops = [_read(meter, on_tick) for meter in reversed(meters)][::-1]
    reasons = ["process_stopped"] if clock.stopped_s() > stopped_s else []
    spans = [_span(*edge, on_tick) for edge in zip(meters, starts, stops, edge_power, strict=True)]
    if on_tick:
        spans = [replace(span, waiting_j=_waiting_j(bench, span, work_s)) for span in spans]
    return _Seen(work, spans, reasons=reasons)


def _waiting_j(bench: Bench, span: MeterSpan, work_s: float) -> float:
    """Return what a device drew while the edges waited for a step, by its power at rest; by its largest if unknown."""
    rest_w = bench.rest_w.get(span.meter.device, span.edge_power_w)
    return 0.0 if None in (span.duration_s, rest_w) else max(span.duration_s - work_s, 0.0) * rest_w


def _read(meter: Meter, on_tick: bool) -> Reading | MeterError:
    """Read a meter; an error is kept as the reading, so that the window can say what happened."""
    try:
        if on_tick and meter.update_period_s:
            return wait_for_tick(meter, timeout_s=5 * meter.update_period_s, poll_s=POLL_S)
        return meter.read()
    except MeterError as error:
        return error


def _span(meter: Meter, start, stop, power_before: float | None, on_tick: bool) -> MeterSpan:
    errors = [reading for reading in (start, stop) if isinstance(reading, MeterError)]
    step_s = POLL_S if on_tick and meter.update_period_s else (meter.update_period_s or 0.0)
    powers = [power for power in (power_before, None if errors else meter.edge_power_w()) if power is not None]
    if not errors and stop.time_s > start.time_s:
        powers.append((stop.energy_j - start.energy_j) / (stop.time_s - start.time_s))
    return MeterSpan(
        meter=meter,
        start=None if isinstance(start, MeterError) else start,
        stop=None if isinstance(stop, MeterError) else stop,
        error=errors[0] if errors else None,
        edge_error_s=step_s + meter.latency_s,
        edge_power_w=max(powers, default=None),
    )


def state_of(meter: Meter) -> DeviceCounters | None:
    """Return what a device says of itself; None where it cannot be asked: its windows then say so."""
    try:
        return meter.counters()
    except MeterError:
        return None


def _states(bench: Bench, before: dict, after: dict, spans: Sequence[MeterSpan]) -> list[DeviceState]:
    durations = {span.meter.device: span.duration_s or 0.0 for span in spans}
    return [
        validity.device_state(device, before[device], after[device], durations.get(device, 0.0))
        for device in after
        if before[device] is not None and after[device] is not None
    ]


def _count(bench: Bench, phase: str, batches: Sequence[Batch], work: Work) -> dict[str, int | None]:
    """Count tokens of the first replication; a wrong count is a failed query, and one unknown leaves no sum."""
    counts: list[Tokens] = []
    for batch, outputs in zip(batches, work.outputs, strict=False):
        try:
            counts.append(bench.workload.count(phase, batch, outputs))
        except Exception as error:  # noqa: BLE001 - kept with the query, and makes the window invalid
            work.failures += failures_of(batch.queries, error)
    sides = {side: [getattr(counted, side) for counted in counts] for side in ("input", "output")}
    return {side: sum(each) if each and None not in each else None for side, each in sides.items()}


def _judge(bench: Bench, phase: str, seen: _Seen) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the reasons not to believe a window, and its marks: each once, in order."""
    settings, published = bench.settings, bench.settings.protocol != "steady"
    scored = [span for span in seen.spans if any(span.meter is meter for meter in bench.scored)]
    reasons = [*validity.failure_reasons(seen.work.failures), *seen.work.reasons, *seen.reasons]
    marks = list(seen.marks)
    for span in scored:
        idle_w = bench.idle_w.get(span.meter.device) if validity.floored(span.meter, phase) else None
        reasons += validity.span_reasons(span, settings, idle_w, bench.believed_w.get(phase))
        if span.error is None and validity.loose(span, settings):
            (marks if published else reasons).append("few_ticks" if published else "too_few_ticks")
    estimated = all(meter.kind == "estimated" for meter in bench.scored)
    for state in seen.states:
        reasons += validity.state_reasons(state, settings, estimated)
        marks += ["busy_host"] if estimated and validity.busy(state, settings) else []
    judged = {state.device for state in seen.states}
    if any(span.error is None and span.meter.device not in judged for span in scored):
        reasons.append("state_unknown")
    return tuple(dict.fromkeys(reasons)), tuple(dict.fromkeys(marks))


def _window(bench: Bench, block: Block, index: int, attempt: int, seen: _Seen) -> Window:
    """Write the window down; one whose inputs could not be made, or whose work did not begin, has no reading."""
    reasons, marks = _judge(bench, block.phase, seen)
    scored = seen.spans[-len(bench.scored) :]
    begun = next((span.start.time_s for span in scored if span.start), bench.clock.now())
    energies, bounds = ([getattr(span, name) for span in scored] for name in ("energy_j", "bound_j"))
    return Window(
        index=index,
        run=block.run,
        phase=block.phase,
        block=block.number,
        attempt=attempt,
        queries=block.queries,
        replications=seen.work.replications,
        start_s=begun - bench.origin_s,
        duration_s=max([span.duration_s or 0.0 for span in scored], default=0.0),
        meters=tuple(_readings(span) for span in seen.spans),
        energy_j=sum(energies) if scored and None not in energies else None,
        bound_j=sum(bounds) if scored and None not in bounds else None,
        input_tokens=seen.tokens.get("input"),
        output_tokens=seen.tokens.get("output"),
        states=tuple(seen.states),
        failures=tuple(seen.work.failures),
        valid=not reasons,
        reasons=reasons,
        marks=marks,
    )


def _readings(span: MeterSpan) -> MeterReadings:
    step_s = span.meter.update_period_s
    return MeterReadings(
        meter=span.meter.name,
        device=span.meter.device,
        energy_j=span.energy_j,
        bound_j=span.bound_j,
        ticks=int(span.duration_s / step_s) if span.error is None and step_s else None,
        max_power_w=span.edge_power_w,
    )
