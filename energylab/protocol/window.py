"""One window: lead in, read, run whole queries, read. Nothing but the model's work lies between the readings."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading, wait_for_tick
from energylab.protocol.bench import Bench, Block
from energylab.protocol.checks import (
    MeterSpan,
    device_state,
    failure_reasons,
    span_reasons,
    state_reasons,
)
from energylab.protocol.workload import Batch, Work, failures_of
from energylab.record import DeviceState, MeterReadings, QueryFailure, Window
from energylab.tasks.base import Tokens

#: Time between two readings while waiting for a step of the counter.
POLL_S = 0.001


def measure_window(bench: Bench, block: Block, index: int, attempt: int) -> tuple[Window, list[tuple[Batch, Any]]]:
    """Measure one block of queries once.

    Parameters
    ----------
    bench : Bench
        The session's meters, workload and settings.
    block : Block
        What to run.
    index, attempt : int
        Position of the window in the session; number of the try.

    Returns
    -------
    window : Window
        Valid, or invalid with its reasons.
    answered : list of (Batch, outputs)
        What the model returned in the first replication.
    """
    batches, failures = _prepare(bench, block)
    if failures:
        bench.edges.append(())
        return _unstarted(bench, block, failures, index, attempt), []
    on_tick = _edges_on_tick(bench, block)
    before = _counters(bench)
    _lead_in(bench, block.phase, batches, on_tick)
    gc.collect()
    gc.disable()  # a collection inside the window would be charged to the model
    try:
        bench.workload.begin(block.phase, batches)
        spans, work = _between_readings(bench, block.phase, batches, on_tick)
    finally:
        gc.enable()
        bench.workload.end()
    bench.edges.append(tuple((span.start, span.stop) for span in spans[-len(bench.scored) :]))
    tokens, failures = _count(bench, block.phase, batches, work)
    work.failures += failures
    window = _judge(bench, block, spans, work, _states(bench, before, spans), index, attempt, tokens)
    return window, list(zip(batches, work.outputs, strict=False))


def _prepare(bench: Bench, block: Block) -> tuple[list[Batch], list[QueryFailure]]:
    batches, failures = [], []
    for queries in bench.workload.cut(block.queries):
        try:
            batches.append(bench.workload.prepare(block.phase, queries))
        except Exception as error:  # noqa: BLE001 - kept with the query, and makes the window invalid
            failures += failures_of(queries, error)
    return batches, failures


def _unstarted(bench: Bench, block: Block, failures: list[QueryFailure], index: int, attempt: int) -> Window:
    """The window of a block whose inputs could not be made: it has no reading."""
    return Window(
        index=index,
        run=block.run,
        phase=block.phase,
        block=block.number,
        attempt=attempt,
        queries=block.queries,
        replications=0,
        start_s=bench.clock.now() - bench.origin_s,
        duration_s=0.0,
        meters=(),
        energy_j=None,
        bound_j=None,
        failures=tuple(failures),
        valid=False,
        reasons=tuple(failure_reasons(failures)),
    )


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
    ratio = max((meter.edge_power_w() or 0.0) for meter in bench.scored) / _usual_power_w(bench)
    too_loose = 2 * bench.step_s / planned_s * max(ratio, 1.0) > settings.max_relative_bound
    return too_loose or batch_s > settings.window_s / 4


def _usual_power_w(bench: Bench) -> float:
    """Mean power while working, as the warm-up saw it; the idle power, or 1 W, where that is unknown."""
    return bench.work_w or max([*bench.idle_w.values(), 1.0])


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


def _between_readings(
    bench: Bench, phase: str, batches: Sequence[Batch], on_tick: bool
) -> tuple[list[MeterSpan], Work]:
    meters = bench.meters
    edge_power = [meter.edge_power_w() if meter.kind != "estimated" else None for meter in meters]
    bench.workload.synchronize()
    starts = [_read(meter, on_tick and meter.update_period_s) for meter in meters]
    if on_tick and bench.settings.dither:  # a start locked to the counter's steps would alias with a periodic load
        bench.clock.sleep(bench.rng.random() * bench.step_s)
    begun_s = bench.clock.now()
    work = bench.workload.work_through(phase, batches, bench.clock, bench.settings.window_s)
    work_s = bench.clock.now() - begun_s
    stops = [_read(meter, on_tick and meter.update_period_s) for meter in reversed(meters)][::-1]
    edges = zip(meters, starts, stops, edge_power, strict=True)
    spans = [_span(meter, start, stop, power, on_tick) for meter, start, stop, power in edges]
    return [replace(span, waiting_j=_waiting_j(bench, span, work_s)) for span in spans] if on_tick else spans, work


def _waiting_j(bench: Bench, span: MeterSpan, work_s: float) -> float:
    """Return what a device drew while the edges waited for a step, by its power at rest; by its largest if unknown."""
    rest_w = bench.rest_w.get(span.meter.device, span.edge_power_w)
    return 0.0 if None in (span.duration_s, rest_w) else max(span.duration_s - work_s, 0.0) * rest_w


def _read(meter: Meter, on_tick: object) -> Reading | MeterError:
    """Read a meter; an error is kept as the reading, so that the window can say what happened."""
    try:
        return wait_for_tick(meter, timeout_s=5 * meter.update_period_s, poll_s=POLL_S) if on_tick else meter.read()
    except MeterError as error:
        return error


def _span(meter: Meter, start, stop, power_before: float | None, on_tick: bool) -> MeterSpan:
    errors = [reading for reading in (start, stop) if isinstance(reading, MeterError)]
    step_s = POLL_S if on_tick and meter.update_period_s else (meter.update_period_s or 0.0)
    seen = [power for power in (power_before, None if errors else meter.edge_power_w()) if power is not None]
    if not errors and stop.time_s > start.time_s:
        seen.append((stop.energy_j - start.energy_j) / (stop.time_s - start.time_s))
    return MeterSpan(
        meter=meter,
        start=None if isinstance(start, MeterError) else start,
        stop=None if isinstance(stop, MeterError) else stop,
        error=errors[0] if errors else None,
        edge_error_s=step_s + meter.latency_s,
        edge_power_w=max(seen) if seen else None,
    )


def _counters(bench: Bench) -> dict[str, DeviceCounters | None]:
    found = {}
    for meter in bench.scored:
        try:
            found[meter.device] = meter.counters()
        except MeterError:
            found[meter.device] = None  # no state: the window cannot be judged, and says so
    return found


def _states(bench: Bench, before: dict, spans: Sequence[MeterSpan]) -> list[DeviceState]:
    after = _counters(bench)
    durations = {span.meter.device: span.duration_s or 0.0 for span in spans}
    return [
        device_state(device, before[device], after[device], durations[device])
        for device in after
        if before[device] is not None and after[device] is not None
    ]


def _count(
    bench: Bench, phase: str, batches: Sequence[Batch], work: Work
) -> tuple[dict[str, int | None], list[QueryFailure]]:
    """Count tokens of the first replication; a wrong count is a failed query, and one unknown leaves no sum."""
    counts: list[Tokens] = []
    failures = []
    for batch, outputs in zip(batches, work.outputs, strict=False):
        try:
            counts.append(bench.workload.count(phase, batch, outputs))
        except Exception as error:  # noqa: BLE001 - kept with the query, and makes the window invalid
            failures += failures_of(batch.queries, error)
    sides = {side: [getattr(counted, side) for counted in counts] for side in ("input", "output")}
    return {side: sum(each) if each and None not in each else None for side, each in sides.items()}, failures


def _judge(bench, block: Block, spans, work: Work, states, index: int, attempt: int, tokens) -> Window:
    scored = [span for span in spans if any(span.meter is meter for meter in bench.scored)]
    reasons = failure_reasons(work.failures) + work.reasons
    for span in scored:
        reasons += span_reasons(span, bench.idle_w.get(span.meter.device), block.phase, bench.settings)
    for state in states:
        reasons += state_reasons(state, bench.settings)
    judged = {state.device for state in states}
    if any(span.error is None and span.meter.device not in judged for span in scored):
        reasons.append("state_unknown")
    whole = all(span.error is None for span in scored)
    first = scored[0]
    bounds = [span.bound_j for span in scored]
    return Window(
        index=index,
        run=block.run,
        phase=block.phase,
        block=block.number,
        attempt=attempt,
        queries=block.queries,
        replications=work.replications,
        start_s=(first.start.time_s if first.start else bench.clock.now()) - bench.origin_s,
        duration_s=max((span.duration_s or 0.0) for span in scored),
        meters=tuple(_readings(span) for span in spans),
        energy_j=sum(span.stop.energy_j - span.start.energy_j for span in scored) if whole else None,
        bound_j=sum(bounds) if all(bound is not None for bound in bounds) else None,
        input_tokens=tokens["input"],
        output_tokens=tokens["output"],
        states=tuple(states),
        failures=tuple(work.failures),
        valid=not reasons,
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _readings(span: MeterSpan) -> MeterReadings:
    known = span.error is None
    step_s = span.meter.update_period_s
    return MeterReadings(
        meter=span.meter.name,
        device=span.meter.device,
        energy_j=span.stop.energy_j - span.start.energy_j if known else None,
        bound_j=span.bound_j,
        ticks=int(span.duration_s / step_s) if known and step_s else None,
        max_power_w=span.edge_power_w,
    )
