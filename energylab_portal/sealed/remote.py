"""The workload in the container, controlled from the host: a normal session, with one question per phase."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from energylab.errors import SealError
from energylab.parameters import Parameters
from energylab.protocol.workload import Batch, Workload
from energylab.record import DataFacts, DeviceFacts, ModelFacts, Quality, TaskFacts
from energylab.tasks.base import Tokens
from energylab_portal.sealed.derive import Known
from energylab_portal.sealed.lines import Answer, Name, QueryError, Questions

Number = Annotated[int, Field(ge=0, le=10**12)]


class Loaded(Answer):
    """Facts of the loaded data and model."""

    model: ModelFacts
    data: DataFacts
    phases: tuple[Name, ...] = Field(min_length=1, max_length=10)
    batch_size: int = Field(ge=1, le=100_000)
    settings: dict[Name, Any]
    boards: tuple[Name, ...]
    packages: dict[Name, Name]
    python: Name


class Prepared(Answer):
    """A batch is ready."""


class Done(Answer):
    """Batches have run: all of them, or those before the one that failed."""

    done: Number
    error: Name | None = None
    message: Annotated[str, StringConstraints(max_length=500)] = ""


class Counted(Answer):
    """Tokens of one batch."""

    input: Number | None
    output: Number | None


class Answered(Answer):
    """Outputs of one batch, as text."""

    answers: dict[Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")], str]


class Scored(Answer):
    """Quality of the answers."""

    quality: tuple[Quality, ...]
    extra: dict[Name, Any]


class _Handle:
    """Refers to a batch or an output in the container, which deletes it after this object is deleted."""

    __slots__ = ("_forgotten", "number")

    def __init__(self, number: int, forgotten: list[int]) -> None:
        self.number = number
        self._forgotten = forgotten

    def __del__(self) -> None:
        # a thousand of these are made within a window: weakref.finalize would take ten times as long
        self._forgotten.append(self.number)


class RemoteWorkload(Workload):
    def __init__(self, questions: Questions, loaded: Loaded, queries: int) -> None:
        self._questions = questions
        self._numbers = 0
        self._drop: tuple[list[int], list[int]] = ([], [])  # batches and outputs to forget
        self.phases = loaded.phases
        self.queries = queries
        self.batch_size = loaded.batch_size

    def _handle(self, kind: int) -> _Handle:
        self._numbers += 1
        return _Handle(self._numbers - 1, self._drop[kind])

    def prepare(self, phase: str, queries: tuple[int, ...]) -> Batch:
        handle, drop = self._handle(0), [list(numbers) for numbers in self._drop]
        for numbers, gone in zip(self._drop, drop, strict=True):
            del numbers[: len(gone)]
        facts = {"phase": phase, "queries": list(queries), "drop": drop}
        self._questions.ask("prepare", Prepared, batch=handle.number, **facts)
        return Batch(queries, handle)

    def run(self, phase: str) -> Callable[[Any], Any]:
        return lambda handle: list(self.run_all(phase, [Batch((), handle)], keep=False))

    def run_all(self, phase: str, batches: Sequence[Batch], keep: bool = True) -> Iterator[Any]:
        """Run all batches with one question, so that only two messages lie between the two readings."""
        outputs = [self._handle(1) for _ in batches] if keep else []  # numbered one after the other
        numbers = [batch.inputs.number for batch in batches]
        first = outputs[0].number if outputs else None
        done = self._questions.ask("run", Done, phase=phase, batches=numbers, keep=first)
        yield from outputs[: done.done] if keep else [None] * min(done.done, len(batches))
        if done.error is not None:  # the record keeps the name that it had in the container
            raise (type(done.error, (QueryError,), {}) if done.error.isidentifier() else QueryError)(done.message)
        if done.done != len(batches):
            raise SealError(f"the container ran {done.done} of {len(batches)} batches without reporting an error")

    def count(self, phase: str, batch: Batch, outputs: Any) -> Tokens:
        kept = None if outputs is None else outputs.number
        counted = self._questions.ask("count", Counted, phase=phase, batch=batch.inputs.number, outputs=kept)
        return Tokens(counted.input, counted.output)

    def answers(self, batch: Batch, outputs: Any) -> dict[int, Any]:
        """Fetch the outputs of one batch as text; they stay with the owner."""
        asked = {"batch": batch.inputs.number, "outputs": outputs.number}
        answered = self._questions.ask("answers", Answered, **asked).answers
        if sorted(map(int, answered)) != sorted(batch.queries):
            raise SealError("the container answered other queries than the requested ones")
        return {int(query): text for query, text in answered.items()}


class RemoteSubject:
    def __init__(self, parameters: Parameters, start: Callable[[], Questions], known: Known) -> None:
        self._parameters = parameters
        self._start = start
        self.known = known
        self.phases: tuple[str, ...] = ()
        self.questions: Questions | None = None

    @property
    def broken(self) -> SealError | None:
        """The container's violation of the protocol; None if there is none."""
        return None if self.questions is None else self.questions.broken

    def load(self, devices: Sequence[DeviceFacts]) -> Workload:
        """Start the container, let it load data and model, and compare its facts with those of the host."""
        self.questions = self._start()
        device = "cuda:0" if devices[0].type == "cuda" else "cpu"
        loaded = self.questions.ask("load", Loaded, parameters=self._parameters.model_dump(mode="json"), device=device)
        self._compare(loaded, devices)
        self.model, self.data, self.phases = loaded.model, loaded.data, loaded.phases
        self.software = {"packages": loaded.packages, "python": loaded.python, "container": True}
        return RemoteWorkload(self.questions, loaded, self.data.queries)

    def _compare(self, loaded: Loaded, devices: Sequence[DeviceFacts]) -> None:
        told, ours = loaded.data, self.known.data
        if told.queries != self._parameters.samples:
            raise SealError(f"the container has {told.queries} queries instead of {self._parameters.samples}")
        if ours.digest is not None and told.digest != ours.digest:
            raise SealError("the container's data differ from the host's: rebuild the image, or mount the same data")
        if loaded.settings != json.loads(json.dumps(self.known.facts.settings)):
            raise SealError(f"the image has another version of task {self._parameters.task!r}: build it again")
        seen = {uuid.lower().removeprefix("gpu-") for uuid in loaded.boards}
        metered = {str(device.uuid).lower().removeprefix("gpu-") for device in devices if device.type == "cuda"}
        if metered and seen and seen != metered:
            raise SealError(f"the container uses boards {sorted(seen)}, but the meter measures {sorted(metered)}")

    def task_facts(self) -> TaskFacts:
        return self.known.facts

    def score(self, answers: Mapping[int, Any]) -> tuple[Quality, ...]:
        self._scored = self.questions.ask("score", Scored)
        return self._scored.quality

    def extra(self, answers: Mapping[int, Any]) -> dict[str, Any]:
        """Return the task's additional facts for the record, which `score` has fetched."""
        return self._scored.extra
