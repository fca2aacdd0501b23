"""Running average power limit (RAPL): the processor's own energy counters, read through Linux powercap."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from energylab.clock import Clock, Periodic
from energylab.errors import CounterJumpError, CounterStuckError, MeterError, MeterPermissionError
from energylab.meters.base import DeviceCounters, Meter, Reading, read_cost, update_period
from energylab.meters.processor_load import OtherLoad, server_of
from energylab.parameters import Parameters
from energylab.record import DeviceFacts

if TYPE_CHECKING:
    from energylab.serving.processes import ServerProcesses

POWERCAP = Path("/sys/class/powercap")

#: Since CVE-2020-8694 (PLATYPUS) only root may read the counters; this command grants it to everybody.
GRANT = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"

#: Time between two reads by the background thread, in seconds: short enough to miss no wrap-around and no jump of more
#: than a second's energy.
REFRESH_S = 1.0

#: A counter without a step for this many seconds is stuck; a working one steps about every millisecond.
STUCK_AFTER_S = 0.25

#: Time between two comparisons of zones that may show the same counter, in seconds, and their number.
MIRROR_CHECK_S, MIRROR_CHECKS = 0.025, 10

#: Assumed power limit of one package if none is known, in watts.
MOST_W = 1500.0

#: How far a counter may be ahead of the time of a read (late steps, short bursts): seconds at its power limit.
SLACK_S = 0.02


@dataclass
class _Zone:
    """Unwraps the counter of one package, which runs from 0 to `range_uj` and starts again."""

    name: str
    file: Path
    range_uj: int
    limit_w: float | None
    last_uj: int
    seen_s: float  # of the last read
    moved_s: float  # of the last step
    offset_uj: int = 0  # added to the counter's value: energy counted before it last started again from 0

    def joules(self, now_s: float, assumed_limit_w: float | None) -> float:
        """Return the energy so far; refuse a step that is too large for the time since the last read."""
        now_uj = _read_int(self.file)
        grown_uj = now_uj - self.last_uj
        backward = grown_uj < 0
        if backward:  # a wrap-around, unless the resulting power is impossible
            grown_uj += self.range_uj
        elapsed_s, last_uj = now_s - self.seen_s, self.last_uj
        self.seen_s, self.last_uj = now_s, now_uj
        if grown_uj:
            self.moved_s = now_s
        most_w = self.limit_w or assumed_limit_w or MOST_W
        if grown_uj / 1e6 > most_w * 1.1 * (elapsed_s + SLACK_S):
            raise CounterJumpError(
                f"rapl: the counter of {self.name} {'went back' if backward else 'jumped'} from {last_uj / 1e6:.2f} to "
                f"{now_uj / 1e6:.2f} J within {elapsed_s:.3g} s, more than {most_w:g} W allow; it does not count this "
                "package's energy: use meter=estimate"
            )
        if now_s - self.moved_s > STUCK_AFTER_S:
            raise CounterStuckError(f"rapl: the counter of {self.name} has not moved for {now_s - self.moved_s:.3g} s")
        self.offset_uj += self.range_uj if backward else 0
        return (self.offset_uj + now_uj) / 1e6

    def rebase(self, now_s: float) -> None:
        """Continue the sum from the current value; drop the energy since the last read."""
        before_uj, self.last_uj = self.last_uj, _read_int(self.file)
        self.offset_uj += before_uj - self.last_uj
        self.seen_s = self.moved_s = now_s


class RaplMeter(Meter):
    """Energy of the processor packages, summed: cores, caches and memory controller, not the memory itself.

    The counter includes all processes on the processor, not only this one. It ticks about every millisecond, in steps
    of some ten microjoules, and starts again from zero after minutes to hours. Two zones that show the same counter
    are counted once. A step too large for the elapsed time makes its window invalid.

    `root` is the folder of the powercap zones; the processes of a `server` count as this session's own; `other_load`
    replaces the measured load by other processes.

    References
    ----------
    Linux kernel, *Power Capping Framework*, https://docs.kernel.org/power/powercap/powercap.html.
    Khan et al. (2018), RAPL in Action, ACM TOMPECS 3(2), https://doi.org/10.1145/3177754 (update period, accuracy).
    """

    name = "rapl"
    kind = "measured"
    watches = ("cpu",)
    device = "cpu"
    source = "powercap energy_uj"
    quantum_j = 1e-6

    def __init__(
        self,
        root: str | os.PathLike = POWERCAP,
        *,
        clock: Clock | None = None,
        other_load: OtherLoad | None = None,
        server: ServerProcesses | None = None,
    ) -> None:
        super().__init__(clock)
        self.root = Path(root)
        self._other_load = other_load or OtherLoad(server)
        self._zones: tuple[_Zone, ...] = ()
        self._lock = threading.Lock()
        self._refresh: Periodic | None = None
        self._fault: MeterError | None = None  # found by the thread; raised by the next read

    @classmethod
    def for_devices(cls, devices: Sequence[DeviceFacts], parameters: Parameters) -> list[Meter]:
        return [cls(server=server_of(parameters))]

    @classmethod
    def unavailable(cls, devices: Sequence[DeviceFacts], root: Path = POWERCAP) -> str | None:
        """Return why the counters cannot be read here; None when they can."""
        if (reason := super().unavailable(devices)) is not None:
            return reason
        files = [zone / "energy_uj" for zone in packages(root)]
        denied = [file for file in files if not os.access(file, os.R_OK)]
        if denied:
            return f"{denied[0]} may not be read; grant it: `{GRANT}`"
        return None if files else f"{root} shows no processor energy counter (a virtual machine, or no RAPL)"

    def open(self) -> None:
        """Find the packages, check that every counter moves, drop duplicates, and measure the update period."""
        zones = [self._zone(folder) for folder in packages(self.root)]
        if not zones:
            raise MeterError(f"rapl: {self.root} shows no processor energy counter (a virtual machine, or no RAPL)")
        mirrored = self._mirrored(zones)
        still = [zone.name for zone in zones if _read_int(zone.file) == zone.last_uj]
        if still:
            raise CounterStuckError(
                f"rapl: the counter of {', '.join(still)} does not move (usual in virtual machines): use meter=estimate"
            )
        self._zones = tuple(zone for zone in zones if zone.name not in mirrored)
        self._describe(mirrored)
        self._fault = None
        self._rebase()
        self.update_period_s = update_period(self, count=20, cap_s=STUCK_AFTER_S, poll_s=0.0002)
        self.read_cost_s = read_cost(self)
        self._refresh = Periodic(self._look, REFRESH_S, "energylab-rapl")
        self._refresh.start()

    def close(self) -> None:
        if self._refresh is not None:
            self._refresh.stop()
            self._refresh = None
        self._zones = ()

    def read(self) -> Reading:
        """Return the unwrapped sum of the packages; an impossible step since the last read is an error."""
        if not self._zones:
            raise MeterError("the rapl meter is not open; call open() or use it in a with block")
        with self._lock:
            if self._fault is not None:
                fault, self._fault = self._fault, None
                self._rebase()
                raise fault
            before_s = self.clock.now()
            energy_j = sum(zone.joules(before_s, self.assumed_limit_w) for zone in self._zones)
            return Reading(energy_j, (before_s + self.clock.now()) / 2)

    def counters(self) -> DeviceCounters:
        found = self._other_load.counters()
        return DeviceCounters(own_s=found.own_s, others_s=found.others_s)

    def _zone(self, folder: Path) -> _Zone:
        now_s, energy = self.clock.now(), folder / "energy_uj"
        # The largest limit of a package is the short-term one; bursts exceed the long-term one.
        limits_uw = [_read_int(file) for file in folder.glob("constraint_*_power_limit_uw")]
        limit_w = max(limits_uw, default=0) / 1e6 or None
        range_uj = _read_int(folder / "max_energy_range_uj")
        return _Zone(_read(folder / "name"), energy, range_uj, limit_w, _read_int(energy), now_s, now_s)

    def _mirrored(self, zones: Sequence[_Zone]) -> list[str]:
        """Return the names of zones that show the counter of an earlier zone.

        The earlier zone is read right before and right after the other: a duplicate is always between the two values.
        """
        pairs = set(itertools.combinations(range(len(zones)), 2))
        alike = set(pairs)  # until a reading differs
        for _ in range(MIRROR_CHECKS):
            self.clock.sleep(MIRROR_CHECK_S)
            for one, other in pairs:
                low, between, high = (_read_int(zones[i].file) for i in (one, other, one))
                if low <= high and not low <= between <= high:
                    alike.discard((one, other))
        return sorted({zones[other].name for _, other in alike})

    def _describe(self, mirrored: Sequence[str]) -> None:
        names = [zone.name for zone in self._zones]
        self.device = "+".join(names)
        self.source = f"powercap energy_uj of {', '.join(names)} (memory not included)"
        self.notes = tuple(f"{name} shows the counter of another zone: counted once" for name in mirrored)
        limits_w = [zone.limit_w for zone in self._zones]
        self.power_limit_w = None if None in limits_w else sum(limits_w)

    def _rebase(self) -> None:
        for zone in self._zones:
            zone.rebase(self.clock.now())

    def _look(self) -> None:
        """Read in the background; keep an error for the next read of the session."""
        try:
            self.read()
        except MeterError as error:
            self._fault = error


def packages(root: Path) -> list[Path]:
    """Return the package zones of powercap, in order, without their parts (core, dram).

    If ``intel-rapl`` and ``intel-rapl-mmio`` both show a package, the first is used.
    """
    found: dict[str, Path] = {}
    for zone in sorted(root.glob("*rapl*:*"), key=lambda zone: ("mmio" in zone.name, zone.name)):
        label = zone / "name"
        if zone.name.count(":") == 1 and label.is_file() and label.read_text().startswith("package"):
            found.setdefault(label.read_text().strip(), zone)
    return list(found.values())


def _read_int(file: Path) -> int:
    text = _read(file)
    if not text.isdecimal():
        raise MeterError(f"rapl: {file} holds {text!r}, not a number of microjoules or microwatts")
    return int(text)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except PermissionError as error:
        raise MeterPermissionError(f"rapl: {file} may not be read; grant it: `{GRANT}`") from error
    except OSError as error:
        raise MeterError(f"rapl: {file} cannot be read: {error}") from error
