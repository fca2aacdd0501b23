"""What an NVIDIA board says of itself beside energy: who else is on it, and how long it was held back, and why.

Two causes of slowdown have counters whose identifiers never moved: the power limit and heat (``NVML_PERF_POLICY_*``).
Those of the hardware's own slowdowns are newer, and NVIDIA renumbered them: 251 to 253 up to driver 580.65, then 269 to
271 from 580.82, where the old numbers mean settings of power smoothing. They are asked for only where the driver gives
them the numbers that the installed library uses. Elsewhere the present state stands in: an interval counts as slowed if
the slowdown is in force at its end.

References
----------
NVIDIA, *NVML API Reference*: ``nvmlViolationTime_t`` (nanoseconds), "Field Value Enums", "NvmlClocksEventReasons"; the
two numberings: ``pynvml.py`` of nvidia-ml-py 13.580.65 and 13.580.82.
Drivers before about 550 give process ids as the host numbers them, also inside a container
(https://github.com/NVIDIA/nvidia-docker/issues/1483); later ones translate them, and may name a thread
(https://github.com/Project-HAMi/HAMi-core/issues/112).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from energylab.clock import Clock
from energylab.meters.nvml_library import Nvml, text

NS = 1e-9

#: Inode of the host's process id namespace: the kernel's PROC_PID_INIT_INO.
_HOST_NAMESPACE = "pid:[4026531836]"

#: First driver that numbers the hardware slowdown counters as nvidia-ml-py 13.580.82 and later do.
RENUMBERED = (580, 82)

#: Cause to the number-stable field and to the policy of ``nvmlDeviceGetViolationStatus`` behind it.
_POLICIES = {
    "power_cap_s": ("NVML_FI_DEV_PERF_POLICY_POWER", "NVML_PERF_POLICY_POWER"),
    "thermal_s": ("NVML_FI_DEV_PERF_POLICY_THERMAL", "NVML_PERF_POLICY_THERMAL"),
}
#: Cause to the renumbered field and to the bit of the present state that stands in for it.
_FIELD = "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_{}_SLOWDOWN"
_HARDWARE = {
    "power_brake_s": (_FIELD.format("POWER_BRAKE"), "nvmlClocksEventReasonHwPowerBrakeSlowdown"),
    "hardware_slowdown_s": (_FIELD.format("THERM"), "nvmlClocksEventReasonHwThermalSlowdown"),
}


@dataclass
class Throttle:
    """Reads one board's slowdowns: cumulative seconds by cause. `nvml` must be started; `clock` times the stand-in."""

    nvml: Nvml
    handle: Any
    clock: Clock
    _numbered: bool | None = None
    _held_s: dict[str, float] = field(default_factory=dict)
    _seen_s: float | None = None

    def seconds(self) -> dict[str, float | None]:
        """Return cumulative seconds by cause, as `DeviceCounters` names them; None: the board does not say."""
        if self._numbered is None:
            self._numbered = driver_version(self.nvml) >= RENUMBERED
        return {**self._policies(), **self._hardware()}

    def _policies(self) -> dict[str, float | None]:
        counted = self.nvml.fields(self.handle, [name for name, _ in _POLICIES.values()])
        found = {}
        for cause, value in zip(_POLICIES, counted, strict=True):
            if value is None:
                policy = self.nvml.constant(_POLICIES[cause][1])
                status = self.nvml.optional("nvmlDeviceGetViolationStatus", self.handle, policy)
                value = None if status is None else status.violationTime
            found[cause] = None if value is None else value * NS
        return found

    def _hardware(self) -> dict[str, float | None]:
        names = [name for name, _ in _HARDWARE.values()]
        counted = self.nvml.fields(self.handle, names) if self._numbered else [None] * len(names)
        if None not in counted:
            return {cause: value * NS for cause, value in zip(_HARDWARE, counted, strict=True)}
        return self._held()

    def _held(self) -> dict[str, float | None]:
        events = self.nvml.optional("nvmlDeviceGetCurrentClocksEventReasons", self.handle)
        if events is None:
            return dict.fromkeys(_HARDWARE)
        now_s = self.clock.now()
        passed_s = 0.0 if self._seen_s is None else now_s - self._seen_s
        self._seen_s = now_s
        for cause, (_, bit) in _HARDWARE.items():
            in_force = bool(events & self.nvml.constant(bit))
            self._held_s[cause] = self._held_s.get(cause, 0.0) + (passed_s if in_force else 0.0)
        return dict(self._held_s)


def driver_version(nvml: Nvml) -> tuple[int, ...]:
    """Return the driver's version as numbers: ``580.159.03`` is (580, 159, 3)."""
    return tuple(int(part) for part in re.findall(r"\d+", text(nvml.call("nvmlSystemGetDriverVersion"))))


class Tenants:
    """Who else is on a board. Remembers the last answer: looking for relatives walks through every process.

    `served` returns the process ids of a server whose model is measured: they count as this process's own.
    """

    def __init__(self, served: Callable[[], set[int]] | None = None) -> None:
        self._served = served
        self._present: frozenset[int] = frozenset()
        self._others: tuple[int, ...] = ()

    def others(self, pids: Iterable[int]) -> tuple[int, ...]:
        """Return what `cotenants` says of `pids`, without asking again while they stay the same."""
        present = frozenset(pids)
        if present != self._present:
            alone = present <= {os.getpid()}
            self._present, self._others = present, () if alone else self._strangers(present)
        return self._others

    def _strangers(self, present: frozenset[int]) -> tuple[int, ...]:
        return cotenants(present, own=related() | (self._served() if self._served else set()))


def cotenants(pids: Iterable[int], own: Iterable[int] | None = None, host_ids: bool | None = None) -> tuple[int, ...]:
    """Return those process ids, sorted, that belong to others.

    In a container whose process ids the driver does not translate, this process appears under a number it cannot
    know. One unknown process is then taken to be this one; if there are more, they are all named. `own` (this process
    and its relatives) and `host_ids` (whether ids here are the host's) are found out by default.
    """
    present = set(pids)
    if not present:
        return ()
    ours = related() if own is None else set(own)
    others = tuple(sorted(present - ours))
    comparable = bool(present & ours) or (in_host_namespace() if host_ids is None else host_ids)
    return others if comparable or len(others) > 1 else ()


def related() -> set[int]:
    """Return the ids of this process, its threads, its ancestors and its descendants."""
    import psutil

    me = psutil.Process()
    found = {me.pid, *(parent.pid for parent in me.parents()), *(child.pid for child in me.children(recursive=True))}
    tasks = Path("/proc/self/task")
    return found | ({int(task.name) for task in tasks.iterdir()} if tasks.is_dir() else set())


def in_host_namespace() -> bool:
    """Tell whether process ids here are the host's, so that the driver's can be compared with them."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _HOST_NAMESPACE
    except OSError:  # no /proc, or a sandbox that hides it: not comparable
        return False
