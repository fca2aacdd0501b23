"""What a session measures: a model on a task, or any function; each loads itself and says what the record holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from energylab import tasks
from energylab.devices import check_torch_agrees, torch_name
from energylab.errors import MeasurementError
from energylab.parameters import Parameters
from energylab.protocol.served import ServedWorkload
from energylab.protocol.workload import FunctionWorkload, TaskWorkload, Workload
from energylab.record import DataFacts, DeviceFacts, ModelFacts, Quality, TaskFacts
from energylab.tasks import data
from energylab.tasks.served import ServedTask


class TaskSubject:
    """A model on a task."""

    _served: ServedWorkload | None = None

    def __init__(self, parameters: Parameters) -> None:
        self.task = tasks.load_task(parameters)  # checks names before anything is loaded
        self.files = tasks.foreign_files(parameters.task, type(self.task), parameters.params)
        self.rows, self.data = self.task.load_rows()
        self.phases = tuple(self.task.phases)

    def load(self, devices: Sequence[DeviceFacts]) -> Workload:
        """Load what is asked onto the devices, and return it as a workload."""
        self.model = self.task.load(torch_name(devices[0]))
        self.phases = tuple(self.task.phases)  # some tasks settle them by what kind of model was loaded
        self.data = self.data.model_copy(
            update={"covariates": self.task.covariates(self.rows), **self.task.truncation(self.rows)}
        )
        if isinstance(self.task, ServedTask):
            self._served = ServedWorkload(self.task, self.rows, self.task.parameters.max_relative_bound)
            return self._served
        check_torch_agrees(devices)
        self.task.warm_up_longest(self.rows)
        return TaskWorkload(self.task, self.rows)

    def task_facts(self) -> TaskFacts:
        """Return what was asked, as used; after `load`."""
        return TaskFacts(
            name=self.task.settings.name,
            version=self.task.settings.version,
            settings={**self.task.resolved_settings(), "runs": self.task.parameters.runs},
            overridden=self.task.overridden(),
            files=self.files,
            deviations=self.task.deviations(),
        )

    def score(self, answers: Mapping[int, Any]) -> tuple[Quality, ...]:
        """Score the answers, by number of the query."""
        answered = sorted(answers)
        return self.task.score([answers[i] for i in answered], [self.rows[i] for i in answered]) if answered else ()

    def extra(self, answers: Mapping[int, Any]) -> dict[str, Any]:
        """Return what the record holds of the answers beside their quality."""
        serving = {} if self._served is None else {"serving": self._served.figures()}
        return {**self.task.extra([answers[i] for i in sorted(answers)]), **serving}


class FunctionSubject:
    """Any function on queries of one's own: one phase, no quality."""

    task = "function"
    phases = FunctionWorkload.phases

    @staticmethod
    def name_of(fn: Callable[[Any], Any]) -> str:
        """Return a function's name as a record has it."""
        return getattr(fn, "__qualname__", type(fn).__name__)

    def __init__(self, parameters: Parameters, fn: Callable[[Any], Any], queries: Sequence[Any]) -> None:
        self._fn, self._queries = fn, list(queries)
        if not self._queries:
            raise MeasurementError("queries is empty; give at least one query for fn")
        self.model = ModelFacts(name=self.name_of(fn), source="function", dtype=parameters.dtype)
        digest = data.digest({"query": query} for query in self._queries)
        self.data = DataFacts(name="given", source="given", digest=digest, queries=len(self._queries))

    def load(self, devices: Sequence[DeviceFacts]) -> Workload:
        """Load what is asked onto the devices, and return it as a workload."""
        check_torch_agrees(devices)
        boards = [device.index for device in devices if device.type == "cuda"]
        return FunctionWorkload(self._fn, self._queries, boards)

    def task_facts(self) -> TaskFacts:
        """Return what was asked, as used; after `load`."""
        return TaskFacts(name=self.task, version="1", settings={"samples": len(self._queries), "batch_size": 1})

    def score(self, answers: Mapping[int, Any]) -> tuple[Quality, ...]:
        """Score the answers, by number of the query."""
        return ()

    def extra(self, answers: Mapping[int, Any]) -> dict[str, Any]:
        """Return what the record holds of the answers beside their quality."""
        return {}
