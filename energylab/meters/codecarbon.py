"""CodeCarbon as a counter: what the published figures were measured with, beside our own meters.

On NVIDIA boards it reads the same counter as `nvml`. Watching one window with both shows what the wrapper itself adds.
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

#: CodeCarbon's ways of watching a processor that read a counter; all others are power models.
HARDWARE_MODES = ("intel_rapl",)

#: Everything in a user's CodeCarbon configuration that would change an energy, write a file or send something.
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
    """Energy of the boards, or of the processor, as CodeCarbon's tracker gives it.

    A reading ends one of CodeCarbon's tasks and begins the next, the calls that optimum-benchmark makes around every
    phase; they cost about 1.5 ms.

    `boards` are UUIDs whose energy is summed, none for the processor; `tracker` makes the tracker.

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
        self.kind = "measured" if self.boards else "estimated"  # open() finds out for the processor
        self.source = "not opened"
        self._make = tracker or _offline_tracker
        self._other_load = OtherLoad()
        self._tracker: Any = None
        self._energy_j = 0.0

    @classmethod
    def for_devices(cls, devices: Sequence[DeviceFacts], parameters: Parameters) -> list[Meter]:
        """Return one meter: CodeCarbon sums the boards it is given. One without a UUID would be left out."""
        boards = [device for device in devices if device.type == "cuda"]
        strange = [str(device.name) for device in boards if device.uuid is None]
        if strange:
            raise MeterError(f"codecarbon: {', '.join(strange)} has no UUID to name it by")
        return [cls([device.uuid for device in boards])]

    def open(self) -> None:
        """Start the tracker, find out what it reads, and see the counter of a board step."""
        self._tracker, self._energy_j = self._make(gpu_ids=list(self.boards) or None, **PINNED), 0.0
        self._tracker.start_task()
        try:
            self._describe()
            # On a board the counter behind it steps; a processor's power model has no steps.
            self.update_period_s = update_period(self, count=6, cap_s=1.5, poll_s=0.005) if self.boards else None
            self.read_cost_s = read_cost(self, reads=5)
        except MeterError:
            self.close()
            raise

    def read(self) -> Reading:
        """Return the joules of all tasks so far, the present one included."""
        if self._tracker is None:
            raise MeterError("the codecarbon meter is not open; call open() or use it in a with block")
        task = self._tracker.stop_task()
        now_s = self.clock.now()
        self._tracker.start_task()
        kwh = None if task is None else (task.gpu_energy if self.boards else task.cpu_energy)
        if kwh is None:
            raise MeterError("codecarbon gave no energy for its task; set its log_level to see why")
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
        """State kind and source by what CodeCarbon found: it falls back from counters to models without a word."""
        found = {type(hardware).__name__: hardware for hardware in self._tracker._hardware}
        boards = found["GPU"].gpu_ids if "GPU" in found else []
        if len(boards) < len(self.boards) or (not self.boards and "CPU" not in found):
            raise MeterError(
                f"codecarbon does not see {self.device}: it found {', '.join(found) or 'nothing'}, of these boards "
                f"{len(boards)} of {len(self.boards)}; see `codecarbon detect`"
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
