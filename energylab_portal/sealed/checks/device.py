"""Whether what the device says of itself is what devices say: temperatures, clocks, shares of time."""

from __future__ import annotations

from itertools import pairwise

from energylab.protocol.settings import Settings
from energylab.protocol.validity import failure_reasons, state_reasons
from energylab_portal.sealed.checks.base import judged, undecided, valid_windows
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check

#: Degrees Celsius that a working board can have, and megahertz its clock can run at.
TEMPERATURE_C, CLOCK_MHZ = (5.0, 110.0), (100.0, 4000.0)
#: Fastest a board's sensor can move, in kelvin a second, beside one step of it.
FASTEST_C_PER_S, ONE_STEP_C = 25.0, 5.0


def plausible(run: ClosedRun) -> Check:
    """Temperatures and clocks within what hardware has, and no faster than it warms."""
    problems, looked = [], 0
    for window in run.record.windows:
        for state in window.states:
            looked += state.temperature_c is not None or state.sm_clock_mhz is not None
            problems += [f"window {window.index}: {text}" for text in _odd(state.temperature_c, state.sm_clock_mhz)]
            shares = (state.thermal_fraction, state.power_brake_fraction, state.hardware_slowdown_fraction)
            if any(share is not None and not 0 <= share <= 1 for share in shares):
                problems.append(f"window {window.index}: a share of time is not between 0 and 1")
    for line in run.timelines:
        told = [sample for sample in line.samples if sample.temperature_c is not None]
        looked += len(told)
        problems += [f"at {s.time_s:.2f} s: {text}" for s in told for text in _odd(s.temperature_c, s.sm_clock_mhz)]
        for before, after in pairwise(told):
            most = ONE_STEP_C + FASTEST_C_PER_S * max(after.time_s - before.time_s, 0.0)
            if abs(after.temperature_c - before.temperature_c) > most:
                problems.append(f"at {after.time_s:.2f} s the temperature jumps by more than {most:.0f} degrees")
    if not looked:
        return undecided("device", "the device tells neither temperature nor clock")
    return judged("device", problems, "temperatures and clocks are what hardware has")


def conditions(run: ClosedRun) -> Check:
    """No window that counts was slowed down, shared or failed in: the protocol would have measured it again."""
    boards = sorted(device.uuid or "" for device in run.record.devices if device.type == "cuda")
    tolerances, problems = Settings(), []
    for window in valid_windows(run):
        where = f"window {window.index}"
        told = sorted(state.device for state in window.states if state.device in boards)
        if told != boards:
            problems.append(f"{where}: the boards' states are not told once each")
        reasons = [*failure_reasons(window.failures), *(r for s in window.states for r in state_reasons(s, tolerances))]
        problems += [f"{where} counts, in spite of {reason}" for reason in dict.fromkeys(reasons)]
    return judged("conditions", problems, "no window that counts was slowed down, shared with others, or failed in")


def _odd(temperature_c: float | None, clock_mhz: float | None) -> list[str]:
    found = []
    if temperature_c is not None and not TEMPERATURE_C[0] <= temperature_c <= TEMPERATURE_C[1]:
        found.append(f"{temperature_c:.4g} degrees Celsius")
    if clock_mhz is not None and not CLOCK_MHZ[0] <= clock_mhz <= CLOCK_MHZ[1]:
        found.append(f"a clock of {clock_mhz:.4g} MHz")
    return found
