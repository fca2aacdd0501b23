"""Who else is on the board: processes with a compute context that are not this one or its kin.

References
----------
Drivers before about 550 give process ids as the host numbers them, also inside a container
(https://github.com/NVIDIA/nvidia-docker/issues/1483); later ones translate them, and may name a thread
(https://github.com/Project-HAMi/HAMi-core/issues/112).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

#: Inode of the host's process id namespace: the kernel's PROC_PID_INIT_INO.
_HOST_NAMESPACE = "pid:[4026531836]"


class Tenants:
    """Remembers the last answer: looking up kin walks through every process of the machine.

    Parameters
    ----------
    served : callable, optional
        Returns the process ids of a server whose model is measured: they count as this process's own.
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
        if self._served is None:
            return cotenants(present)
        return cotenants(present, own=family() | self._served())


def cotenants(pids: Iterable[int], own: Iterable[int] | None = None, host_ids: bool | None = None) -> tuple[int, ...]:
    """Return the process ids that belong to others.

    In a container whose process ids the driver does not translate, this process appears under a number it cannot
    know. One unknown process is then taken to be this one; if there are more, they are all named.

    Parameters
    ----------
    pids : iterable of int
        Processes with a context on the board, as the driver tells.
    own : iterable of int, optional
        Ids of this process, its threads, ancestors and descendants; found out by default.
    host_ids : bool, optional
        Whether this process numbers processes as the host does; found out by default.

    Returns
    -------
    tuple of int
        Sorted.
    """
    present = set(pids)
    if not present:
        return ()
    kin = family() if own is None else set(own)
    others = tuple(sorted(present - kin))
    comparable = bool(present & kin) or (in_host_namespace() if host_ids is None else host_ids)
    return others if comparable or len(others) > 1 else ()


def family() -> set[int]:
    """Return the ids of this process, its threads, its ancestors and its descendants."""
    import psutil

    me = psutil.Process()
    kin = {me.pid, *(parent.pid for parent in me.parents()), *(child.pid for child in me.children(recursive=True))}
    tasks = Path("/proc/self/task")
    return kin | ({int(task.name) for task in tasks.iterdir()} if tasks.is_dir() else set())


def in_host_namespace() -> bool:
    """Tell whether process ids here are the host's, so that the driver's can be compared with them."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _HOST_NAMESPACE
    except OSError:  # no /proc, or a sandbox that hides it: not comparable
        return False
