"""One attempt of one job, in a process of its own: run the notebook through papermill, say how it ended.

``python -m energylab.studies.job results/NAME/JOB_ID/attempt-N`` is what every executor runs; the same parameters
given to plain ``papermill`` leave the same record.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from pathlib import Path
from typing import Any

from energylab.studies.folder import Attempt, End, Outcome
from energylab.studies.kernels import manager
from energylab.studies.processes import describe_exit, die_with_parent

#: Exit status of a process that lost its memory mapping; seen where a node's storage or shared memory failed.
BUS_ERROR = (-7, 138)


def main(arguments: list[str]) -> int:
    """Run the attempt in the folder named by the first argument; die with the process named by the second, if any."""
    if len(arguments) > 1:
        die_with_parent(int(arguments[1]))
    attempt = Attempt(Path(arguments[0]))
    started = time.monotonic()
    end, reason = execute(attempt)
    save_figures(attempt)
    attempt.close(Outcome.now(end, reason, time.monotonic() - started))
    print(f"{attempt.path}: {end} {reason}".rstrip(), flush=True)  # noqa: T201 - the log of the attempt
    return 0 if end == "finished" else 1


def execute(attempt: Attempt) -> tuple[End, str]:
    """Execute the attempt's notebook.

    Parameters
    ----------
    attempt : Attempt
        Its request says which notebook, with which parameters.

    Returns
    -------
    end : str
        How it ended, see `energylab.studies.folder.End`.
    reason : str
        Why, in words; empty when it finished.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    request = attempt.request
    os.environ.update(request.environment)
    with manager(_kernel_name(request.notebook)) as kernel:
        try:
            papermill.execute_notebook(
                request.notebook,
                str(attempt.notebook),
                parameters=request.parameters,
                progress_bar=False,
                log_output=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                km=kernel,
            )
        except PapermillExecutionError as error:
            return "cell_error", f"{error.ename}: {error.evalue} (cell {error.exec_count})"
        except RuntimeError as error:  # nbclient: the kernel died or never answered
            return _kernel_failure(attempt, kernel.provisioner.exit_status, error)
    return "finished", ""


def _kernel_failure(attempt: Attempt, status: int | None, error: RuntimeError) -> tuple[End, str]:
    """Tell a machine that failed from a notebook that failed."""
    cell = _last_started_cell(attempt)
    how = describe_exit(status)
    if cell is None:
        return "infrastructure", f"the kernel died before its first cell ({how}): {error}"
    if status in BUS_ERROR:
        return "infrastructure", f"the kernel died in cell {cell} ({how})"
    return "kernel_died", f"the kernel died in cell {cell} ({how})"


def _last_started_cell(attempt: Attempt) -> int | None:
    cells = [cell for cell in _cells(attempt.notebook) if cell["cell_type"] == "code"]
    started = [n for n, cell in enumerate(cells) if cell["metadata"].get("papermill", {}).get("start_time")]
    return max(started) + 1 if started else None


def _cells(notebook: Path) -> list[Any]:
    import nbformat

    return nbformat.read(notebook, as_version=4).cells if notebook.is_file() else []


def _kernel_name(notebook: str) -> str:
    import nbformat

    return nbformat.read(notebook, as_version=4).metadata.kernelspec.name


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
