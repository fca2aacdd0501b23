"""The processor a session runs on: cores it may use, processor time of its processes and of all others."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from energylab.clock import processor_s
from energylab.meters.base import DeviceCounters
from energylab.parameters import Parameters

if TYPE_CHECKING:
    from energylab.serving.processes import ServerProcesses

#: Involuntary context switches per second of processor time above which this process lacks processors.
CROWDED_PER_S = 100.0


def usable_cores(cpus: Iterable[int] | None = None, root: str | os.PathLike = "/") -> float:
    """Return how many physical cores this process may use: by affinity and by its container's quota.

    `cpus` are numbers of hardware threads, by default those it may run on; two threads of one core count as one.
    ``proc`` and ``sys`` are read below `root`.
    """
    if cpus is None:
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_text(Path(root) / topology.format(cpu)) or f"cpu {cpu}" for cpu in cpus}
    return min([float(len(cores)), *_quotas(Path(root))])


def quota_cores() -> float | None:
    """Return the processor quota of this process's container, in cores; None without a quota."""
    return min(_quotas(Path("/")), default=None)


def _quotas(root: Path) -> Iterator[float]:
    """Yield every quota, in cores, of this process's control groups (``cgroups(7)``), versions 2 and 1."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / ("sys/fs/cgroup/cpu" if controllers else "sys/fs/cgroup")
        group = mount / path.lstrip("/")  # in a container only the mount itself may be there
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(mount))):
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            quota, *period = " ".join(_text(folder / file) for file in files).split() or ["max"]
            if quota.isdecimal():  # "max" and -1 are none
                yield int(quota) / int(period[0])


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:  # not on this system
        return ""


class ProcessTime:
    """Processor time of this process, its ended children and its living descendants, in seconds.

    Looking for new descendants takes milliseconds, so `look` does it outside of windows.
    """

    def __init__(self) -> None:
        self._living: dict[int, float] = {}
        self._ended_s = self._lost_s = 0.0

    def look(self) -> bool:
        """Look for new descendants; return whether one of them had already used processor time."""
        import psutil

        born = {child.pid for child in psutil.Process().children(recursive=True)} - self._living.keys()
        self._living |= {pid: processor_s(pid) or 0.0 for pid in born}
        return any(self._living[pid] > 0.01 for pid in born)

    def __call__(self) -> float:
        """Return the total processor time in seconds."""
        own_s, children = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        now = {pid: processor_s(pid) for pid in self._living}
        gone_s = sum(seconds for pid, seconds in self._living.items() if now[pid] is None)
        ended_s = children.ru_utime + children.ru_stime
        if ended_s - self._ended_s < gone_s:  # no parent waited for them, so the kernel does not count their time
            self._lost_s += gone_s
        self._ended_s = ended_s
        self._living = {pid: seconds for pid, seconds in now.items() if seconds is not None}
        return own_s + ended_s + self._lost_s + sum(self._living.values())


def involuntary_switches() -> int:
    """Return how often the kernel has preempted this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class OtherLoad:
    """Processor time that other processes of this machine use: neither this process nor the server it measures."""

    def __init__(self, server: ServerProcesses | None = None, own_s: Callable[[], float] | None = None) -> None:
        self.ours, self._server = ProcessTime(), server
        self._own_s = own_s or (lambda: self.ours() + (server.cpu_s() if server else 0.0))
        self._last: tuple[int, float] | None = None
        self.missed = False  # whether the last look found a child that had already used processor time

    def counters(self) -> DeviceCounters:
        """Return own and others' processor time, with a warning if this process was often preempted."""
        import psutil

        self.missed = self.ours.look()
        if self._server is not None:
            self._server.refresh()
        own_s, switches, warnings = self._own_s(), involuntary_switches(), ()
        if self._last is not None and switches - self._last[0] > CROWDED_PER_S * max(own_s - self._last[1], 0.5):
            warnings = ("busy_host",)
        self._last = switches, own_s
        times = psutil.cpu_times()._asdict()  # steal is what a hypervisor took
        busy_s = sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        return DeviceCounters(own_s=own_s, others_s=busy_s - own_s if busy_s else None, warnings=warnings)  # 0: hidden


def server_of(parameters: Parameters) -> ServerProcesses | None:
    """Return the server that the parameters name, not yet searched for; None if the model runs in this process."""
    if parameters.model_source != "endpoint":
        return None
    from energylab.serving.processes import ServerProcesses

    return ServerProcesses(parameters.endpoint, parameters.server_pid)
