"""The program in the container: loads the model, runs the requested batches, and reports when they are done.

It knows nothing of meters, clocks or windows.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from energylab import tasks
from energylab.devices import PACKAGES, package_versions
from energylab.errors import EnergylabError
from energylab.parameters import Parameters
from energylab.protocol.workload import TaskWorkload
from energylab.tasks.base import Task
from energylab_portal.sealed.derive import task_facts
from energylab_portal.sealed.lines import HELLO, Line

SOCKET = Path("/run/energylab/host.sock")

#: Longest text of one output that is sent to the host; a longer one is replaced by its hash.
MAX_OUTPUT = 20_000


class Service:
    def __init__(self, load_task: Callable[[Parameters], Task] = tasks.load_task) -> None:
        self._load_task = load_task
        self._batches: dict[int, Any] = {}
        self._outputs: dict[int, Any] = {}
        self._answers: dict[int, Any] = {}

    def handle(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question; an exception is part of the answer."""
        what, number = question.pop("do", None), question.pop("number", None)
        method: Callable[..., dict[str, Any]] | None = getattr(self, f"do_{what}", None)
        if method is None:
            return {"number": number, "error": "UnknownQuestion", "message": str(what)[:100]}
        try:
            return {"number": number, **method(**question)}
        except Exception as error:  # noqa: BLE001 - the host decides on the model's exceptions
            return {"number": number, **_failure(error, 2000 if isinstance(error, EnergylabError) else 500)}

    def do_load(self, parameters: dict[str, Any], device: str) -> dict[str, Any]:
        self.task = self._load_task(Parameters.check(parameters))
        self.rows, data = self.task.load_rows()
        model = self.task.load(device)
        self.workload = TaskWorkload(self.task, self.rows)
        covariates = self.task.covariates(self.rows)
        gc.collect()
        gc.freeze()
        return {
            "model": model.model_dump(mode="json"),
            "data": data.model_copy(update={"covariates": covariates}).model_dump(mode="json"),
            "phases": list(self.task.phases),
            "batch_size": self.task.batch_size,
            "settings": task_facts(self.task).settings,
            "boards": _boards(),
            "packages": package_versions(PACKAGES),
            "python": platform.python_version(),
        }

    def do_prepare(self, batch: int, phase: str, queries: list[int], drop: list[list[int]]) -> dict[str, Any]:
        """Make one batch, and delete those that the host no longer needs."""
        for kept, numbers in zip((self._batches, self._outputs), drop, strict=True):
            for number in numbers:
                kept.pop(number, None)
        self._batches[batch] = self.workload.prepare(phase, tuple(queries))
        return {}

    def do_run(self, phase: str, batches: list[int], keep: int | None) -> dict[str, Any]:
        """Run batches in order and wait for the device; keep their outputs from number `keep` on."""
        done, collecting = 0, gc.isenabled()
        gc.disable()
        try:
            for outputs in self.workload.run_all(phase, [self._batches[number] for number in batches]):
                if keep is not None:
                    self._outputs[keep + done] = outputs
                done += 1
            self.workload.synchronize()
        except Exception as error:  # noqa: BLE001 - the host stores it with the query
            return {"done": min(done, len(batches) - 1), **_failure(error, 500)}
        finally:
            if collecting:
                gc.enable()
        return {"done": done}

    def do_count(self, phase: str, batch: int, outputs: int | None) -> dict[str, Any]:
        counted = self.workload.count(phase, self._batches[batch], self._outputs.get(outputs))
        return {"input": counted.input, "output": counted.output}

    def do_answers(self, batch: int, outputs: int) -> dict[str, Any]:
        """Return the outputs of one batch as text, for the owner's commitments."""
        found = self.workload.answers(self._batches[batch], self._outputs[outputs])
        self._answers.update(found)
        return {"answers": {str(query): as_text(answer) for query, answer in found.items()}}

    def do_score(self) -> dict[str, Any]:
        answered = sorted(self._answers)
        answers = [self._answers[query] for query in answered]
        quality = self.task.score(answers, [self.rows[query] for query in answered]) if answered else ()
        return {"quality": [one.model_dump(mode="json") for one in quality], "extra": self.task.extra(answers)}


def _failure(error: Exception, length: int) -> dict[str, str]:
    kind = "OutOfMemoryError" if isinstance(error, MemoryError) else type(error).__name__
    return {"error": kind[:100], "message": str(error)[:length]}


def as_text(answer: Any) -> str:
    """Return an output as text: texts and numbers unchanged, others as a hash of their bytes."""
    if isinstance(answer, str | int | float | bool):
        text = str(answer)
        return text if len(text) <= MAX_OUTPUT else _hash(text.encode())
    if isinstance(answer, bytes):
        return _hash(answer)
    if hasattr(answer, "tobytes"):
        return _hash(answer.tobytes())
    return as_text(json.dumps(answer, sort_keys=True, ensure_ascii=False, default=_other))


def _other(value: Any) -> str:
    return as_text(value) if hasattr(value, "tobytes") or isinstance(value, bytes) else repr(value)


def _hash(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _boards() -> list[str]:
    """Return the UUIDs of the boards that torch sees; empty on a CPU, or if torch is not imported."""
    torch = sys.modules.get("torch")
    count = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
    found = [getattr(torch.cuda.get_device_properties(index), "uuid", None) for index in range(count)]
    return [str(uuid) for uuid in found if uuid is not None]


def mirror(prepared: Path, folder: Path) -> None:
    """Link prepared data sets, mounted read-only, into a folder where the library can write its lock files."""
    for path in sorted(prepared.rglob("*")):
        target = folder / path.relative_to(prepared)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.suffix != ".lock":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)


def serve(connection: socket.socket) -> None:
    line, service = Line(connection), Service()
    line.send(HELLO)
    while (question := line.receive()) is not None:
        line.send(service.handle(question))


def main() -> int:
    mirror(Path("/data/datasets"), Path(os.environ.get("HF_DATASETS_CACHE", "/tmp/datasets")))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(SOCKET))
    serve(connection)
    return 0


if __name__ == "__main__":
    sys.exit(main())
