"""The processor a session runs on: cores it may use, processor time of its processes, and that of everybody else.

References
----------
Linux kernel, *Control Group v2* (``cpu.max``), *CFS Bandwidth Control* (``cpu.cfs_quota_us``), and ``proc(5)``.
"""

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

#: Involuntary switches of this process in a second of its own processor time that show a lack of processors.
CROWDED_PER_S = 100.0


def usable_cores(cpus: Iterable[int] | None = None, root: str | os.PathLike = "/") -> float:
    """Return how many physical cores this process may use: by affinity and by its container's quota.

    `cpus` are numbers of hardware threads, by default those it may run on: two threads of one core are one core. `root`
    is that of the file system that ``proc`` and ``sys`` are read from.
    """
    if cpus is None:
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_text(Path(root) / topology.format(cpu)) or f"cpu {cpu}" for cpu in cpus}
    return min([float(len(cores)), *_quotas(Path(root))])


def quota_cores(root: str | os.PathLike = "/") -> float | None:
    """Return how many cores' worth of time this process's container may use; None without a quota."""
    return min(_quotas(Path(root)), default=None)


def _quotas(root: Path) -> Iterator[float]:
    """Yield every processor quota that this process is under, in cores: version 2 and version 1 control groups."""
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            for folder in _upward(root / "sys/fs/cgroup", path):
                yield from _ratio(*(_text(folder / "cpu.max") or "max").split())
        elif "cpu" in controllers.split(","):
            for folder in _upward(root / "sys/fs/cgroup/cpu", path):
                yield from _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str | None, period: str | None = "100000") -> Iterator[float]:
    if quota and quota.isdecimal() and period and period.isdecimal():
        yield int(quota) / int(period)


def _upward(mount: Path, path: str) -> list[Path]:
    """Return the group's folder and all above it; in a container only the mount itself may be there."""
    folder = mount / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent == mount or mount in parent.parents)]


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:  # not on this system
        return None


class ProcessTime:
    """Processor time of this process, its ended children and its living descendants, in seconds.

    Looking for new descendants takes milliseconds: `look` does it, outside of the windows.
    """

    def __init__(self) -> None:
        self._living: dict[int, float] = {}
        self._ended_s = self._lost_s = 0.0

    def look(self) -> bool:
        """Look for new descendants; return whether one was found that had worked before it was seen."""
        import psutil

        born = {child.pid for child in psutil.Process().children(recursive=True)} - self._living.keys()
        self._living |= {pid: processor_s(pid) or 0.0 for pid in born}
        return any(self._living[pid] > 0.01 for pid in born)

    def __call__(self) -> float:
        """Return the seconds of all of them."""
        own_s, children = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        now = {pid: processor_s(pid) for pid in self._living}
        gone_s = sum(seconds for pid, seconds in self._living.items() if now[pid] is None)
        ended_s = children.ru_utime + children.ru_stime
        if ended_s - self._ended_s < gone_s:  # nobody waited for them: the kernel does not count them as ended
            self._lost_s += gone_s
        self._ended_s = ended_s
        self._living = {pid: seconds for pid, seconds in now.items() if seconds is not None}
        return own_s + ended_s + self._lost_s + sum(self._living.values())


class Company:
    """Tells how much of the machine's processor time is not this session's.

    `own_s` returns the processor time of the session's own processes, in seconds; `switches` how often this process had
    to give way so far.
    """

    def __init__(
        self,
        own_s: Callable[[], float],
        root: str | os.PathLike = "/",
        switches: Callable[[], int] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
    ) -> None:
        self._own_s = own_s
        self._stat = Path(root) / "proc/stat"
        self._switches = switches
        self._last: tuple[int, float] | None = None

    def counters(self) -> DeviceCounters:
        """Return own and others' processor time, and the mark of a process that often had to give way."""
        own_s, switches, marks = self._own_s(), self._switches(), ()
        if self._last is not None and switches - self._last[0] > CROWDED_PER_S * max(own_s - self._last[1], 0.5):
            marks = ("busy_host",)
        self._last = switches, own_s
        busy_s = self._busy_s()
        return DeviceCounters(own_s=own_s, others_s=None if busy_s is None else busy_s - own_s, marks=marks)

    def _busy_s(self) -> float | None:
        """Return the time all processors were busy, with what a hypervisor took; None where the kernel hides it."""
        fields = (_text(self._stat) or "cpu").splitlines()[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = [int(field) for field in fields] or [0] * 8
        ticks = user + nice + system + irq + softirq + steal
        return ticks / os.sysconf("SC_CLK_TCK") if ticks else None


def server_of(parameters: Parameters) -> ServerProcesses | None:
    """Return the server a session's parameters name, unsought; None where the model runs in this process."""
    if parameters.model_source != "endpoint":
        return None
    from energylab.serving.processes import ServerProcesses

    return ServerProcesses(parameters.endpoint, parameters.server_pid)


def own_processes(ours: ProcessTime, server: ServerProcesses | None) -> Callable[[], float]:
    """Return what tells the processor time of a session: of this process with its children, and of its server."""
    return ours if server is None else lambda: ours() + server.cpu_s()
