"""Whether the energy can be of the kind it is said to be, on the devices it is said to be of."""

from __future__ import annotations

from energylab.record import DeviceFacts
from energylab_portal.sealed.checks.base import judged, scored
from energylab_portal.sealed.checks.floors import product
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check

#: What each meter can be the source of: kinds of energy, and types of device. Simulated energy is for tests and
#: teaching: no bundle of it is taken.
SOURCES = {
    "nvml": ({"measured"}, {"cuda"}),
    "rapl": ({"measured"}, {"cpu"}),
    "estimate": ({"estimated"}, {"cpu"}),
}

#: Every hardware counter read here counts in whole microjoules (RAPL) or millijoules (NVML).
LEAST_QUANTUM_J = 0.999e-6


def kind(run: ClosedRun) -> Check:
    """Meter, kind and device belong together; a board is described as only a board can be."""
    record, meters = run.record, scored(run)
    problems = [] if meters else ["no meter is scored"]
    types = {device.type for device in record.devices}
    for meter in meters:
        kinds, devices = SOURCES.get(meter.name, (set(), set()))
        if meter.kind not in kinds or record.energy_kind != meter.kind:
            problems.append(f"meter {meter.name[:30]!r} cannot give {record.energy_kind} energy")
        if meter.kind == "measured" and meter.quantum_j < LEAST_QUANTUM_J:
            problems.append(
                f"meter {meter.name[:30]!r} counts whole microjoules or more, this one {meter.quantum_j:g} J"
            )
        if not types <= devices:
            problems.append(f"meter {meter.name[:30]!r} does not see a {'/'.join(sorted(types - devices))} device")
    boards = [device for device in record.devices if device.type == "cuda"]
    problems += [f"board {board.name[:40]}: {text}" for board in boards for text in _lacks(run, board)]
    watched = {meter.device for meter in meters}
    problems += [f"board {board.uuid} has no meter" for board in boards if board.uuid not in watched]
    sources = ", ".join(sorted({meter.name for meter in meters}))
    note = "; an estimate is never official" if record.energy_kind == "estimated" else ""
    return judged("kind", problems, f"{record.energy_kind} on {'/'.join(sorted(types))} by {sources}{note}")


def _lacks(run: ClosedRun, board: DeviceFacts) -> list[str]:
    """Return what a real board would tell and this one does not."""
    told = {
        "a UUID": board.uuid and board.uuid.startswith("GPU-"),
        "a power limit": board.power_limit_w,
        "its memory": board.memory_bytes,
        "a driver": board.driver,
        "a compute capability": board.settings.get("compute_capability"),
    }
    states = [state for window in run.record.windows for state in window.states if state.device == board.uuid]
    told["its temperature"] = states and all(state.temperature_c is not None for state in states)
    told["its clock"] = states and all(state.sm_clock_mhz is not None for state in states)
    return [f"it does not tell {name}" for name, value in told.items() if not value] + _unlike(board)


def _unlike(board: DeviceFacts) -> list[str]:
    """Return where a board is unlike the product it is said to be."""
    known = product(board.name)
    if known is None:
        return []
    found, capability = [], board.settings.get("compute_capability")
    if board.power_limit_w and board.power_limit_w > known.most_w:
        found.append(f"a limit of {board.power_limit_w:g} W; the product can be set to {known.most_w:g} W at most")
    if capability and capability != known.capability:
        found.append(f"compute capability {str(capability)[:10]}; the product has {known.capability}")
    return found
