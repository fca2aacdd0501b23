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
from collections.abc import Sequence
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


def marked(folder: Path) -> dict[int, Path]:
    """Return the processes of one study, job or attempt: process id to the folder it is marked with.

    Only processes whose environment this user may read are seen.
    """
    folder = folder.resolve()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        marker = _marker(entry)
        if marker is not None and marker.is_relative_to(folder):
            found[int(entry.name)] = marker
    return found


def _marker(entry: Path) -> Path | None:
    try:
        variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return None  # it ended meanwhile, or it is another user's
    name = f"{MARKER}=".encode()
    return next((Path(os.fsdecode(v[len(name) :])) for v in variables if v.startswith(name)), None)


def kill_marked(folder: Path, spare: Sequence[Path] = (), timeout_s: float = 10.0) -> None:
    """Kill every process of one study, job or attempt, and wait until none is left.

    Parameters
    ----------
    folder : pathlib.Path
        The study's, job's or attempt's.
    spare : sequence of pathlib.Path
        Jobs or attempts in it whose processes are left alone.
    timeout_s : float
        How long to wait for the last of them.

    Raises
    ------
    StudyError
        If one does not end: a process that hangs in a driver would be in the next job's energy.
    """
    spared = [path.resolve() for path in spare]
    deadline = time.monotonic() + timeout_s
    while alive := [pid for pid, at in marked(folder).items() if not any(at.is_relative_to(path) for path in spared)]:
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself between the look and the signal
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise StudyError(f"processes {alive} of {folder} do not end; look at them, then run again")
        time.sleep(0.01)


def describe_exit(status: int | None) -> str:
    """Say in words how a process ended, from its exit status (negative: killed by that signal; None: unknown)."""
    known: dict[int | None, str] = {
        -9: "killed by signal 9: most often the machine ran out of memory",
        -7: "killed by signal 7 (bus error): shared memory or a file system gave way",
        138: "exit status 138 (bus error): shared memory or a file system gave way",
        -11: "killed by signal 11 (segmentation fault)",
        -15: "killed by signal 15: asked to end by its scheduler or a user",
        137: "exit status 137: killed, most often for memory",
        None: "it stopped answering",
    }
    return known.get(status, f"killed by signal {-status}" if status and status < 0 else f"exit status {status}")
