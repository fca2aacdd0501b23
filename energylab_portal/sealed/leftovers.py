"""Containers whose owner is dead: a process that is killed cannot take its container away; the next one does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from energylab_portal.sealed import docker

#: Label of every sealed container: which process started it.
LABEL = "energylab.owner"


def owner(pid: int, proc: Path = Path("/proc")) -> str | None:
    """Return what tells a process from every other: its namespace, its id and when it started; None once it is dead.

    Parameters
    ----------
    pid : int
        As this process numbers it.
    proc : Path
        Where the kernel describes processes; a test gives its own.
    """
    try:
        # the name, in brackets, may hold spaces; the start time is the 20th field after it (proc(5), field 22)
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else f"{_namespace(proc)}:{pid}:{fields[19]}"


def _namespace(proc: Path) -> str:
    return os.readlink(proc / "self/ns/pid").strip("pid:[]")  # noqa: PTH115 - it is no path


def mark() -> list[str]:
    """Return the option of ``docker create`` that says whose a container is."""
    return ["--label", f"{LABEL}={owner(os.getpid())}"]


def sweep(call: Callable[[Sequence[str]], str] = docker.call, proc: Path = Path("/proc")) -> list[str]:
    """Take away the containers of dead processes of this machine, with everything that runs in them.

    Parameters
    ----------
    call : callable
        Runs one docker command.
    proc : Path
        See `owner`.

    Returns
    -------
    list of str
        Names of those that were taken away. One of another namespace of processes is left: whether its owner lives
        cannot be seen from here.
    """
    listing = call(["ps", "--all", "--filter", f"label={LABEL}", "--format", '{{.Names}}\t{{.Label "' + LABEL + '"}}'])
    owned = dict(line.split("\t", 1) for line in listing.splitlines())
    dead = [name for name, label in owned.items() if _is_dead(label, proc)]
    for name in dead:
        call(["rm", "--force", "--volumes", name])
    return dead


def _is_dead(label: str, proc: Path) -> bool:
    namespace, pid, _ = label.split(":")
    return namespace == _namespace(proc) and owner(int(pid), proc) != label
