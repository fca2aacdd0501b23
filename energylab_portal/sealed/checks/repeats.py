"""Whether the runs repeat as hardware repeats: never the same twice, never far apart."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import combinations, islice, pairwise

from energylab.energy import totals
from energylab.record import SCORED_PHASES, Window
from energylab_portal.sealed.checks.base import judged, scored, timeline_of, undecided, valid_windows
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check

#: Largest spread of the runs' energies, (largest - smallest) / mean: a board under one load repeats this closely.
LARGEST_SPREAD = 0.15
#: Two samplings of real time do not have the same steps to this, in seconds, for most of a window: even a quiet
#: machine wakes a sleeper some microseconds apart.
SAME_STEP_S = 1e-7
ENOUGH = 8
#: Two windows do not last equally long to this, in seconds, but by a chance that grows with the number of pairs.
SAME_LENGTH_S = 1e-9
#: Most pairs of windows that are compared.
MAX_PAIRS = 20_000


def copied(run: ClosedRun) -> Check:
    """No window is another one's copy: not its figures, not its time steps, not its shape scaled."""
    prints = {window.index: _print(run, window) for window in valid_windows(run)}
    by_phase: dict[str, list[Window]] = defaultdict(list)
    for window in valid_windows(run):
        by_phase[window.phase].append(window)
    problems = []
    for windows in by_phase.values():
        pairs = list(islice(combinations(windows, 2), MAX_PAIRS))
        problems += _equally_long(pairs)
        for a, b in pairs:
            if _same(prints[a.index][0], prints[b.index][0], SAME_STEP_S):
                problems.append(f"windows {a.index} and {b.index} were sampled at the same moments")
            elif _proportional(prints[a.index][1], prints[b.index][1]):
                problems.append(f"the power in window {b.index} is that of window {a.index}, scaled")
    if not by_phase:
        return undecided("copies", "there are no valid windows to compare")
    return judged("copies", problems, "no window is a copy of another")


def _equally_long(pairs: list[tuple[Window, Window]]) -> list[str]:
    """Name pairs that last equally long to the nanosecond, unless there are so many pairs that chance makes one."""
    equal = [(a, b) for a, b in pairs if abs(a.duration_s - b.duration_s) < SAME_LENGTH_S]
    differences = sorted(abs(a.duration_s - b.duration_s) for a, b in pairs)
    usual_s = max(differences[len(differences) // 2], SAME_LENGTH_S) if differences else SAME_LENGTH_S
    expected = len(pairs) * SAME_LENGTH_S / usual_s
    if len(equal) <= (0 if expected < 1e-3 else 2):
        return []
    return [f"windows {a.index} and {b.index} last equally long to the nanosecond" for a, b in equal]


def _print(run: ClosedRun, window: Window) -> tuple[list[float], list[float]]:
    """Return the steps in time and in energy of the first meter's samples within a window."""
    meters = scored(run)
    line = timeline_of(run, meters[0].device) if meters else None
    if line is None:
        return [], []
    first = bisect_left(line.samples, window.start_s, key=lambda sample: sample.time_s)
    last = bisect_right(line.samples, window.start_s + window.duration_s, key=lambda sample: sample.time_s)
    inside = line.samples[first:last][:200]
    return [b.time_s - a.time_s for a, b in pairwise(inside)], [b.energy_j - a.energy_j for a, b in pairwise(inside)]


def _same(a: list[float], b: list[float], within: float) -> bool:
    count = min(len(a), len(b))
    return count >= ENOUGH and sum(abs(x - y) <= within for x, y in zip(a, b, strict=False)) >= 0.8 * count


def _proportional(a: list[float], b: list[float]) -> bool:
    """Whether b is a times one factor, to a millionth, in nearly every step."""
    count = min(len(a), len(b))
    if count < ENOUGH or len({round(x, 9) for x in a}) < 3:
        return False
    total_a, total_b = sum(a[:count]), sum(b[:count])
    if total_a <= 0 or total_b <= 0:
        return False
    factor = total_b / total_a
    close = sum(abs(y - factor * x) <= 1e-6 * factor * max(x, 1e-9) for x, y in zip(a, b, strict=False))
    return close >= 0.9 * count


def scatter(run: ClosedRun) -> Check:
    """The scored energy of the runs lies together as it does on hardware under one load.

    An estimate is not judged: it follows whatever else the machine does, so no spread of it is too large to be true.
    """
    energies: dict[int, float] = defaultdict(float)
    for total in totals(run.record):
        if total.phase in SCORED_PHASES and total.energy_j is not None:
            energies[total.run] += total.energy_j
    if len(energies) < 2:
        return undecided("repeats", "one run has no repeats")
    values = list(energies.values())
    mean_j = sum(values) / len(values)
    if mean_j <= 0:
        return judged("repeats", ["the runs have no energy"], "")
    spread = (max(values) - min(values)) / mean_j
    said = f"the energies of {len(values)} runs spread by {spread:.1%} of their mean"
    if run.record.energy_kind == "estimated":
        return undecided("repeats", f"{said}; not judged, since an estimate follows all that the machine does")
    if spread > LARGEST_SPREAD:
        return judged("repeats", [f"{said}, more than the {LARGEST_SPREAD:.0%} that a board under one load does"], "")
    return judged("repeats", [], said)
