"""What a session measures: phases over queries, which are prepared outside the windows and run inside them."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from energylab.clock import Clock
from energylab.errors import TaskError, unknown_name
from energylab.record import PHASES, QueryFailure
from energylab.tasks.base import Row, Task, Tokens

#: Phases whose outputs are token ids: kept to be counted after the window. Other outputs are kept only for answers.
COUNTED = ("prefill", "generate", "total")


@dataclass(frozen=True)
class Batch:
    """Queries that are run together, by index, and their prepared inputs."""

    queries: tuple[int, ...]
    inputs: Any


@dataclass
class Work:
    """Results of running a block; `reasons` are keys of `energylab.protocol.validity.REASONS`."""

    replications: int = 0  # how often the whole block was run
    outputs: list[Any] = field(default_factory=list)  # of each batch in the first replication; None if not kept
    failures: list[QueryFailure] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def fail(self, queries: Sequence[int], error: Exception) -> None:
        """Record the error of a batch for each of its queries."""
        kind = "OutOfMemoryError" if isinstance(error, MemoryError) else type(error).__name__
        self.failures += [QueryFailure(query=query, error=kind, message=str(error)[:500]) for query in queries]


class Workload(ABC):
    """Phases over a set of queries: `prepare` makes a batch outside the windows, `run` runs it inside them."""

    phases: tuple[str, ...]  # in the order they are measured
    queries: int  # distinct queries of one run
    batch_size: int = 1
    continuous: bool = False  # work runs from `begin` to `end`, across both edges: needs no lead-in or waiting
    least_batches: int = 1  # fewest batches of a block

    def cut(self, queries: Sequence[int], phase: str = "") -> list[tuple[int, ...]]:
        """Cut queries into batches, in order."""
        return [tuple(queries[i : i + self.batch_size]) for i in range(0, len(queries), self.batch_size)]

    def load(self) -> None:  # noqa: B027 - only under a published protocol, whose first phase needs no model
        """Put the model on its device, unless it is there."""

    @abstractmethod
    def prepare(self, phase: str, queries: tuple[int, ...]) -> Batch:
        """Make one batch, outside the windows."""

    @abstractmethod
    def run(self, phase: str) -> Callable[[Any], Any]:
        """Return the function that is called with each batch's inputs inside the window."""

    def run_all(self, phase: str, batches: Sequence[Batch], keep: bool = True) -> Iterator[Any]:
        """Run batches in order inside the window, and yield the outputs of each; they may be None unless `keep`.

        If it raises, the failed batch is the one after the last that was yielded. A workload in another process starts
        all batches by one message.
        """
        call = self.run(phase)
        for batch in batches:
            yield call(batch.inputs)

    def synchronize(self) -> None:  # noqa: B027 - nothing to wait for unless a device works on its own
        """Wait until the device has finished."""

    def begin(self, phase: str, batches: Sequence[Batch]) -> None:  # noqa: B027 - only for continuous work
        """Begin continuous work on a block; return when it is steady or a query has failed."""

    def work_through(
        self, phase: str, batches: Sequence[Batch], clock: Clock, window_s: float, keep: bool = True
    ) -> Work:
        """Run all batches, and repeat them as a whole until `window_s` has passed.

        Outputs are dropped at once, so that they take no memory on the device; those of the first repetition are kept
        with `keep`, or if they are token ids.
        """
        work, start = Work(), clock.now()
        keep = keep or phase in COUNTED
        done = 0  # batches of the current repetition
        try:
            while True:
                for outputs in self.run_all(phase, batches, keep=keep):
                    if work.replications == 0:
                        work.outputs.append(outputs if keep else None)
                    done += 1
                outputs = None
                self.synchronize()
                work.replications += 1
                if clock.now() - start >= window_s:
                    return work
                done, keep = 0, False
        except Exception as error:  # noqa: BLE001 - any error of a query is recorded, and makes the window invalid
            work.fail(batches[min(done, len(batches) - 1)].queries, error)
        return work

    def end(self) -> None:  # noqa: B027 - only for continuous work
        """End continuous work, after the window's last reading."""

    def close(self) -> None:  # noqa: B027 - most workloads hold nothing
        """Release resources; called when the session ends."""

    def count(self, phase: str, batch: Batch, outputs: Any) -> Tokens:
        """Count the tokens of one batch, after the window; `outputs` is None where they were not kept."""
        return Tokens()

    def answers(self, batch: Batch, outputs: Any) -> dict[int, Any]:
        """Return one answer for each query of a batch of the last phase, after the window."""
        return {}

    def finite(self, batch: Batch, outputs: Any) -> bool:
        """Whether the outputs of a batch of the last phase are finite numbers, after the window."""
        return True


class FunctionWorkload(Workload):
    """Any function of one query, as the phase ``call``; `boards` are the torch indices of CUDA devices to wait for."""

    phases = ("call",)

    def __init__(self, fn: Callable[[Any], Any], queries: Sequence[Any], boards: Sequence[int] = ()) -> None:
        self._fn, self._queries, self._boards = fn, list(queries), tuple(boards)
        self.queries = len(self._queries)

    def prepare(self, phase: str, queries: tuple[int, ...]) -> Batch:
        return Batch(queries, self._queries[queries[0]])

    def run(self, phase: str) -> Callable[[Any], Any]:
        return self._fn

    def synchronize(self) -> None:
        torch = sys.modules.get("torch")  # if the function did not import it, no GPU work can be pending
        if torch is not None and torch.cuda.is_initialized():
            for index in self._boards:
                torch.cuda.synchronize(index)

    def answers(self, batch: Batch, outputs: Any) -> dict[int, Any]:
        return {batch.queries[0]: outputs}


class TaskWorkload(Workload):
    """A loaded task over its rows."""

    def __init__(self, task: Task, rows: Sequence[Row]) -> None:
        self._task, self._rows = task, list(rows)
        self.phases = checked_phases(task)
        self.queries = len(self._rows)
        self.batch_size = task.batch_size

    def prepare(self, phase: str, queries: tuple[int, ...]) -> Batch:
        rows = [self._rows[query] for query in queries]
        return Batch(queries, rows if phase == "preprocess" else self._task.shelve(self._task.prepare(rows)))

    def run(self, phase: str) -> Callable[[Any], Any]:
        return partial(self._task.run, phase)

    def synchronize(self) -> None:
        self._task.synchronize()

    def count(self, phase: str, batch: Batch, outputs: Any) -> Tokens:
        return Tokens() if phase == "preprocess" else self._task.count(phase, batch.inputs, outputs)

    def answers(self, batch: Batch, outputs: Any) -> dict[int, Any]:
        return dict(zip(batch.queries, self._task.answers(batch.inputs, outputs), strict=True))

    def finite(self, batch: Batch, outputs: Any) -> bool:
        return self._task.finite(batch.inputs, outputs)


def size_of(inputs: Any) -> int:
    """Return the bytes of a batch's inputs in memory: arrays, tensors and texts; other objects count as 0."""
    if isinstance(inputs, Mapping):
        inputs = list(inputs.values())
    if isinstance(inputs, list | tuple):
        return sum(map(size_of, inputs))
    return getattr(inputs, "nbytes", None) or (len(inputs) if isinstance(inputs, str | bytes) else 0)


def checked_phases(task: Task) -> tuple[str, ...]:
    """Return the phases of a loaded task; an unknown one is an error."""
    if not task.phases:
        raise TaskError(f"{type(task).__name__}.phases is empty; name at least one of: {', '.join(PHASES)}")
    for phase in task.phases:
        if phase not in PHASES:
            raise unknown_name("phase", phase, PHASES, hint=f"correct {type(task).__name__}.phases")
    return tuple(task.phases)
