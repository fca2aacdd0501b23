"""How long a board was held back, and why: cumulative seconds by cause.

Two causes have counters whose identifiers never moved: the power limit and heat (``NVML_PERF_POLICY_*``). The counters
of the hardware's own slowdowns are newer, and NVIDIA renumbered them: 251 to 253 up to driver 580.65, then 269 to 271
from 580.82, where the old numbers mean settings of power smoothing. They are asked for only where the driver is known
to give them the numbers that the installed library uses. Elsewhere the present state of the cause stands in: an
interval counts as slowed if the slowdown is in force at its end.

References
----------
NVIDIA, *NVML API Reference*: ``nvmlViolationTime_t`` (violation time in nanoseconds), "Field Value Enums" and
"NvmlClocksEventReasons". The two numberings: ``pynvml.py`` of nvidia-ml-py 13.580.65 and 13.580.82.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from energylab.clock import Clock
from energylab.meters.nvml_library import Nvml, text

NS = 1e-9

#: First driver that numbers the hardware slowdown counters as nvidia-ml-py 13.580.82 and later do.
RENUMBERED = (580, 82)

#: Cause to the number-stable field and to the policy of ``nvmlDeviceGetViolationStatus`` behind it.
_POLICIES = {
    "power_cap_s": ("NVML_FI_DEV_PERF_POLICY_POWER", "NVML_PERF_POLICY_POWER"),
    "thermal_s": ("NVML_FI_DEV_PERF_POLICY_THERMAL", "NVML_PERF_POLICY_THERMAL"),
}
#: Cause to the renumbered field and to the bit of the present state that stands in for it.
_HARDWARE = {
    "power_brake_s": (
        "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN",
        "nvmlClocksEventReasonHwPowerBrakeSlowdown",
    ),
    "hardware_slowdown_s": (
        "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN",
        "nvmlClocksEventReasonHwThermalSlowdown",
    ),
}


@dataclass
class Throttle:
    """Reads one board's slowdowns; `nvml` must be started.

    Attributes
    ----------
    nvml : Nvml
    handle : object
        The board, as NVML names it.
    clock : Clock
        Times the stand-in where a counter is missing.
    """

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
