"""Kernels of jobs: each its own process, on private sockets, gone when its job is gone."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.utils import run_sync


class JobKernelManager(AsyncKernelManager):
    """A kernel manager that keeps the kernel's exit status, and asks ipykernel to leave with its parent."""

    exit_status: int | None = None

    async def _async_is_alive(self) -> bool:
        if self.provisioner is not None and self.provisioner.has_process:
            self.exit_status = await self.provisioner.poll()
            return self.exit_status is None
        return False

    is_alive = _async_is_alive


@contextlib.contextmanager
def manager(kernel_name: str) -> Iterator[JobKernelManager]:
    """Give a manager whose kernel talks over Unix sockets in a private folder, and end the kernel afterwards.

    Ports of parallel kernels are chosen before they are bound, so two starts can choose the same one; a private
    folder cannot be shared by accident.

    Parameters
    ----------
    kernel_name : str
        Name of an installed kernel specification, as in the notebook's metadata.

    Yields
    ------
    JobKernelManager
        Not started: nbclient starts it.
    """
    folder = Path(tempfile.mkdtemp(prefix="energylab-"))
    kernels = JobKernelManager(kernel_name=kernel_name, transport="ipc", connection_file=str(folder / "kernel.json"))
    try:
        yield kernels
    finally:
        if kernels.has_kernel:
            run_sync(kernels.shutdown_kernel)(now=False)
        shutil.rmtree(folder, ignore_errors=True)


def describe_exit(status: int | None) -> str:
    """Say how a kernel ended, in words, from its exit status (negative: killed by that signal)."""
    known: dict[Any, str] = {
        -9: "killed by signal 9: most often the machine ran out of memory",
        -7: "killed by signal 7 (bus error): shared memory or a file system gave way",
        138: "exit status 138 (bus error): shared memory or a file system gave way",
        -11: "killed by signal 11 (segmentation fault)",
        137: "exit status 137: killed, most often for memory",
        None: "it stopped answering",
    }
    return known.get(status, f"killed by signal {-status}" if status and status < 0 else f"exit status {status}")
