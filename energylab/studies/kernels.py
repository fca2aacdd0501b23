"""Kernels of jobs: each its own process, on private sockets, gone when its job is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from jupyter_client.utils import run_sync

from energylab.studies.forge_client import RUNTIME, SOCKET, ForgedProcess, Order

#: How long a kernel may take to leave after its last cell, in seconds.
PATIENCE_S = 5.0

_LAUNCHER = "ipykernel_launcher"


class JobProvisioner(LocalProvisioner):
    """Start the kernel by a fork of the warm process where there is one, else by its command as usual."""

    exit_status: int | None = None  # of the kernel, once it has ended

    async def poll(self) -> int | None:
        """Return None while the kernel runs, else its exit status, which is kept."""
        status = await super().poll()
        if self.has_process and status is not None:
            self.exit_status = status
        return status

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Start the kernel; any kernel but IPython's starts cold."""
        forge = os.environ.get(SOCKET)
        if forge is None or _LAUNCHER not in cmd:
            return await super().launch_kernel(cmd, **kwargs)
        arguments = cmd[cmd.index(_LAUNCHER) + 1 :]
        self.cwd = str(kwargs.get("cwd") or Path.cwd())
        order = Order("energylab.studies.forge:kernel", arguments, "energylab-kern", kwargs["env"], self.cwd)
        self.process = ForgedProcess(forge, order, log=sys.stderr.fileno())
        self.pid = self.pgid = self.process.pid
        return self.connection_info


@contextlib.contextmanager
def manager(kernel_name: str) -> Iterator[AsyncKernelManager]:
    """Give a manager whose kernel talks over Unix sockets in a private folder, and end the kernel afterwards.

    Ports of parallel kernels are chosen before they are bound, so two starts can choose the same one; a private
    folder cannot be shared by accident.

    Parameters
    ----------
    kernel_name : str
        Name of an installed kernel specification, as in the notebook's metadata.

    Yields
    ------
    AsyncKernelManager
        Not started: nbclient starts it.
    """
    folder = Path(tempfile.mkdtemp(prefix="kernel-", dir=os.environ.get(RUNTIME)))
    kernels = AsyncKernelManager(
        kernel_name=kernel_name, kernel_id=folder.name, transport="ipc", connection_file=str(folder / "kernel.json")
    )
    kernels.provisioner = JobProvisioner(kernel_id=kernels.kernel_id, kernel_spec=kernels.kernel_spec, parent=kernels)
    try:
        yield kernels
    finally:
        if kernels.has_kernel:
            _stop(kernels)
        shutil.rmtree(folder, ignore_errors=True)


def _stop(kernels: AsyncKernelManager) -> None:
    """Ask the kernel to leave, and kill it if it does not."""
    if kernels.provisioner.exit_status is None:
        run_sync(kernels.request_shutdown)()
        with contextlib.suppress(subprocess.TimeoutExpired):  # killed next
            kernels.provisioner.process.wait(timeout=PATIENCE_S)
    run_sync(kernels.shutdown_kernel)(now=True)
