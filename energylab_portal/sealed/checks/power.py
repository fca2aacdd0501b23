"""Whether the mean power of every window lies between rest and the most the device can draw."""

from __future__ import annotations

from energylab_portal.sealed.checks.base import estimate_model, judged, power_limit_w, scored, undecided, valid_windows
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check

#: How far a mean may lie beyond the limit, and below rest, before it is not believed: as in the protocol.
ABOVE, BELOW = 0.05, 0.1


def between(run: ClosedRun) -> Check:
    """Mean power against the limit, and in phases on the device against the power at rest."""
    limits = [power_limit_w(run, meter) for meter in scored(run)]
    idle_w = _idle_w(run)
    limit_w = None if not limits or any(limit is None for limit in limits) else sum(limits)
    if limit_w is None and idle_w is None:
        return undecided("power", "the record tells neither a power limit nor the power at rest")
    if idle_w is not None and limit_w is not None and idle_w > limit_w:
        return judged("power", [f"at rest it draws {idle_w:.4g} W, more than its limit of {limit_w:.4g} W"], "")
    problems = []
    for window in valid_windows(run):
        slack_w = (window.bound_j or 0.0) / window.duration_s if window.duration_s > 0 else 0.0
        mean_w = window.mean_power_w
        if mean_w is None or mean_w <= 0:
            problems.append(f"window {window.index} has no power at all")
        elif limit_w is not None and mean_w - slack_w > limit_w * (1 + ABOVE):
            problems.append(f"window {window.index}: {mean_w:.4g} W, above the limit of {limit_w:.4g} W")
        elif idle_w is not None and window.phase != "preprocess" and mean_w + slack_w < idle_w * (1 - BELOW):
            problems.append(f"window {window.index}: {mean_w:.4g} W, below the {idle_w:.4g} W at rest")
    known = f"{'?' if idle_w is None else f'{idle_w:.4g}'} to {'?' if limit_w is None else f'{limit_w:.4g}'} W"
    return judged("power", problems, f"every window's mean power lies within {known}")


def _idle_w(run: ClosedRun) -> float | None:
    """Return the power at rest: as watched before the model was there, for an estimate what its model counts."""
    if run.record.energy_kind == "estimated":
        return estimate_model(run)[1]
    return next((level.power_w for level in run.record.idle if level.level == "no_context"), None)
