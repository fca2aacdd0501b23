"""CodeCarbon as a counter: the library that the published figures were measured with.

On NVIDIA boards it reads the same counter as `nvml`. Reading both over the same window shows what the wrapper adds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from energylab.clock import Clock
from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading, read_cost, update_period
from energylab.meters.processor_load import OtherLoad
from energylab.parameters import Parameters
from energylab.record import DeviceFacts

J_PER_KWH = 3.6e6

#: Modes in which CodeCarbon reads a processor's counter; all others are power models.
HARDWARE_MODES = ("intel_rapl",)

#: Overrides everything in a user's CodeCarbon configuration that would change an energy, write a file or send data.
PINNED = {
    "output_methods": [],
    "emissions_endpoint": None,
    "force_carbon_intensity_g_co2e_kwh": 1.0,  # carbon is not asked for: no look-up, no network
    "force_cpu_power": None,
    "force_ram_power": None,
    "force_mode_cpu_load": False,
    "rapl_include_dram": False,
    "rapl_prefer_psys": False,
    "pue": 1.0,
    "wue": 0.0,
    "tracking_mode": "machine",
    "allow_multiple_runs": True,  # no lock file
    "log_level": "error",
}


class CodecarbonMeter(Meter):
    """Energy of the boards, or of the processor, from CodeCarbon's tracker.

    A reading ends one CodeCarbon task and begins the next, as optimum-benchmark does around every phase; this takes
    about 1.5 ms.

    `boards` are the UUIDs whose energy is summed; if empty, the processor is measured. `tracker` makes the tracker.

    References
    ----------
    CodeCarbon 3.3, https://docs.codecarbon.io; optimum-benchmark, ``optimum_benchmark/trackers/energy.py``,
    https://github.com/huggingface/optimum-benchmark.
    """

    name = "codecarbon"
    watches = ("cuda", "cpu")

    def __init__(
        self, boards: Sequence[str] = (), *, tracker: Callable[..., Any] | None = None, clock: Clock | None = None
    ) -> None:
        super().__init__(clock)
        self.boards = tuple(boards)
        self.device = "+".join(self.boards) or "cpu"
        self.kind = "measured" if self.boards else "estimated"  # for the processor, open() decides
        self.source = "not opened"
        self._make = tracker or _offline_tracker
        self._other_load = OtherLoad()
        self._tracker: Any = None
        self._energy_j = 0.0

    @classmethod
    def for_devices(cls, devices: Sequence[DeviceFacts], parameters: Parameters) -> list[Meter]:
        """Return one meter, since CodeCarbon sums its boards; a board without UUID is an error."""
        boards = [device for device in devices if device.type == "cuda"]
        strange = [str(device.name) for device in boards if device.uuid is None]
        if strange:
            raise MeterError(f"codecarbon: {', '.join(strange)} has no UUID; only NVIDIA boards can be measured")
        return [cls([device.uuid for device in boards])]

    def open(self) -> None:
        """Start the tracker, find out what it reads, and check that the counter of a board steps."""
        self._tracker, self._energy_j = self._make(gpu_ids=list(self.boards) or None, **PINNED), 0.0
        self._tracker.start_task()
        try:
            self._describe()
            # a board's counter steps, a processor's power model does not
            self.update_period_s = update_period(self, count=6, cap_s=1.5, poll_s=0.005) if self.boards else None
            self.read_cost_s = read_cost(self, reads=5)
        except MeterError:
            self.close()
            raise

    def read(self) -> Reading:
        """Return the joules of all tasks so far, including the current one."""
        if self._tracker is None:
            raise MeterError("the codecarbon meter is not open; call open() or use it in a with block")
        task = self._tracker.stop_task()
        now_s = self.clock.now()
        self._tracker.start_task()
        kwh = None if task is None else (task.gpu_energy if self.boards else task.cpu_energy)
        if kwh is None:
            raise MeterError("codecarbon returned no energy for its task; run `codecarbon detect` to see why")
        self._energy_j += kwh * J_PER_KWH
        return Reading(self._energy_j, now_s)

    def close(self) -> None:
        if self._tracker is not None:
            self._tracker.stop_task()
            self._tracker.stop()
            self._tracker = None

    def counters(self) -> DeviceCounters:
        return DeviceCounters() if self.boards else self._other_load.counters()

    def _describe(self) -> None:
        """Set kind and source by what CodeCarbon found, since it falls back from counters to models silently."""
        found = {type(hardware).__name__: hardware for hardware in self._tracker._hardware}
        boards = found["GPU"].gpu_ids if "GPU" in found else []
        if len(boards) < len(self.boards) or (not self.boards and "CPU" not in found):
            raise MeterError(
                f"codecarbon cannot measure {self.device}: it found {', '.join(found) or 'nothing'}, and "
                f"{len(boards)} of {len(self.boards)} boards; run `codecarbon detect`"
            )
        if self.boards:
            self.source = "CodeCarbon, NVML"
            return
        mode = found["CPU"]._mode
        self.kind = "measured" if mode in HARDWARE_MODES else "estimated"
        self.source = f"CodeCarbon, {mode}"
        self.notes = () if self.kind == "measured" else (f"CodeCarbon found no counter: its power model ({mode})",)


def _offline_tracker(**settings: Any) -> Any:
    from codecarbon import OfflineEmissionsTracker

    logging.getLogger("codecarbon").setLevel(logging.ERROR)  # it logs before it reads its own log_level
    return OfflineEmissionsTracker(country_iso_code="USA", **settings)
