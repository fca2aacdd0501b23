"""The published protocols: the same steps in the same order as the AI Energy Score's runners, with energylab's meters.

``published-2025-02`` (optimum-benchmark's ``energy_star``): preprocess the whole set by a filter and one batched map,
for all runs, before the model is loaded; warm up by one full call and ten short ones; then, phase by phase, fetch and
convert each row, copy it to the device and call the model, batch size 1, in the order of the data, outputs dropped.
``published-2025-12`` (ai_energy_benchmarks): no warm-up; tokenise, generate and decode each row, as one phase.

Each phase of a run is one window of whatever length; a window too short for the counter gets a warning.

References
----------
optimum-benchmark 0.6.0, ``optimum_benchmark/scenarios/energy_star/scenario.py``,
https://github.com/huggingface/optimum-benchmark; ai-energy-benchmarks 0.0.7, ``ai_energy_benchmarks/runner.py``,
https://pypi.org/project/ai-energy-benchmarks/.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from energylab.protocol.warm_up import assume_limits, sample, spent
from energylab.protocol.window import Session
from energylab.protocol.workload import Batch, TaskWorkload
from energylab.record import WarmUp
from energylab.tasks.base import SHORT_CALLS, Row, Task, Tokens


class PublishedWorkload(TaskWorkload):
    """A task over its rows; `load` puts its model on the device, after the set was preprocessed.

    With `single_phase` (published-2025-12), tokenising, generating and decoding a query are one phase, ``total``,
    without a warm-up; otherwise (published-2025-02) the phases of the task are measured separately.
    """

    def __init__(self, task: Task, rows: Sequence[Row], load: Callable[[], object], single_phase: bool = False) -> None:
        super().__init__(task, rows)
        self.load, self.single_phase = load, single_phase
        self._asked = self.phases[-1]
        self._table: Any = None
        self.phases = ("total",) if single_phase else self.phases

    def cut(self, queries: Sequence[int], phase: str = "") -> list[tuple[int, ...]]:
        return [tuple(queries)] if phase == "preprocess" else super().cut(queries)

    def prepare(self, phase: str, queries: tuple[int, ...]) -> Batch:
        """Return the batch without inputs: these are made inside the window."""
        if phase == "preprocess":
            importlib.import_module("datasets")  # the import takes seconds, and is not part of preprocessing
        return Batch(queries, queries)

    def run(self, phase: str) -> Callable[[tuple[int, ...]], Any]:
        if phase == "preprocess":
            return self._preprocess
        if phase == "total":
            return self._total
        return lambda queries: self._task.run(phase, self._fetch(queries))

    def short_call(self, queries: tuple[int, ...]) -> None:
        """Make one short call of the warm-up."""
        self._task.run_short(self._fetch(queries))

    def count(self, phase: str, batch: Batch, outputs: Any) -> Tokens:
        if phase == "preprocess":
            return Tokens()
        return super().count(self._asked if self.single_phase else phase, *self._seen(batch, outputs))

    def answers(self, batch: Batch, outputs: Any) -> dict[int, Any]:
        return super().answers(*self._seen(batch, outputs))

    def finite(self, batch: Batch, outputs: Any) -> bool:
        return super().finite(*self._seen(batch, outputs))

    def _preprocess(self, queries: tuple[int, ...]) -> None:
        self._table = self._task.prepare_all(self._rows)

    def _fetch(self, queries: tuple[int, ...]) -> Any:
        return self._task.fetch(self._table, queries)

    def _total(self, queries: tuple[int, ...]) -> tuple[Any, Any]:
        inputs = self._task.prepare([self._rows[query] for query in queries])
        outputs = self._task.run(self._asked, inputs)
        self._task.answers(inputs, outputs)
        return inputs, outputs

    def _seen(self, batch: Batch, outputs: Any) -> tuple[Batch, Any]:
        """Return inputs and outputs of the model; inputs are fetched again, outside the window."""
        inputs, outputs = outputs if self.single_phase else (self._fetch(batch.queries), outputs)
        return Batch(batch.queries, inputs), outputs


def warm_up(session: Session) -> WarmUp:
    """Make one full call and ten short ones on the first batch, or none if all work is a single phase."""
    workload, begun = session.workload, sample(session)
    if workload.single_phase:
        return spent(session, begun, 0, "the protocol has no warm-up")
    first = workload.cut(range(workload.queries))[0]
    try:
        workload.run(workload.phases[-1])(first)
        for _ in range(SHORT_CALLS):
            workload.short_call(first)
        workload.synchronize()
    except Exception as error:  # noqa: BLE001 - the windows run the same query, and record its error
        return spent(session, begun, 0, f"query {first[0]} failed: {type(error).__name__}: {error}"[:300])
    done = spent(session, begun, (1 + SHORT_CALLS) * len(first), "one full call and ten short ones")
    if done.energy_j and done.duration_s > 3 * session.step_s:
        power_w = 2.5 * done.energy_j / done.duration_s  # first calls and short ones use less than the loop
        assume_limits(session, {phase: power_w for phase in workload.phases if phase != "preprocess"})
    return done
