"""One attempt of one job in its own process: execute the notebook by papermill, and write how it ended.

Every executor runs ``python -m energylab.studies.job results/NAME/JOB_ID/attempt-N``; plain ``papermill`` with the same
parameters writes the same record.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from energylab.studies.state import Attempt, End, Outcome

#: Environment variable with the run's private folder for sockets, whose path must be short.
RUNTIME = "ENERGYLAB_RUNTIME"

#: Exit status of a process that lost a memory mapping, which happens if a node's storage or shared memory fails.
BUS_ERROR = (-7, 138)

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the process `parent` dies; exit if it is already dead."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def describe_exit(status: int | None) -> str:
    """Describe how a process ended, from its exit status (negative: killed by that signal; None: unknown)."""
    if status is None:
        return "it stopped answering"
    number = -status if status < 0 else status - 128
    if number not in signal.valid_signals():
        return f"exit status {status}"
    cause = "most often the machine ran out of memory" if number == signal.SIGKILL else signal.strsignal(number)
    return f"killed by signal {number}: {cause}"


def main(arguments: list[str]) -> int:
    """Run the attempt in the folder of the first argument; end with the process whose id is the second, if given."""
    if len(arguments) > 1:
        die_with_parent(int(arguments[1]))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that cleanup runs
    attempt = Attempt(Path(arguments[0]))
    started = time.monotonic()
    end, reason = execute(attempt)
    save_figures(attempt)
    attempt.close(Outcome.now(end, reason, time.monotonic() - started))
    print(f"{attempt.path}: {end} {reason}".rstrip(), flush=True)  # noqa: T201 - the log of the attempt
    return 0 if end == "finished" else 1


def execute(attempt: Attempt) -> tuple[End, str]:
    """Execute the attempt's notebook; return how it ended and the reason (empty if it finished)."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    request = attempt.request
    os.environ.update(request.environment)
    with kernel(request.notebook) as running:
        try:
            papermill.execute_notebook(
                request.notebook, str(attempt.notebook), parameters=request.parameters, progress_bar=False,
                log_output=False, stdout_file=sys.stdout, stderr_file=sys.stderr, km=running,
            )  # fmt: skip
        except PapermillExecutionError as error:
            return "cell_error", f"{error.ename}: {error.evalue} (cell {error.exec_count})"
        except RuntimeError as error:  # nbclient: the kernel died or never answered
            return _kernel_failure(attempt, running.exit_status, error)
    return "finished", ""


@contextlib.contextmanager
def kernel(notebook: str) -> Iterator[Any]:
    """Yield a kernel manager that uses Unix sockets in a private folder, and end its kernel afterwards.

    Ports are chosen before they are bound, so two parallel kernels could choose the same port; sockets in a private
    folder cannot collide. nbclient starts the kernel.
    """
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.utils import run_sync

    class Manager(AsyncKernelManager):
        exit_status: int | None = None  # of the kernel, once it has ended

        async def _async_is_alive(self) -> bool:
            if self.has_kernel and self.provisioner.has_process:
                self.exit_status = await self.provisioner.poll()
            return await super()._async_is_alive()

        is_alive = _async_is_alive

    with tempfile.TemporaryDirectory(prefix="kernel-", dir=os.environ.get(RUNTIME), ignore_cleanup_errors=True) as path:
        manager = Manager(
            kernel_name=nbformat.read(notebook, as_version=4).metadata.kernelspec.name,
            transport="ipc",
            connection_file=f"{path}/kernel.json",
        )
        try:
            yield manager
        finally:
            if manager.has_kernel:
                run_sync(manager.shutdown_kernel)()


def _kernel_failure(attempt: Attempt, status: int | None, error: RuntimeError) -> tuple[End, str]:
    """Return whether the machine or the notebook failed, and the reason."""
    cell = _last_started_cell(attempt)
    how = describe_exit(status)
    if cell is None:
        return "infrastructure", f"the kernel died before its first cell ({how}): {error}"
    return "infrastructure" if status in BUS_ERROR else "kernel_died", f"the kernel died in cell {cell} ({how})"


def _last_started_cell(attempt: Attempt) -> int | None:
    cells = [cell for cell in _cells(attempt.notebook) if cell["cell_type"] == "code"]
    started = [n for n, cell in enumerate(cells) if cell["metadata"].get("papermill", {}).get("start_time")]
    return max(started) + 1 if started else None


def _cells(notebook: Path) -> list[Any]:
    import nbformat

    return nbformat.read(notebook, as_version=4).cells if notebook.is_file() else []


def save_figures(attempt: Attempt) -> list[Path]:
    """Save every picture of the executed notebook as ``figures/NN.png``, and return the paths."""
    outputs = [output for cell in _cells(attempt.notebook) for output in cell.get("outputs", ())]
    pictures = [picture for output in outputs if (picture := output.get("data", {}).get("image/png"))]
    paths = [attempt.figures / f"{number:02d}.png" for number in range(1, len(pictures) + 1)]
    for path, picture in zip(paths, pictures, strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(base64.b64decode(picture))
    return paths


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
