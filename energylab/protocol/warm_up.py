"""Idle levels and warm-up: what the device draws at rest, and when its working power has settled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import stdev

from energylab.errors import MeterError
from energylab.meters.base import Meter, Reading, wait_for_tick
from energylab.protocol import Settings, validity
from energylab.protocol.validity import MeterSpan
from energylab.protocol.window import POLL_S, Bench, state_of
from energylab.protocol.workload import size_of
from energylab.record import IdleLevel, WarmUp

#: Where a device tells no limit, so many times the power seen in the warm-up is believed.
BELIEVED = 2.0


def idle_level(meters: list[Meter], settings: Settings, level: str) -> tuple[IdleLevel, dict[str, float]]:
    """Watch the scored meters for ``settings.idle_s`` while nothing runs.

    Devices are watched one after the other: at rest they do not depend on each other. The readings pass the checks of a
    window. Returns the level, its power summed over the devices or None with the reasons, and each device's power.
    """
    spans, reasons = {}, {}
    for meter in meters:
        spans[meter.device], reasons[meter.device] = _at_rest(meter, settings)
    known = {device: span for device, span in spans.items() if not reasons[device]}
    whole = len(known) == len(spans)
    found = IdleLevel(
        level=level,
        power_w=sum(span.energy_j / span.duration_s for span in known.values()) if whole else None,
        duration_s=max((span.duration_s or settings.idle_s) for span in spans.values()),
        energy_j=sum(span.energy_j for span in known.values()) if whole else None,
        reasons=tuple(dict.fromkeys(reason for each in reasons.values() for reason in each)),
    )
    return found, {device: span.energy_j / span.duration_s for device, span in known.items()}


def _at_rest(meter: Meter, settings: Settings) -> tuple[MeterSpan, list[str]]:
    """Return what one meter gave at rest, from step to step where it steps, and the reasons not to believe it."""
    before, stopped_s = state_of(meter), meter.clock.stopped_s()
    try:
        start = _edge(meter)
        meter.clock.sleep(settings.idle_s)
        span = MeterSpan(meter, start, _edge(meter), None, POLL_S + meter.latency_s, None)
    except MeterError as error:
        span = MeterSpan(meter, None, None, error, 0.0, None)
    reasons = validity.span_reasons(span, settings, believed_w=meter.believed_w)
    reasons += ["process_stopped"] if meter.clock.stopped_s() > stopped_s else []
    after = state_of(meter)
    if span.error is None and before is not None and after is not None:
        state = validity.device_state(meter.device, before, after, span.duration_s)
        reasons += validity.state_reasons(state, settings, estimated=True)  # at rest a processor is always shared
    return span, reasons


def _edge(meter: Meter) -> Reading:
    if meter.update_period_s:
        return wait_for_tick(meter, timeout_s=max(1.0, 20 * meter.update_period_s))
    return meter.read()


def resident_already() -> IdleLevel:
    """Return the level that could not be observed: a server had its model on the device before the session began."""
    return IdleLevel(level="no_context", power_w=None, duration_s=0.0, energy_j=None, reasons=("server_running",))


@dataclass(frozen=True)
class _Slice:
    """A stretch of the warm-up."""

    energy_j: float
    duration_s: float
    stop_s: float
    temperature_c: float | None


@dataclass
class _Progress:
    """What the warm-up has seen so far."""

    slice_s: float
    begun_s: float  # of the present slice
    begun_j: float | None
    slices: list[_Slice] = field(default_factory=list)
    queries: dict[str, int] = field(default_factory=dict)  # phase -> queries asked
    seconds: dict[str, float] = field(default_factory=dict)  # phase -> time they took

    def asked(self, phase: str, queries: int, seconds: float) -> None:
        """Count queries of a phase and the time they took."""
        self.queries[phase] = self.queries.get(phase, 0) + queries
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def look(self, bench: Bench) -> None:
        """End the present slice if it is long enough."""
        now = bench.clock.now()
        if now - self.begun_s < self.slice_s:
            return
        energy_j = total_j(bench)
        if energy_j is not None and self.begun_j is not None:
            self.slices.append(_Slice(energy_j - self.begun_j, now - self.begun_s, now, _temperature_c(bench)))
        self.begun_s, self.begun_j = now, energy_j


def warm_up(bench: Bench) -> WarmUp:
    """Work through the phases until power and temperature are steady, and learn each phase's pace.

    Power is steady when the last third of the time spent differs from the third before by less than
    ``steady_power``, or by less than their noise; temperature when it changes by less than
    ``steady_temperature_c_per_s`` over the last third. Otherwise the reason says what came first.
    """
    settings, clock = bench.settings, bench.clock
    begun_s, begun_j = clock.now(), total_j(bench)
    progress = _Progress(max(settings.warm_up_min_s / 12, 3 * bench.step_s, 0.02), begun_s, begun_j)
    reason, failure, failed = f"not steady within {settings.warm_up_max_s:g} s", None, 0
    for phase, queries in _stages(bench):
        try:
            _ask(bench, progress, phase, queries)
            failed = 0
        except Exception as error:  # noqa: BLE001 - the windows meet the same query, and record what it says
            failure = failure or f"query {queries[0]} failed: {type(error).__name__}: {error}"[:300]
            failed += 1
            if failed > bench.workload.queries * len(bench.workload.phases):  # nothing works
                break
            if clock.now() - begun_s >= settings.warm_up_max_s:  # one phase never works
                break
            continue
        progress.look(bench)
        spent_s = clock.now() - begun_s
        if len(progress.queries) < len(bench.workload.phases) or spent_s < settings.warm_up_min_s:
            continue
        if _steady(progress.slices, settings, bench.step_s):
            reason = "power and temperature steady"
            break
        if spent_s >= settings.warm_up_max_s:
            break
    _learn(bench, progress)
    return spent(bench, begun_s, begun_j, sum(progress.queries.values()), failure or reason)


def spent(bench: Bench, begun_s: float, begun_j: float | None, queries: int, reason: str) -> WarmUp:
    """Describe a warm-up that ends now."""
    ended_j = total_j(bench)
    known = begun_j is not None and ended_j is not None and ended_j >= begun_j
    return WarmUp(
        duration_s=bench.clock.now() - begun_s,
        energy_j=ended_j - begun_j if known else None,
        queries=queries,
        steady=reason.endswith(" steady"),
        reason=reason,
    )


def _stages(bench: Bench) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (phase, queries) for ever: all phases on one batch, then on the next."""
    for queries in itertools.cycle(bench.workload.cut(range(bench.workload.queries))):
        for phase in bench.workload.phases:
            yield phase, queries


def _ask(bench: Bench, progress: _Progress, phase: str, queries: tuple[int, ...]) -> None:
    batch = bench.workload.prepare(phase, queries)
    if phase != "preprocess":  # rows lie in memory anyway
        bench.size_b[phase] = max(bench.size_b.get(phase, 0.0), size_of(batch.inputs) / len(queries))
    started_s = bench.clock.now()
    bench.workload.run(phase)(batch.inputs)
    bench.workload.synchronize()
    progress.asked(phase, len(queries), bench.clock.now() - started_s)


def _learn(bench: Bench, progress: _Progress) -> None:
    """Keep the pace of each phase, the working power, and what power is believed where no limit is told.

    A phase that took a share of the time drew at most the mean power over that share.
    """
    bench.pace_s.update({phase: progress.seconds[phase] / count for phase, count in progress.queries.items()})
    if not progress.slices:
        return
    bench.work_w = _mean_power_w(progress.slices[-3:])
    largest_w, all_s = max(_mean_power_w([piece]) for piece in progress.slices), sum(progress.seconds.values())
    if largest_w > 0:
        believe(bench, {phase: largest_w * all_s / seconds for phase, seconds in progress.seconds.items() if seconds})


def believe(bench: Bench, power_w: dict[str, float]) -> None:
    """Believe twice the power that was seen in each phase, where the device tells no limit."""
    if bench.scored[0].kind == "estimated":
        return
    bench.believed_w.update({phase: BELIEVED * watts for phase, watts in power_w.items()})
    for meter in bench.scored:
        meter.believed_w = max(bench.believed_w.values())


def _steady(slices: list[_Slice], settings: Settings, step_s: float) -> bool:
    """Whether the last third of the warm-up has the power of the third before it, and the temperature rests.

    Thirds grow with the time spent, so that an exponential approach is seen whatever its time constant: when two
    neighbouring thirds agree, what is still to come is far smaller than their difference. A fixed look-back would
    call any slow approach steady. Nothing is called steady before the counter can resolve it.
    """
    third = len(slices) // 3
    if third < 3:
        return False
    before, last = slices[-2 * third : -third], slices[-third:]
    mean_before, mean_last = _mean_power_w(before), _mean_power_w(last)
    # a span read between two steps at each end is off by two standard deviations of 0.82 steps
    if mean_last <= 0 or 0.82 * step_s / _span_s(last) > settings.steady_power:
        return False
    noise = 0.0 if step_s else math.hypot(_standard_error(before), _standard_error(last))
    if abs(mean_last - mean_before) > max(settings.steady_power * mean_last, 2 * noise):
        return False
    if any(piece.temperature_c is None for piece in last):
        return True
    slope = abs(last[-1].temperature_c - last[0].temperature_c) / (last[-1].stop_s - last[0].stop_s)
    return slope < settings.steady_temperature_c_per_s


def _span_s(slices: list[_Slice]) -> float:
    return sum(piece.duration_s for piece in slices)


def _mean_power_w(slices: list[_Slice]) -> float:
    return sum(piece.energy_j for piece in slices) / _span_s(slices)


def _standard_error(slices: list[_Slice]) -> float:
    return stdev(piece.energy_j / piece.duration_s for piece in slices) / math.sqrt(len(slices))


def total_j(bench: Bench) -> float | None:
    """Return the scored counters' sum; None where one cannot be read: the windows meet the same error."""
    try:
        return sum(meter.read().energy_j for meter in bench.scored)
    except MeterError:
        return None


def _temperature_c(bench: Bench) -> float | None:
    try:
        temperatures = [meter.counters().temperature_c for meter in bench.scored]
    except MeterError:
        return None
    return max(temperatures) if all(t is not None for t in temperatures) else None
