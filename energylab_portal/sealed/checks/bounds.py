"""Whether the error bounds follow from the meters, and the meters are what meters are.

Other checks allow for a window's bound: one that could be stated at will would switch them off.
"""

from __future__ import annotations

from energylab.protocol.window import POLL_S
from energylab.record import MeterFacts, MeterReadings, Window
from energylab_portal.sealed.checks.base import ENERGY_EPS, judged, power_limit_w, scored, valid_windows
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check

#: Slowest step of an energy counter, and the oldest reading of an integrated power sensor, in seconds.
SLOWEST_S, LATEST_S = 0.5, 2.0
#: Largest bound of a window that a bundle may hold, relative to its energy.
LOOSEST = 0.1
#: How far an instant's power may lie above a limit that is enforced over milliseconds.
PEAK = 1.5


def bounds(run: ClosedRun) -> Check:
    """Each bound is a step and a latency at each edge, at the largest power seen there, and two quanta.

    Where the edges wait for a step it is the time of a poll at each, and the wait, up to a step at each, at rest.
    """
    meters = {meter.device: meter for meter in scored(run)}
    problems = [text for meter in meters.values() for text in _odd(meter)]
    loosest = run.record.protocol.settings.get("max_relative_bound")
    if not isinstance(loosest, int | float) or not 0 < loosest <= LOOSEST:
        problems.append(f"windows may be {str(loosest)[:20]} wrong (max_relative_bound), at most {LOOSEST:g} is taken")
        loosest = LOOSEST
    names = {meter.name for meter in meters.values()}
    for window in valid_windows(run):
        parts = [part for part in window.meters if part.meter in names and part.device in meters]
        if sorted(part.device for part in parts) != sorted(meters):
            problems.append(f"window {window.index} does not hold every scored meter once")
            continue
        for part in parts:
            problems += _of_part(run, window, part, meters[part.device], loosest)
        problems += _of_window(window, parts)
    return judged("bounds", problems, "every window's error bound follows from its meters")


def _odd(meter: MeterFacts) -> list[str]:
    found = []
    if meter.update_period_s is not None and not 0 < meter.update_period_s <= SLOWEST_S:
        found.append(f"the counter of {meter.device[:40]} steps every {meter.update_period_s:g} s")
    if not 0 <= meter.latency_s <= LATEST_S or (meter.update_period_s is not None and meter.latency_s > 0):
        found.append(f"the meter of {meter.device[:40]} is {meter.latency_s:g} s late")
    return found


def _of_part(
    run: ClosedRun, window: Window, part: MeterReadings, meter: MeterFacts, loosest: float
) -> list[str]:  # fmt: skip
    where = f"window {window.index}"
    if meter.kind == "estimated":
        return [] if part.bound_j is None else [f"{where}: an estimate has no bound"]
    if part.bound_j is None or part.max_power_w is None or part.energy_j is None or window.duration_s <= 0:
        return [f"{where} states no bound"]
    found, limit_w = [], power_limit_w(run, meter)
    mean_w = part.energy_j / window.duration_s
    if part.max_power_w < mean_w * (1 - 1e-3) or (limit_w is not None and part.max_power_w > limit_w * PEAK):
        found.append(f"{where}: {part.max_power_w:.4g} W at its edges, {mean_w:.4g} W in its mean")
    stepped = meter.update_period_s is not None
    shortest_s, longest_s = (POLL_S, meter.update_period_s + 2 * POLL_S) if stepped else (0.0, meter.latency_s)
    least_j, most_j = (2 * (seconds * part.max_power_w + meter.quantum_j) for seconds in (shortest_s, longest_s))
    if not least_j * (1 - 1e-6) <= part.bound_j <= most_j * (1 + 1e-6):
        found.append(f"{where}: a bound of {part.bound_j:.4g} J, {least_j:.4g} to {most_j:.4g} J follow from the meter")
    if part.bound_j > (loosest * part.energy_j + _waiting_j(run, part, meter)) * (1 + 1e-6):
        found.append(f"{where}: {part.bound_j:.4g} J of {part.energy_j:.4g} J may be wrong, {loosest:.0%} is allowed")
    return found


def _waiting_j(run: ClosedRun, part: MeterReadings, meter: MeterFacts) -> float:
    """Return the most that is drawn while both edges wait for a step: precision is not asked of it."""
    at_rest = (level.power_w for level in run.record.idle if level.level == "weights_resident")
    rest_w = next((power_w for power_w in at_rest if power_w is not None), part.max_power_w)
    return 2 * ((meter.update_period_s or -POLL_S) + POLL_S) * min(rest_w, part.max_power_w)


def _of_window(window: Window, parts: list[MeterReadings]) -> list[str]:
    each = [part.bound_j for part in parts]
    total = None if any(bound is None for bound in each) else sum(each)
    if (total is None) != (window.bound_j is None) or (
        total is not None and abs(total - window.bound_j) > ENERGY_EPS * max(total, 1.0)
    ):
        return [f"window {window.index}: its bound is not the sum of its meters'"]
    return []
