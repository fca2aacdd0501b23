"""What the checks share: how they say what they found, and what of a run they all look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from energylab.record import MeterFacts, Window
from energylab_portal.sealed.statement import ClosedRun, Timeline, WindowReadings
from energylab_portal.sealed.verdict import Check

#: Rounding of times and energies on their way through JSON and through differences.
TIME_EPS_S = 1e-6
ENERGY_EPS = 1e-9


def judged(name: str, problems: Sequence[str], fine: str) -> Check:
    """Return a check that passed when there is no problem; the first three are named."""
    if not problems:
        return Check(name, True, fine)
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return Check(name, False, "; ".join(problems[:3]) + more)


def undecided(name: str, why: str) -> Check:
    """Return a check that could not be decided."""
    return Check(name, None, why)


def same(a: Any, b: Any) -> bool:
    """Tell whether two settings are the same: 1, 1.0 and true are three, and would name three cohorts."""
    return type(a) is type(b) and a == b


def scored(run: ClosedRun) -> list[MeterFacts]:
    """Return the meters that gave the energy."""
    return [meter for meter in run.record.meters if meter.scored]


def valid_windows(run: ClosedRun) -> list[Window]:
    """Return the windows that count."""
    return [window for window in run.record.windows if window.valid]


def readings_of(run: ClosedRun) -> dict[int, list[WindowReadings]]:
    """Return the readings of every window by its index."""
    found: dict[int, list[WindowReadings]] = {}
    for reading in run.readings:
        found.setdefault(reading.window, []).append(reading)
    return found


def timeline_of(run: ClosedRun, device: str) -> Timeline | None:
    """Return the timeline of one device; None where there is none."""
    return next((line for line in run.timelines if line.device == device), None)


def power_limit_w(run: ClosedRun, meter: MeterFacts) -> float | None:
    """Return the most that a meter's device can draw, in watts; None where the record does not tell.

    A board has its enforced limit. An estimate cannot exceed its own model: every core busy.
    """
    if meter.kind == "estimated":
        return estimate_model(run)[0]
    device = next((one for one in run.record.devices if one.uuid == meter.device), None)
    return None if device is None else device.power_limit_w


def estimate_model(run: ClosedRun) -> tuple[float | None, float | None]:
    """Return the most and the least power of the estimate's model, in watts; None where the record lacks its terms."""
    core_w = run.record.parameters.get("cpu_core_w")
    cores = run.record.devices[0].settings.get("usable_cores")
    if not all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in (core_w, cores)
    ):
        return None, None
    return core_w * cores, core_w * cores * STATIC_SHARE


#: Share of a core's power that the estimate's model counts at rest (`energylab.meters.estimate.PowerModel`).
STATIC_SHARE = 0.2
