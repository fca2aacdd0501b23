"""Idle levels and warm-up: what the device draws at rest, and when its working power has settled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import stdev

from energylab.errors import MeterError
from energylab.meters.base import Meter, Reading, wait_for_tick
from energylab.protocol.bench import Bench
from energylab.protocol.checks import meter_reason
from energylab.protocol.settings import Settings
from energylab.record import IdleLevel, WarmUp


def _at_rest(meter: Meter, settings: Settings, level: str) -> tuple[float | None, float, str | None]:
    """Return energy, duration and reason of one meter watched at rest, from step to step where it steps."""
    try:
        start = _edge(meter)
        meter.clock.sleep(settings.idle_s)
        stop = _edge(meter)
    except MeterError as error:
        return None, settings.idle_s, meter_reason(error)
    energy_j, duration_s = stop.energy_j - start.energy_j, stop.time_s - start.time_s
    if energy_j < 0:
        return None, duration_s, "negative_energy"
    if energy_j == 0 and meter.kind != "estimated":  # an estimate of no processor time at rest is no failure
        return None, duration_s, "counter_stuck"
    return energy_j, duration_s, None


def _edge(meter: Meter) -> Reading:
    if meter.update_period_s:
        return wait_for_tick(meter, timeout_s=max(1.0, 20 * meter.update_period_s))
    return meter.read()


def idle_level(meters: list[Meter], settings: Settings, level: str) -> tuple[IdleLevel, dict[str, float]]:
    """Watch the scored meters for ``settings.idle_s`` while nothing runs.

    Devices are watched one after the other: at rest they do not depend on each other.

    Returns
    -------
    level : IdleLevel
        Power summed over the devices; None with a reason where a meter failed or saw no step.
    by_device : dict of str to float
        Idle power of each device, in watts.
    """
    seen = {meter.device: _at_rest(meter, settings, level) for meter in meters}
    reasons = tuple(dict.fromkeys(reason for _, _, reason in seen.values() if reason))
    by_device = {device: energy_j / seconds for device, (energy_j, seconds, _) in seen.items() if energy_j is not None}
    whole = len(by_device) == len(seen)
    return (
        IdleLevel(
            level=level,
            power_w=sum(by_device.values()) if whole else None,
            duration_s=max(seconds for _, seconds, _ in seen.values()),
            energy_j=sum(energy_j for energy_j, _, _ in seen.values()) if whole else None,
            reasons=reasons,
        ),
        by_device,
    )


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


def warm_up(bench: Bench) -> WarmUp:
    """Work through the phases until power and temperature are steady, and learn each phase's pace.

    Power is steady when the last third of the time spent differs from the third before by less than
    ``steady_power``, or by less than their noise; temperature when it changes by less than
    ``steady_temperature_c_per_s`` over the last third.

    Returns
    -------
    WarmUp
        With ``steady=False`` and the reason when the cap came first, or a query failed.
    """
    settings, clock = bench.settings, bench.clock
    begin, energy_begin = clock.now(), _total_j(bench)
    slice_s = max(settings.warm_up_min_s / 12, 3 * bench.step_s, 0.02)
    counts = {phase: [0, 0.0] for phase in bench.workload.phases}
    slices: list[_Slice] = []
    reason, steady = f"not steady within {settings.warm_up_max_s:g} s", False
    position, stages = 0, _stages(bench)
    slice_begin, slice_j, settled = begin, energy_begin, False
    while True:
        phase, queries = next(stages)
        try:
            batch = bench.workload.prepare(phase, queries)
            started = clock.now()
            bench.workload.run(phase)(batch.inputs)
            bench.workload.synchronize()
        except Exception as error:  # noqa: BLE001 - the windows meet the same query, and record what it says
            reason = f"query {queries[0]} failed: {type(error).__name__}: {error}"[:300]
            break
        now = clock.now()
        counts[phase][0] += len(queries)
        counts[phase][1] += now - started
        position += len(queries)
        if now - slice_begin >= slice_s:
            energy_j = _total_j(bench)
            if energy_j is not None and slice_j is not None:
                slices.append(_Slice(energy_j - slice_j, now - slice_begin, now, _temperature_c(bench)))
            slice_begin, slice_j = now, energy_j
            settled = _steady(slices, settings, bench.step_s)
        every_phase = all(count for count, _ in counts.values())
        if every_phase and now - begin >= settings.warm_up_min_s and settled:
            reason, steady = "power and temperature steady", True
            break
        if every_phase and now - begin >= settings.warm_up_max_s:
            break
    bench.pace_s.update({phase: seconds / count for phase, (count, seconds) in counts.items() if count})
    bench.work_w = _mean_power_w(slices[-3:]) if slices else None
    energy_end = _total_j(bench)
    known = energy_begin is not None and energy_end is not None and energy_end >= energy_begin
    return WarmUp(
        duration_s=clock.now() - begin,
        energy_j=energy_end - energy_begin if known else None,
        queries=position,
        steady=steady,
        reason=reason,
    )


def _stages(bench: Bench) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (phase, queries) for ever: all phases on one batch, then on the next."""
    for queries in itertools.cycle(bench.workload.cut(range(bench.workload.queries))):
        for phase in bench.workload.phases:
            yield phase, queries


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


def _total_j(bench: Bench) -> float | None:
    try:
        return sum(meter.read().energy_j for meter in bench.scored)
    except MeterError:
        return None  # unknown, and said so: the windows meet the same error


def _temperature_c(bench: Bench) -> float | None:
    try:
        temperatures = [meter.counters().temperature_c for meter in bench.scored]
    except MeterError:
        return None
    return max(temperatures) if all(t is not None for t in temperatures) else None
