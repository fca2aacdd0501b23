"""Whether the queries were repeated as often as is stated: the energy of a query is a window's, divided by that."""

from __future__ import annotations

from collections import defaultdict

from energylab.record import Window
from energylab_portal.sealed.checks.base import judged, scored, undecided, valid_windows
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check

#: Time a window may take beside its repetitions (readings, the last answer), in seconds.
BESIDE_S = 0.05
#: How much longer than the mean one repetition may take.
SLOWEST = 2.0
#: Largest spread of the runs' durations of one phase, (largest - smallest) / mean: the same queries, on one board. The
#: host prepares the inputs beside whatever else it does.
LARGEST_SPREAD, LARGEST_SPREAD_HOST = 0.3, 1.0


def pace(run: ClosedRun) -> Check:
    """A window ends with the first repetition after its time is up: more of them would not have been begun.

    Boards alone are judged: a processor does what else the machine asks of it, so that one repetition may take long.
    """
    if not any(device.type == "cuda" for device in run.record.devices):
        return undecided("pace", "a processor does what else the machine asks of it, so its pace is not judged")
    shortest_s = run.record.protocol.settings.get("window_s")
    shortest_s = shortest_s if isinstance(shortest_s, int | float) else 0.0
    problems = []
    for window in valid_windows(run):
        waits_s = _waits_s(run, window)
        one_s = window.duration_s / window.replications
        if window.replications > 1 and window.duration_s > shortest_s + SLOWEST * one_s + BESIDE_S + waits_s:
            problems.append(
                f"window {window.index}: {window.replications} repetitions of {one_s:.3g} s in "
                f"{window.duration_s:.4g} s; it would have ended after {shortest_s:g} s"
            )
    problems += _uneven(run)
    return judged("pace", problems, "windows end when their time is up, and the runs take equally long")


def _waits_s(run: ClosedRun, window: Window) -> float:
    """Return how long edges on steps of the counter wait: a step at each end, and as long again for the dither.

    Edges that do not wait are right to a step of the counter, and their bound says so.
    """
    steps_s = {meter.device: meter.update_period_s or 0.0 for meter in scored(run)}
    waits = [
        3 * steps_s.get(part.device, 0.0)
        for part in window.meters
        if part.bound_j is not None and part.bound_j < steps_s.get(part.device, 0.0) * (part.max_power_w or 0.0)
    ]
    return max(waits, default=0.0)


def _uneven(run: ClosedRun) -> list[str]:
    taken: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for window in valid_windows(run):
        taken[window.phase][window.run] += window.duration_s / window.replications
    found = []
    for phase, runs in taken.items():
        mean_s = sum(runs.values()) / len(runs)
        most = LARGEST_SPREAD_HOST if phase == "preprocess" else LARGEST_SPREAD
        if mean_s > 0 and (max(runs.values()) - min(runs.values())) / mean_s > most:
            found.append(
                f"{phase[:20]}: the runs take {min(runs.values()):.3g} to {max(runs.values()):.3g} s for the same "
                "queries"
            )
    return found
