"""Whether the power at rest and the warm-up are stretches of the power timeline, as they must be."""

from __future__ import annotations

from bisect import bisect_left

from energylab.record import IdleLevel
from energylab_portal.sealed.checks.base import judged, scored, timeline_of
from energylab_portal.sealed.statement import ClosedRun, Sample
from energylab_portal.sealed.verdict import Check

LEVELS = ("no_context", "weights_resident", "after_load")
#: How far a stated power may lie outside what the timeline shows, and energy from power times duration.
TOLERANCE, ROUNDING = 0.1, 0.15


def rest(run: ClosedRun) -> Check:
    """The three levels are there, and draw no less and no more than some stretch of the timeline of their length."""
    idle = run.record.idle
    problems = []
    if tuple(level.level for level in idle) != LEVELS:
        problems.append(f"the levels at rest are not {', '.join(LEVELS)}")
    begin_s, end_s = _windows_span(run)
    for level in idle:
        if run.record.energy_kind == "estimated" or (level.power_w is None and level.reasons):
            continue  # an estimate at rest is its model; a level that was not seen says why
        inside = (end_s, float("inf")) if level.level == "after_load" else (float("-inf"), begin_s)
        problems += _level(run, level, *inside)
    return judged("rest", problems + _warm_up(run, begin_s), "power at rest and warm-up are on the timeline")


def _windows_span(run: ClosedRun) -> tuple[float, float]:
    windows = run.record.windows
    if not windows:
        return 0.0, 0.0
    return windows[0].start_s, max(window.start_s + window.duration_s for window in windows)


def _level(run: ClosedRun, level: IdleLevel, begin_s: float, end_s: float) -> list[str]:
    name = level.level
    if level.power_w is None or level.energy_j is None or level.duration_s <= 0:
        return [f"{name}: neither a power nor why there is none"]
    if abs(level.energy_j - level.power_w * level.duration_s) > ROUNDING * abs(level.energy_j):
        return [f"{name}: {level.energy_j:.4g} J in {level.duration_s:.4g} s are not {level.power_w:.4g} W"]
    seen = [_extremes(line.samples, level.duration_s, begin_s, end_s) for line in _lines(run)]
    if not seen or None in seen:
        return [f"{name}: the timeline holds no stretch of {level.duration_s:.4g} s for it"]
    least_w, most_w = (sum(values) for values in zip(*seen, strict=True))
    if not least_w * (1 - TOLERANCE) <= level.power_w <= most_w * (1 + TOLERANCE):
        return [f"{name}: {level.power_w:.4g} W, the timeline shows {least_w:.4g} to {most_w:.4g} W"]
    return []


def _lines(run: ClosedRun) -> list:
    found = [timeline_of(run, meter.device) for meter in scored(run)]
    return [line for line in found if line is not None]


def _extremes(
    samples: tuple[Sample, ...], duration_s: float, begin_s: float, end_s: float
) -> tuple[float, float] | None:
    """Return the least and the largest mean power over stretches of about `duration_s`, in watts; None without any.

    A stretch runs from one sample to the last within `duration_s`, and must reach over half of it.
    """
    inside = [sample for sample in samples if begin_s <= sample.time_s <= end_s]
    powers = []
    for first, sample in enumerate(inside):
        last = bisect_left(inside, sample.time_s + duration_s + 1e-9, lo=first, key=lambda one: one.time_s) - 1
        seconds = inside[last].time_s - sample.time_s
        if seconds >= duration_s / 2:
            powers.append((inside[last].energy_j - sample.energy_j) / seconds)
    return (min(powers), max(powers)) if powers else None


def _warm_up(run: ClosedRun, begin_s: float) -> list[str]:
    warm_up, least_s = run.record.warm_up, run.record.parameters.get("warm_up_min_s")
    found = []
    if isinstance(least_s, int | float) and warm_up.duration_s < least_s - 1e-3:
        found.append(f"the warm-up lasts {warm_up.duration_s:.4g} s, at least {least_s:g} s are asked for")
    if warm_up.queries < 1:
        found.append("nothing was asked in the warm-up")
    lines = _lines(run)
    if warm_up.energy_j is None or not lines or not all(line.samples for line in lines):
        return found
    begin = [max((s for s in line.samples if s.time_s <= begin_s), key=lambda s: s.time_s, default=None)
             for line in lines]  # fmt: skip
    if None in begin:
        return [*found, "the timeline begins after the first window"]
    before_s = begin_s - min(line.samples[0].time_s for line in lines)
    before_j = sum(stop.energy_j - line.samples[0].energy_j for stop, line in zip(begin, lines, strict=True))
    if warm_up.duration_s > before_s + 1e-3 or not 0 <= warm_up.energy_j <= before_j * 1.001:
        found.append(
            f"the warm-up is said to take {warm_up.energy_j:.4g} J in {warm_up.duration_s:.4g} s; before the first "
            f"window lie {before_j:.4g} J in {before_s:.4g} s"
        )
    return found
