"""Running average power limit (RAPL): the processor's own energy counters, as Linux shows them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from energylab.clock import Clock
from energylab.errors import MeterError, MeterPermissionError
from energylab.meters.base import Meter, Reading
from energylab.meters.probe import read_cost, update_period
from energylab.meters.sampler import Periodic
from energylab.parameters import Parameters
from energylab.record import DeviceFacts

POWERCAP = Path("/sys/class/powercap")

#: Since CVE-2020-8694 (PLATYPUS) the counters are readable by root alone, until someone grants more.
GRANT = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"

#: The counter is read at least this often, so that no turn is missed: the shortest turn on record, 65 kJ of an AMD
#: package, takes a minute at 1 kW.
REFRESH_S = 20.0


@dataclass
class _Zone:
    """One package's counter, unwrapped: it runs from 0 to `range_uj` and starts again."""

    file: Path
    range_uj: int
    last_uj: int
    turns_uj: int = 0

    def joules(self) -> float:
        now_uj = _number(self.file)
        if now_uj < self.last_uj:
            self.turns_uj += self.range_uj
        self.last_uj = now_uj
        return (self.turns_uj + now_uj) / 1e6


class RaplMeter(Meter):
    """Energy of the processor packages, summed: cores, caches and memory controller, not the memory itself.

    The counter covers everything that runs on the processor, not this process alone. It ticks about every
    millisecond, in steps of some ten microjoules, and starts again from zero after minutes to hours; a thread that
    wakes every 20 s sees every turn of it.

    Parameters
    ----------
    root : path, default /sys/class/powercap
        Folder of the powercap zones.
    clock : Clock, optional

    References
    ----------
    Linux kernel, *Power Capping Framework*, https://docs.kernel.org/power/powercap/powercap.html.
    Khan et al. (2018), RAPL in Action, ACM TOMPECS 3(2), https://doi.org/10.1145/3177754 (update period,
    accuracy).
    """

    name = "rapl"
    kind = "measured"
    watches = ("cpu",)

    def __init__(self, root: str | os.PathLike = POWERCAP, *, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self.root = Path(root)
        self.device = "cpu"
        self.source = "powercap energy_uj"
        self._zones: tuple[_Zone, ...] = ()
        self._lock = threading.Lock()
        self._refresh: Periodic | None = None

    @classmethod
    def for_devices(cls, devices: Sequence[DeviceFacts], parameters: Parameters) -> list[Meter]:
        """Return one meter for all packages of the machine."""
        return [cls()]

    @classmethod
    def why_not(cls, devices: Sequence[DeviceFacts], root: Path = POWERCAP) -> str | None:
        """Say why the counters cannot be read here; None when they can."""
        reason = super().why_not(devices)
        if reason is not None:
            return reason
        files = [zone / "energy_uj" for zone in packages(root)]
        if not files:
            return f"this machine shows no processor energy counter in {root} (a virtual machine, or no RAPL)"
        denied = [file for file in files if not os.access(file, os.R_OK)]
        return f"{denied[0]} may not be read; grant it: `{GRANT}`" if denied else None

    def open(self) -> None:
        """Find the packages, read their ranges and measure the update period.

        Raises
        ------
        MeterPermissionError
            If the counters are readable by root alone.
        MeterError
            If there are none.
        """
        found = packages(self.root)
        if not found:
            raise MeterError(f"rapl: no package zone in {self.root}; this machine shows no processor energy counter")
        self._zones = tuple(
            _Zone(zone / "energy_uj", _number(zone / "max_energy_range_uj"), _number(zone / "energy_uj"))
            for zone in found
        )
        names = [_read(zone / "name") for zone in found]
        self.device = "+".join(names)
        self.source = f"powercap energy_uj of {', '.join(names)} (memory not included)"
        self.quantum_j = 1e-6
        self.power_limit_w = _limit_w(found)
        self.update_period_s = update_period(self, steps=20, cap_s=0.25, poll_s=0.0002)
        if self.update_period_s is None:
            raise MeterError(f"rapl: the counters of {self.device} do not move; a virtual machine may show dead ones")
        self.read_cost_s = read_cost(self)
        self._refresh = Periodic(self.read, REFRESH_S, "energylab-rapl")
        self._refresh.start()

    def close(self) -> None:
        """Stop the thread."""
        if self._refresh is not None:
            self._refresh.stop()
        self._zones = ()

    def read(self) -> Reading:
        """Return the sum of the packages, unwrapped."""
        if not self._zones:
            raise MeterError("the rapl meter is not open; call open() or use it in a with block")
        with self._lock:
            before_s = self.clock.now()
            energy_j = sum(zone.joules() for zone in self._zones)
            return Reading(energy_j, (before_s + self.clock.now()) / 2)


def packages(root: Path) -> list[Path]:
    """Return the package zones of powercap, in order: not their parts (core, dram), which they or the board
    hold.

    The same package can be shown twice, by ``intel-rapl`` and ``intel-rapl-mmio``: the first one counts.
    """
    found: dict[str, Path] = {}
    zones = sorted(root.glob("*rapl*:*"), key=lambda zone: ("mmio" in zone.name, zone.name)) if root.is_dir() else []
    for zone in zones:
        label = zone / "name"
        if zone.name.count(":") == 1 and label.is_file() and label.read_text().startswith("package"):
            found.setdefault(label.read_text().strip(), zone)
    return list(found.values())


def _limit_w(zones: Sequence[Path]) -> float | None:
    """Return the sum of the packages' largest limits: the short-term one, since bursts exceed the long-term one."""
    limits_uw = [max((_number(file) for file in zone.glob("constraint_*_power_limit_uw")), default=0) for zone in zones]
    return sum(limits_uw) / 1e6 if all(limits_uw) else None


def _number(file: Path) -> int:
    text = _read(file)
    try:
        return int(text)
    except ValueError:
        raise MeterError(f"rapl: {file} holds {text!r}, not a number of microjoules or microwatts") from None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except PermissionError as error:
        raise MeterPermissionError(f"rapl: {file} may not be read; grant it: `{GRANT}`") from error
    except OSError as error:
        raise MeterError(f"rapl: {file} cannot be read: {error}") from error
