"""How the container is closed off: the options it is started with, and what the daemon says of them afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylab.errors import SealError
from energylab_portal.sealed.statement import Seal

#: The user the work runs as, where the one who starts it is root: a number that owns nothing.
NOBODY = 65532

#: A limit beyond these is none: the kernel's own on process ids, and more memory than any one machine has.
MOST_PROCESSES, MOST_MEMORY = 2**15, 2**45


@dataclass(frozen=True)
class Limits:
    """What the work may use.

    Attributes
    ----------
    memory_mb : int
        Memory, all tmpfs included; there is no swap.
    processes : int
        Processes and threads.
    scratch_mb : int
        ``/tmp``, in memory.
    results_mb : int
        ``/results``, the one folder whose files leave the container; in memory until then.
    shared_mb : int
        ``/dev/shm``.
    """

    memory_mb: int = 8192
    processes: int = 512
    scratch_mb: int = 512
    results_mb: int = 64
    shared_mb: int = 256


@dataclass(frozen=True)
class Mounts:
    """What is mounted, all of it read-only but the results.

    Attributes
    ----------
    socket : Path
        Folder of the host's socket.
    model : Path
        The model's folder.
    data : Path or None
        A hub cache that holds the published data.
    python, packages : Path or None
        The host's Python and its installed packages, where the image carries none.
    """

    socket: Path
    model: Path
    data: Path | None = None
    python: Path | None = None
    packages: Path | None = None


def options(name: str, user: int, limits: Limits, mounts: Mounts, gpus: Sequence[str]) -> list[str]:
    """Return the options of ``docker create``.

    Parameters
    ----------
    name : str
        Of the container.
    user : int
        User and group the work runs as.
    limits : Limits
    mounts : Mounts
    gpus : sequence of str
        UUIDs of the boards it may use.

    Raises
    ------
    SealError
        If a path holds a comma, which Docker's mounts cannot express.
    """
    memory = f"{limits.memory_mb}m"
    sealed = [
        "--name", name, "--network", "none", "--read-only", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges", "--pids-limit", str(limits.processes),
        "--memory", memory, "--memory-swap", memory, "--user", f"{user}:{user}",
        "--ipc", "private", "--shm-size", f"{limits.shared_mb}m", "--hostname", "sealed",
        "--log-driver", "local", "--log-opt", "max-size=1m", "--log-opt", "max-file=1", "--log-opt", "compress=false",
        "--tmpfs", f"/tmp:rw,nosuid,nodev,size={limits.scratch_mb}m,mode=1777",
        "--tmpfs", f"/results:rw,nosuid,nodev,noexec,size={limits.results_mb}m,mode=0700,uid={user},gid={user}",
    ]  # fmt: skip
    bound = {
        "/run/energylab": mounts.socket,
        "/model": mounts.model,
        "/data": mounts.data,
        "/opt/python": mounts.python,
        "/opt/site-packages": mounts.packages,
    }
    for target, source in bound.items():
        if source is not None:
            sealed += ["--mount", _bind(source, target)]
    return sealed + (["--gpus", f'"device={",".join(gpus)}"'] if gpus else [])


def _bind(source: Path, target: str) -> str:
    if "," in str(source):
        raise SealError(f"{source}: Docker cannot mount a path with a comma in it; rename the folder")
    return f"type=bind,source={source},target={target},readonly"


def stated(inspected: Mapping[str, Any]) -> Seal:
    """Take from ``docker inspect`` how the container is closed off in fact."""
    host = inspected["HostConfig"]
    writable = [str(mount["Destination"]) for mount in inspected["Mounts"] if mount["RW"]]
    return Seal(
        network=host["NetworkMode"],
        read_only_root=bool(host["ReadonlyRootfs"]),
        dropped=tuple(sorted(host["CapDrop"] or ())),
        added=tuple(sorted(host["CapAdd"] or ())),
        no_new_privileges=any(option.startswith("no-new-privileges") for option in host["SecurityOpt"] or ()),
        privileged=bool(host["Privileged"]),
        user=str(inspected["Config"]["User"]),
        pids_limit=int(host["PidsLimit"] or 0),
        memory_bytes=int(host["Memory"]),
        writable=tuple(sorted([*writable, *(host["Tmpfs"] or {})])),
    )


def gaps(seal: Seal) -> list[str]:
    """Return where a container is not closed off as it must be; empty when it is."""
    user = seal.user.partition(":")[0]
    rules = {
        f"its network is {seal.network!r}, not 'none'": seal.network == "none",
        "its root can be written to": seal.read_only_root,
        f"capabilities are not all dropped: {', '.join(seal.dropped) or 'none'} are": "ALL" in seal.dropped,
        f"capabilities were added: {', '.join(seal.added)}": not seal.added,
        "it may gain new privileges": seal.no_new_privileges,
        "it is privileged": not seal.privileged,
        f"it runs as user {user or 'root'!r}": user.isdecimal() and int(user) > 0,
        "its number of processes has no limit": 0 < seal.pids_limit <= MOST_PROCESSES,
        "its memory has no limit": 0 < seal.memory_bytes <= MOST_MEMORY,
        f"it may write to {', '.join(seal.writable)}": set(seal.writable) <= {"/tmp", "/results"},
    }
    return [gap for gap, closed in rules.items() if not closed]
