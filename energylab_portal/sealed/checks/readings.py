"""Whether the windows are the differences of the readings they are said to be, one after the other."""

from __future__ import annotations

from itertools import pairwise

from energylab_portal.sealed.checks.base import ENERGY_EPS, TIME_EPS_S, judged, readings_of, scored, valid_windows
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check


def windows(run: ClosedRun) -> Check:
    """Energy, start and duration of every valid window follow from its readings."""
    found, devices = readings_of(run), [meter.device for meter in scored(run)]
    problems = [] if [w.index for w in run.record.windows] == list(range(len(run.record.windows))) else [
        "the windows are not numbered one after the other: one was left out, or is there twice"
    ]  # fmt: skip
    for window in valid_windows(run):
        own = found.get(window.index, [])
        if [one.device for one in own] != devices or any(one.start is None or one.stop is None for one in own):
            problems.append(f"window {window.index} lacks readings of every scored meter, or has them twice")
            continue
        energy_j = sum(one.stop.energy_j - one.start.energy_j for one in own)
        longest_s = max(one.stop.time_s - one.start.time_s for one in own)
        if abs(energy_j - window.energy_j) > ENERGY_EPS * max(abs(own[0].stop.energy_j), 1.0):
            problems.append(f"window {window.index} states {window.energy_j:.6g} J, its readings {energy_j:.6g} J")
        if abs(longest_s - window.duration_s) > TIME_EPS_S or abs(own[0].start.time_s - window.start_s) > TIME_EPS_S:
            problems.append(f"window {window.index}: its time is not that of its readings")
        stated = {part.device: part.energy_j for part in window.meters if part.meter in [m.name for m in scored(run)]}
        if any(abs((stated.get(one.device) or 0) - (one.stop.energy_j - one.start.energy_j))
               > ENERGY_EPS * max(abs(one.stop.energy_j), 1.0) for one in own):  # fmt: skip
            problems.append(f"window {window.index}: a meter's part is not that of its readings")
    return judged("readings", problems, f"{len(run.record.windows)} windows are the differences of their readings")


def counter(run: ClosedRun) -> Check:
    """One counter over the whole session: it never goes back, and no stretch of it is used twice."""
    problems = []
    for meter in scored(run):
        own = [one for one in run.readings if one.device == meter.device and one.start and one.stop]
        spans = [(one.window, one.start, one.stop) for one in own]
        for index, start, stop in spans:
            if stop.time_s <= start.time_s or stop.energy_j < start.energy_j:
                problems.append(f"window {index}: the counter or the time goes back")
        for (before, _, last), (index, first, _) in pairwise(spans):
            if index <= before or first.time_s < last.time_s or first.energy_j < last.energy_j:
                problems.append(f"window {index} begins before window {before} ended: a stretch is used twice")
    return judged("counter", problems, "one counter that only rises, and every stretch of it is used once")


def durations(run: ClosedRun) -> Check:
    """Windows are as long as the protocol asks, and fit into the time the run took."""
    record = run.record
    shortest_s = record.protocol.settings.get("window_s")
    took_s = (run.finished_utc - run.started_utc).total_seconds()
    problems = []
    if not isinstance(shortest_s, int | float):
        problems.append("the protocol's settings do not state window_s")
        shortest_s = 0.0
    for window in valid_windows(run):
        if window.duration_s < shortest_s - 1e-3:
            problems.append(
                f"window {window.index} lasts {window.duration_s:.4g} s, at least {shortest_s:g} s are asked for"
            )
    total_s = sum(window.duration_s for window in record.windows)
    if total_s > took_s + 1.0:
        problems.append(f"the windows take {total_s:.1f} s, the whole run {took_s:.1f} s")
    ends = [one.stop.time_s for one in run.readings if one.stop]
    if ends and max(ends) > took_s + 1.0:
        problems.append(f"the last reading is {max(ends):.1f} s after the first, the whole run took {took_s:.1f} s")
    if not run.started_utc <= record.created_utc <= run.finished_utc:
        problems.append("the record was made before the run began, or after it ended")
    return judged("durations", problems, f"every window lasts {shortest_s:g} s or more; the run took {took_s:.0f} s")
