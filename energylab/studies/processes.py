"""Processes of a study: how they are known, and how none is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from energylab.errors import StudyError

#: Environment variable that every process of an attempt carries, with the attempt's folder.
MARKER = "ENERGYLAB_ATTEMPT"

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel of Linux to kill this process when its parent dies; leave at once if it is dead already.

    Parameters
    ----------
    parent : int
        Process id of the parent, as the parent gave it.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def private_folder(study: Path) -> Path:
    """Make an empty folder for the sockets of one study's runner, which holds the study's lock; clear what is in it.

    Its path is short, whatever the study's is: paths of Unix sockets may have 107 bytes.

    Raises
    ------
    StudyError
        If the folder belongs to another user.
    """
    digest = hashlib.sha256(str(study).encode()).hexdigest()[:12]
    base = tempfile.gettempdir() if len(tempfile.gettempdir()) <= 40 else "/tmp"
    folder = Path(base) / f"energylab-{os.getuid()}-{digest}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StudyError(f"cannot make {folder} for this run's sockets: {error.strerror}; remove it") from error
    return folder


def kill_group(leader: int) -> None:
    """Kill the process group that `leader` leads, if there is any of it left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def marked(prefix: str) -> list[int]:
    """Return the ids of processes whose marker starts with `prefix`: those of one attempt, job or study.

    Only processes whose environment this user may read are seen.
    """
    wanted = f"{MARKER}={prefix}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or it is another user's
        if any(variable == wanted or variable.startswith(wanted + b"/") for variable in variables):
            found.append(int(folder.name))
    return found


def kill_marked(prefix: str, timeout_s: float = 10.0) -> int:
    """Kill every process of one attempt, job or study, and wait until none is left.

    Returns
    -------
    int
        How many were killed.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + timeout_s
    while alive := marked(prefix):
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            except ProcessLookupError:
                continue  # it ended by itself between the look and the signal
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return len(killed)
