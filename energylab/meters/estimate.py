"""The last resort without any counter: processor time and a power model give an estimate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from energylab.clock import Clock
from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading, read_cost
from energylab.meters.processor_load import OtherLoad, server_of, usable_cores
from energylab.parameters import Parameters
from energylab.record import DeviceFacts

if TYPE_CHECKING:
    from energylab.serving.processes import ServerProcesses


class EstimateMeter(Meter):
    """An estimate, not a measurement: processor time of this process and its children, turned to energy by a model.

    Power is linear in load [2]_: ``cores x core_w x (static_share + (1 - static_share) x load)``, without memory. A
    busy core draws `core_w`: 12 W is the value of Green Algorithms for an unknown processor [1]_; for a known one,
    thermal design power divided by cores is usual. An idle core draws `static_share` of that: a fifth, as servers of
    the 2010s [3]_. With a `server`, the processor time is that of its processes instead of this one's. `cores`,
    `cpu_time` (in seconds) and `other_load` replace the values of this machine.

    References
    ----------
    .. [1] Lannelongue, Grealey, Inouye (2021), Green Algorithms, Advanced Science 8, 2100707,
       https://doi.org/10.1002/advs.202100707; processor "Any" in its data (``TDP_cpu.csv``).
    .. [2] Fan, Weber, Barroso (2007), Power provisioning for a warehouse-sized computer, ISCA '07,
       https://doi.org/10.1145/1250662.1250665.
    .. [3] Barroso, Hölzle, Ranganathan (2018), The Datacenter as a Computer, 3rd ed., chapter 5,
       https://doi.org/10.2200/S00874ED3V01Y201809CAC046.
    """

    name = "estimate"
    kind = "estimated"
    device = "cpu"
    watches = ("cpu",)
    notes = (
        "ESTIMATED, not measured: energy is computed from processor time by a power model, without an energy counter. "
        "It can be wrong by a factor of two, and cannot be official.",
    )

    def __init__(
        self,
        core_w: float = 12.0,
        static_share: float = 0.2,
        *,
        cores: float | None = None,
        clock: Clock | None = None,
        cpu_time: Callable[[], float] | None = None,
        server: ServerProcesses | None = None,
        other_load: OtherLoad | None = None,
    ) -> None:
        super().__init__(clock)
        self.core_w, self.static_share = core_w, static_share
        self._cores, self._server = cores, server
        self._other_load = other_load or OtherLoad(server)
        self._cpu_time = cpu_time or (self._other_load.ours if server is None else server.cpu_s)
        self._last: tuple[float, float] | None = None  # time and processor time
        self._energy_j = 0.0
        whose = "" if server is None else " of the server's processes"
        self.source = f"processor time{whose} x {core_w:g} W a core, {static_share:.0%} of it at rest"

    @classmethod
    def for_devices(cls, devices: Sequence[DeviceFacts], parameters: Parameters) -> list[Meter]:
        """Return one meter: this process, or the server, uses the processor with any device."""
        return [cls(parameters.cpu_core_w, server=server_of(parameters))]

    def open(self) -> None:
        """Start counting now. Processor time has no visible steps, so there is no update period."""
        if self._server is not None:
            self._server.refresh()
        self._cores = self._cores or usable_cores(None if self._server is None else self._server.cpus())
        self._other_load.ours.look()
        self._last, self._energy_j = (self.clock.now(), self._cpu_time()), 0.0
        self.quantum_j = self.core_w * time.get_clock_info("process_time").resolution
        self.read_cost_s = read_cost(self)

    def read(self) -> Reading:
        """Return joules since `open` by the power model.

        Processor time is limited to that of all cores: two threads of one core use twice the time, but not the energy.
        """
        if self._last is None:
            raise MeterError("the estimate meter is not open; call open() or use it in a with block")
        before_s, before_cpu_s = self._last
        self._last = now_s, cpu_s = self.clock.now(), self._cpu_time()
        core_s = self._cores * (now_s - before_s)
        busy_s = min(cpu_s - before_cpu_s, core_s)
        self._energy_j += self.core_w * ((1 - self.static_share) * busy_s + self.static_share * core_s)
        return Reading(self._energy_j, now_s)

    def counters(self) -> DeviceCounters:
        found = self._other_load.counters()
        missed = self._other_load.missed and self._server is None
        return replace(found, warnings=(*found.warnings, "children_missed")) if missed else found
