"""Work on uploaded files in a separate process with limited memory and time, which may crash safely."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from energylab.errors import EnergylabError
from energylab.studies import job as processes

#: Prefix of the line with the answer; other output of a child is ignored.
_ANSWER = "ANSWER "


@dataclass(frozen=True)
class Bounds:
    """Limits of one child: address space, processor time, duration, and file size."""

    memory_bytes: int
    cpu_s: int
    wall_s: float
    file_bytes: int


class ChildDied(EnergylabError):
    """The child did not answer: it exceeded its limits, or crashed."""


def ask(module: str, question: Mapping[str, Any], bounds: Bounds, environment: Mapping[str, str] | None = None) -> Any:
    """Run ``python -P -m module`` with a question on its standard input, and return its answer.

    ``-P``: no file of the working folder is imported.
    """
    told = {**question, "bounds": vars(bounds), "parent": os.getpid()}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module],
            input=json.dumps(told).encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})}, timeout=bounds.wall_s, check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ChildDied(f"no answer within {bounds.wall_s:g} s") from None
    lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith(_ANSWER)]
    if not lines:
        limits = f"limits: {bounds.memory_bytes >> 20} MiB of memory, {bounds.cpu_s} s of processor"
        raise ChildDied(f"no answer (exit status {done.returncode}; {limits})")
    return json.loads(lines[-1].removeprefix(_ANSWER))


def answer(work: Callable[[dict[str, Any]], Any]) -> None:
    """In the child: read the question, apply the limits, and print the result of `work`."""
    question = json.loads(sys.stdin.read())
    processes.die_with_parent(question.pop("parent"))
    bounds = Bounds(**question.pop("bounds"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (bounds.memory_bytes, bounds.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_s, bounds.cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (bounds.file_bytes, bounds.file_bytes))
    result = json.dumps(work(question), allow_nan=False)
    print(f"\n{_ANSWER}{result}", flush=True)  # noqa: T201 - the answer to the parent
