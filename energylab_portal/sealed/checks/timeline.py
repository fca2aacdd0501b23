"""Whether the power timeline, sampled beside the windows, tells the same story as they do."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

from energylab.record import MeterFacts
from energylab_portal.sealed.checks.base import judged, power_limit_w, scored, timeline_of, undecided
from energylab_portal.sealed.statement import ClosedRun, Sample, Timeline
from energylab_portal.sealed.verdict import Check
from energylab_portal.sealed.watch import MAX_SAMPLES

#: How far a sensor's integral and the counter may differ over all windows together, and over one of them.
SENSOR_TOTAL, SENSOR_WINDOW = 0.05, 0.15
#: Shortest stretch, in seconds, over which a counter of processor time is exact: the kernel's own step, on two cores.
KERNEL_STEP_S = 0.02
#: Sensor samples a window needs before its own integral is looked at.
ENOUGH = 8
#: Slowest sampling of a timeline that is not full, in seconds, and the share of its samples that must be there.
SLOWEST_SAMPLES_S, ENOUGH_SAMPLES = 0.2501, 0.3


def complete(run: ClosedRun) -> Check:
    """Every scored meter has a timeline over the whole session, with every window's edges in it."""
    told, expected = ([(one.device, one.meter) for one in run.timelines], [(m.device, m.name) for m in scored(run)])
    problems = [] if told == expected else ["there is not one timeline for every scored meter"]
    for meter in scored(run):
        line = timeline_of(run, meter.device)
        if line is None or len(line.samples) < 3:
            problems.append(f"{meter.device}: there is no timeline")
            continue
        own = [one for one in run.readings if one.device == meter.device and one.start and one.stop]
        points = {(sample.time_s, sample.energy_j) for sample in line.samples}
        absent = {one.window for one in own for p in (one.start, one.stop) if (p.time_s, p.energy_j) not in points}
        problems += [f"{meter.device}: the edges of window {index} are not in the timeline" for index in sorted(absent)]
        if own and (line.samples[0].time_s > own[0].start.time_s or line.samples[-1].time_s < own[-1].stop.time_s):
            problems.append(f"{meter.device}: the timeline does not reach over all windows")
        problems += _sparse(line)
    return judged("timeline", problems, "the timeline covers the session and holds every window's edges")


def _sparse(line: Timeline) -> list[str]:
    """Say where too few samples lie: a line with holes would hide what lies in them."""
    span_s = line.samples[-1].time_s - line.samples[0].time_s
    expected = span_s / line.period_s
    if line.period_s > SLOWEST_SAMPLES_S and len(line.samples) < MAX_SAMPLES / 2:
        return [f"{line.device}: sampled every {line.period_s:g} s, at most {SLOWEST_SAMPLES_S:g} s are taken"]
    few = len(line.samples) < ENOUGH_SAMPLES * expected
    return [f"{line.device}: {len(line.samples)} samples, {expected:.0f} were to be taken"] if few else []


def steps(run: ClosedRun) -> Check:
    """Between any two points, the counter rises by no more than the device can draw, and never falls."""
    problems = []
    for meter in scored(run):
        line, limit_w = timeline_of(run, meter.device), power_limit_w(run, meter)
        if line is None:
            continue
        slack_s = (meter.update_period_s or 0.0) + meter.latency_s + KERNEL_STEP_S
        for before, after in pairwise(line.samples):
            seconds, energy_j = after.time_s - before.time_s, after.energy_j - before.energy_j
            if seconds < 0 or energy_j < -2 * meter.quantum_j:
                problems.append(f"{meter.device}: at {after.time_s:.3f} s the counter or the time goes back")
            elif limit_w is not None and energy_j > limit_w * 1.05 * (seconds + slack_s) + 2 * meter.quantum_j:
                problems.append(
                    f"{meter.device}: {energy_j:.4g} J within {seconds:.3g} s at {after.time_s:.3f} s are more than "
                    f"its {limit_w:g} W allow"
                )
        problems += [f"{meter.device}: {text}" for text in _unnatural(run, line, meter)]
    return judged("steps", problems, "between all points the counter rises as the device can draw")


def _unnatural(run: ClosedRun, line: Timeline, meter: MeterFacts) -> list[str]:
    """Say where the counter is off its own grid, or a straight line: no counter of a working device is."""
    found = []
    if meter.quantum_j >= 1e-6:
        off = [
            s for s in line.samples if abs(s.energy_j / meter.quantum_j - round(s.energy_j / meter.quantum_j)) > 0.01
        ]
        if off:
            found.append(
                f"{len(off)} of {len(line.samples)} values are no multiples of the counter's {meter.quantum_j:g} J"
            )
    for window in run.record.windows:
        inside = _between(line, window.start_s, window.start_s + window.duration_s)
        powers = [
            (b.energy_j - a.energy_j) / (b.time_s - a.time_s) for a, b in pairwise(inside) if b.time_s - a.time_s > 1e-3
        ]
        if len(powers) >= ENOUGH and max(powers) - min(powers) <= 1e-9 * max(powers):
            found.append(f"in window {window.index} the counter is a straight line")
    return found


def _between(line: Timeline, start_s: float, stop_s: float) -> list[Sample]:
    samples = line.samples
    first = bisect_left(samples, start_s, key=lambda sample: sample.time_s)
    last = bisect_right(samples, stop_s, key=lambda sample: sample.time_s)
    return list(samples[first:last])


def sensor(run: ClosedRun) -> Check:
    """The integral of a power sensor agrees with the energy of the counter, in every window and in all."""
    problems, looked = [], 0
    bounds = {window.index: window.bound_j or 0.0 for window in run.record.windows}
    for meter in scored(run):
        line = timeline_of(run, meter.device)
        sensed = [] if line is None else [sample for sample in line.samples if sample.power_w is not None]
        if len(sensed) < ENOUGH:
            if meter.name == "nvml":
                problems.append(f"{meter.device}: no power sensor beside the counter, which every such board has")
            continue
        problems += _unsensed(run, line, sensed)
        by_sensor = by_counter = slack_j = 0.0
        for one in (
            reading for reading in run.readings if reading.device == meter.device and reading.start and reading.stop
        ):
            part = _integral(sensed, one.start.time_s, one.stop.time_s)
            if part is None:
                continue
            joules, count = part
            looked += 1
            energy_j = one.stop.energy_j - one.start.energy_j
            by_sensor, by_counter = by_sensor + joules, by_counter + energy_j
            bound_j = bounds.get(one.window, 0.0)
            slack_j += bound_j / 2  # errors at the edges: they rarely all lie on one side
            if count >= ENOUGH and abs(joules - energy_j) > SENSOR_WINDOW * energy_j + bound_j:
                problems.append(f"window {one.window}: {energy_j:.5g} J by the counter, {joules:.5g} J by the sensor")
        if by_counter > 0 and abs(by_sensor - by_counter) > SENSOR_TOTAL * by_counter + slack_j:
            problems.append(f"all windows: {by_counter:.5g} J by the counter, {by_sensor:.5g} J by the sensor")
    if not looked and not problems:
        return undecided("sensor", "the meter has no power sensor beside its counter")
    return judged("sensor", problems, f"sensor and counter agree in {looked} windows")


def _unsensed(run: ClosedRun, line: Timeline, sensed: list[Sample]) -> list[str]:
    """Name windows whose stretch of the sensor is missing, and powers that are none."""
    found = [f"at {s.time_s:.2f} s the sensor says {s.power_w:.4g} W" for s in sensed if s.power_w < 0]
    times = [sample.time_s for sample in sensed]
    for window in run.record.windows:
        expected = window.duration_s / line.period_s
        count = bisect_right(times, window.start_s + window.duration_s) - bisect_left(times, window.start_s)
        if expected >= ENOUGH and count < ENOUGH_SAMPLES * expected:
            found.append(f"window {window.index}: {count} samples of the sensor, {expected:.0f} were to be taken")
    return found


def _integral(sensed: list[Sample], start_s: float, stop_s: float) -> tuple[float, int] | None:
    """Return the trapezoidal integral over [start, stop] and the samples in it; None with fewer than two."""
    first = bisect_left(sensed, start_s, key=lambda sample: sample.time_s)
    last = bisect_right(sensed, stop_s, key=lambda sample: sample.time_s)
    inside = sensed[first:last]
    if len(inside) < 2:
        return None
    total = sum((b.time_s - a.time_s) * (a.power_w + b.power_w) / 2 for a, b in pairwise(inside))
    # the ends, up to the edges, at the power nearest to them
    total += (inside[0].time_s - start_s) * inside[0].power_w + (stop_s - inside[-1].time_s) * inside[-1].power_w
    return total, len(inside)
