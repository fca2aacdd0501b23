"""NVIDIA boards: the energy counter (Volta and later) or, if a board has none, its integrated power."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

from energylab.clock import Clock
from energylab.errors import CounterStuckError, MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading, read_cost, steps, update_period
from energylab.meters.nvml_library import JETSON, NotSupportedError, Nvml, in_host_namespace
from energylab.meters.processor_load import server_of
from energylab.meters.sampler import PowerIntegrator
from energylab.parameters import Parameters
from energylab.record import DeviceFacts

#: Words in the names of processors with a GPU of their own: Jetson boards.
INTEGRATED = ("Orin", "Xavier", "Tegra", "Jetson", "Thor", "nvgpu")

COUNTER, INSTANT = "nvmlDeviceGetTotalEnergyConsumption", "NVML_FI_DEV_POWER_INSTANT"

#: How long the counter is watched when opened. It ticks about every 100 ms, and idle boards tick too.
WATCH_S = 3.0

#: Assumed age of a power reading when the sensor's own period cannot be seen (it did not move while watched).
USUAL_REFRESH_S = 0.1

NS = 1e-9

#: First driver that numbers the hardware slowdown counters as nvidia-ml-py 13.580.82 and later do.
RENUMBERED = (580, 82)

#: Counters of slowdowns by cause, those with renumbered ids, and the bits of the current state that replace these.
_POLICIES = {"power_cap_s": "NVML_FI_DEV_PERF_POLICY_POWER", "thermal_s": "NVML_FI_DEV_PERF_POLICY_THERMAL"}
_FIELD = "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_{}_SLOWDOWN"
_HARDWARE = {"power_brake_s": _FIELD.format("POWER_BRAKE"), "hardware_slowdown_s": _FIELD.format("THERM")}
_BITS = {
    "power_brake_s": "nvmlClocksEventReasonHwPowerBrakeSlowdown",
    "hardware_slowdown_s": "nvmlClocksEventReasonHwThermalSlowdown",
}


class NvmlMeter(Meter):
    """Energy of one whole NVIDIA board: chip, memory and voltage regulators, used by any process.

    The counter gives millijoules since the driver was loaded, on Volta and later. Without it, instantaneous power is
    integrated in the background (read as a field, since ``nvmlDeviceGetPowerUsage`` is a one-second average on Ampere
    and later except GA100); `source` says which is used.

    `board` is its NVML index (PCI order, not torch's) or UUID; `served` returns the process ids of the measured server,
    which do not count as other processes; `nvml` replaces ``pynvml``.

    References
    ----------
    NVIDIA, *NVML API Reference*, "Device Queries": ``nvmlDeviceGetTotalEnergyConsumption`` (millijoules),
    ``nvmlDeviceGetPowerUsage``, ``nvmlDeviceGetEnforcedPowerLimit`` (milliwatts); "Field Value Enums".
    Yang, Adamek, Armour (2024), Accurate and Convenient Energy Measurements for GPUs, SC24,
    https://arxiv.org/abs/2312.02741: sensor errors within ±5 %, and on A100 and H100 only 25 of every 100 ms are seen.
    """

    name = "nvml"
    kind = "measured"
    watches = ("cuda",)
    source = "not opened"
    gain_error = 0.05

    def __init__(
        self,
        board: int | str,
        *,
        nvml: Any = None,
        clock: Clock | None = None,
        served: Callable[[], set[int]] | None = None,
    ) -> None:
        super().__init__(clock)
        self.board = board
        self.device = board if isinstance(board, str) else f"board {board}"
        self._nvml, self._handle = Nvml(nvml), None
        self._throttle: Throttle | None = None
        self._served = served or set
        self._integrator: PowerIntegrator | None = None
        self._refresh_s = 0.0
        self._started = False

    @classmethod
    def for_devices(cls, devices: Sequence[DeviceFacts], parameters: Parameters) -> list[Meter]:
        """Return one meter per board, by UUID."""
        strange = [str(device.name) for device in devices if device.uuid is None]
        if strange:
            raise MeterError(f"nvml: {', '.join(strange)} has no UUID; only NVIDIA boards can be measured")
        server = server_of(parameters)
        return [cls(device.uuid, served=None if server is None else server.tree) for device in devices]

    def open(self) -> None:
        """Find the board, choose counter or integrated power, and measure its update period."""
        self._nvml.start()
        self._started, self.notes = True, ()
        try:
            self._handle = self._nvml.handle(self.board)
            self.device = self._nvml.text("nvmlDeviceGetUUID", self._handle)
            self.power_limit_w = self._nvml.watts("nvmlDeviceGetEnforcedPowerLimit", self._handle)
            self._throttle = Throttle(self._nvml, self._handle, self.clock)
            if self._nvml.users(self._handle) is None:
                self.notes = ("this driver does not list processes: other processes on the board are not detected",)
            self._choose_source()
            self.read_cost_s = read_cost(self)
            self.counters()  # fail now, with the cause, if it would fail in every window
        except MeterError:
            self.close()
            raise

    def read(self) -> Reading:
        """Return the counter in joules, at the middle of the call that read it."""
        handle = self._opened()
        if self._integrator is not None:
            now = self._integrator.read()
            # A gap between samples widens the bound of the window.
            self.latency_s = self._refresh_s + self._integrator.worst_gap_s
            return now
        before_s = self.clock.now()
        millijoules = self._nvml.call(COUNTER, handle)
        return Reading(millijoules / 1000, (before_s + self.clock.now()) / 2)

    def close(self) -> None:
        if self._integrator is not None:
            self._integrator.stop()
            self._integrator = None
        self._handle = None
        if self._started:
            self._started = False
            self._nvml.stop()

    def counters(self) -> DeviceCounters:
        """Return temperature, clocks, power, slowdowns and other processes of the board."""
        nvml, handle, constants = self._nvml, self._opened(), self._nvml.module
        temperature_c = nvml.optional("nvmlDeviceGetTemperature", handle, constants.NVML_TEMPERATURE_GPU)
        if temperature_c is None:  # the first is deprecated, the second is missing from drivers before 575
            temperature_c = nvml.optional("nvmlDeviceGetTemperatureV", handle, constants.NVML_TEMPERATURE_GPU)
        return DeviceCounters(
            temperature_c=temperature_c,
            sm_clock_mhz=nvml.optional("nvmlDeviceGetClockInfo", handle, constants.NVML_CLOCK_SM),
            memory_clock_mhz=nvml.optional("nvmlDeviceGetClockInfo", handle, constants.NVML_CLOCK_MEM),
            power_w=self.instant_power_w(),
            cotenants=self._cotenants(),
            **self._throttle.seconds(),
        )

    def _cotenants(self) -> tuple[int, ...]:
        present = self._nvml.users(self._handle) or set()
        # finding related processes lists every process of the machine, so it is done only when needed
        return cotenants(present, related() | self._served()) if present - {os.getpid()} else ()

    def edge_power_w(self) -> float | None:
        """Return the instantaneous power in watts, or the power limit if the board does not report it."""
        try:
            power_w = self.instant_power_w()
        except MeterError:  # the reading at this edge meets and reports the same error
            return self.power_limit_w
        if self._integrator is not None:
            return max(power_w or 0.0, self._integrator.largest_w)
        return self.power_limit_w if power_w is None else power_w

    def instant_power_w(self) -> float | None:
        """Return the instantaneous power in watts, not an average; None if the board does not report it."""
        milliwatts = self._nvml.fields(self._opened(), [INSTANT])[0]
        return None if milliwatts is None else milliwatts / 1000

    def known_power_w(self) -> float:
        """Return the instantaneous power in watts; an error if the board does not report it."""
        power_w = self.instant_power_w()
        if power_w is None:
            raise MeterError(f"{self.device} does not report its instantaneous power ({INSTANT})")
        return power_w

    def _opened(self) -> Any:
        if self._handle is None:
            raise MeterError(f"the nvml meter of {self.device} is not open; call open() or use it in a with block")
        return self._handle

    def _choose_source(self) -> None:
        try:
            self._nvml.call(COUNTER, self._handle)
        except NotSupportedError:
            self._integrate()
            return
        self.source, self.quantum_j = COUNTER, 0.001
        try:
            self.update_period_s = update_period(self, count=10, cap_s=WATCH_S)
        except CounterStuckError as error:
            raise CounterStuckError(f"{error}: see `nvidia-smi`, reload the driver, or reboot") from None

    def _integrate(self) -> None:
        if self.instant_power_w() is None:
            name = self._nvml.text("nvmlDeviceGetName", self._handle)
            advice = f"{name} or its driver is too old; try a newer driver"
            if any(word in name for word in INTEGRATED):
                advice = JETSON
            missing = f"{self.device} has neither an energy counter nor an instantaneous power field ({INSTANT})"
            raise MeterError(f"{missing}: {advice}")
        # The age of a sensor reading is at most the time between two changes.
        seen = steps(lambda: Reading(self.instant_power_w(), self.clock.now()), self.clock, cap_s=1.0)
        edges = [reading.time_s for reading in itertools.islice(seen, 6)]
        between = [later - earlier for earlier, later in itertools.pairwise(edges)]
        self._refresh_s = max(between, default=USUAL_REFRESH_S)
        self._integrator = PowerIntegrator(self.known_power_w, self.clock)
        self._integrator.start()
        self.source = f"{INSTANT}, integrated"
        self.notes += ("no energy counter on this board: instantaneous power is sampled and integrated",)


class Throttle:
    """Reads the slowdowns of one board: cumulative seconds by cause. `nvml` must be started.

    NVIDIA renumbered the counters of hardware slowdowns from 251-253 (up to driver 580.65) to 269-271 (from 580.82,
    where the old numbers are settings of power smoothing; see ``pynvml.py`` of both versions). They are read only if
    the driver uses the numbers of the installed library. Otherwise the current state replaces them: an interval on
    `clock` counts as slowed if the slowdown is active at its end.
    """

    def __init__(self, nvml: Nvml, handle: Any, clock: Clock) -> None:
        self._nvml, self._handle, self._clock = nvml, handle, clock
        driver = tuple(map(int, re.findall(r"\d+", nvml.text("nvmlSystemGetDriverVersion"))))
        self._counters = _POLICIES | (_HARDWARE if driver >= RENUMBERED else {})
        self._held_s = dict.fromkeys(_HARDWARE, 0.0)
        self._seen_s: float | None = None

    def seconds(self) -> dict[str, float | None]:
        """Return cumulative seconds by cause, named as in `DeviceCounters`; None where the board does not report it."""
        counted = self._nvml.fields(self._handle, self._counters.values())
        found = {cause: None if ns is None else ns * NS for cause, ns in zip(self._counters, counted, strict=True)}
        return found if all(found.get(cause) is not None for cause in _HARDWARE) else found | self._held()

    def _held(self) -> dict[str, float | None]:
        events = self._nvml.optional("nvmlDeviceGetCurrentClocksEventReasons", self._handle)
        if events is None:
            return dict.fromkeys(_HARDWARE)
        now_s = self._clock.now()
        passed_s = 0.0 if self._seen_s is None else now_s - self._seen_s
        self._seen_s = now_s
        for cause, bit in _BITS.items():
            self._held_s[cause] += passed_s if events & getattr(self._nvml.module, bit) else 0.0
        return dict(self._held_s)


def cotenants(present: Set[int], own: Set[int]) -> tuple[int, ...]:
    """Return the sorted ids of processes that belong to others; `own` are this process and related ones.

    In a container, drivers before about 550 do not translate process ids
    (https://github.com/NVIDIA/nvidia-docker/issues/1483), so this process has an unknown id there. One unknown process
    is then assumed to be this one; if there are several, all are returned.
    """
    others = tuple(sorted(present - own))
    return others if len(others) > 1 or present & own or in_host_namespace() else ()


def related() -> set[int]:
    """Return the ids of this process, its threads (some drivers name one), its ancestors and its descendants."""
    import psutil

    me = psutil.Process()
    found = {me.pid, *(parent.pid for parent in me.parents()), *(child.pid for child in me.children(recursive=True))}
    tasks = Path("/proc/self/task")
    return found | ({int(task.name) for task in tasks.iterdir()} if tasks.is_dir() else set())
