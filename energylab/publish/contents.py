"""What an energy and its interval hold and what they do not, which depends on the device and on the energy's kind."""

from __future__ import annotations

from energylab.release import NEVER_INCLUDED, RatedCohort, Release
from energylab.table import UNSTATED

#: Of energies that are the processor's own.
BESIDE_PROCESSOR = (
    "memory, accelerators and the rest of the host (the energy is the processor’s own), "
    "cooling, fans and the building’s overhead (PUE)"
)
UNKNOWN = "not known, since the hardware behind the figures is not stated"

#: The same on a label, where there is room for a line.
_SHORT = {
    NEVER_INCLUDED: "Not included: host, cooling, PUE",
    BESIDE_PROCESSOR: "Not included: rest of host, cooling, PUE",
    UNKNOWN: "Not included: not known",
}

#: What no interval of an estimate holds.
MODEL_ERROR = "the error of the power model behind the estimate, which may be wrong by a factor of two"


def not_included(release: Release, cohort: RatedCohort) -> str:
    """Return what the energies of a cohort do not contain.

    Parameters
    ----------
    release : Release
    cohort : RatedCohort
        One of its cohorts.

    Returns
    -------
    str
        As it follows "not included:".
    """
    if cohort.device in (None, "", UNSTATED):
        return UNKNOWN
    machines = {session.machine for model in cohort.models for session in model.sessions}
    own = any(release.machines[number].processor == cohort.device for number in machines)
    return BESIDE_PROCESSOR if own else NEVER_INCLUDED


def not_included_line(release: Release, cohort: RatedCohort) -> str:
    """Return `not_included` in the few words that a label has room for."""
    return _SHORT[not_included(release, cohort)]


def not_in_figures(release: Release) -> str:
    """Return what is not in a release's figures, by hardware where that differs; it follows "not in the figures:"."""
    found: dict[str, list[str]] = {}
    for cohort in release.cohorts:
        devices = found.setdefault(not_included(release, cohort), [])
        device = cohort.device or "hardware that is not stated"
        devices += [device] if device not in devices else []
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"on {', '.join(devices)}: {what}" for what, devices in found.items())


def interval_holds(release: Release, cohort: RatedCohort) -> str:
    """Return what the expanded interval of a cohort's energies holds, as it follows the interval and its unit."""
    if cohort.energy_kind != "estimated":
        return "with the sensor’s error"
    return f"with ±{100 * release.options.get('gain', 0):.3g} % in place of a sensor’s error; not in it: {MODEL_ERROR}"


def any_estimated(release: Release) -> bool:
    """Return whether a release holds an estimated energy, whose interval must be read with care."""
    return any(cohort.energy_kind == "estimated" for cohort in release.cohorts)
