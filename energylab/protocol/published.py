"""The published protocols: what the AI Energy Score's runners do, in their order, with our meters around it.

``published-2025-02`` (optimum-benchmark's ``energy_star``): preprocess the whole set by a filter and one batched map
before the model is loaded; warm up by one full call and ten short ones; then, phase by phase, fetch and convert each
row, copy it to the device and call the model, batch size 1, in the order of the data, outputs dropped.
``published-2025-12`` (ai_energy_benchmarks): no warm-up; tokenise, generate and decode each row, one total.

Each phase of a run is one window. Its queries are asked once, however short that is: windows are not lengthened, and
one too short for the counter is marked. The set is preprocessed once a run, all runs before the model is loaded.

References
----------
optimum-benchmark 0.6.0, ``optimum_benchmark/scenarios/energy_star/scenario.py``,
https://github.com/huggingface/optimum-benchmark; ai-energy-benchmarks 0.0.7, ``ai_energy_benchmarks/runner.py``,
https://pypi.org/project/ai-energy-benchmarks/.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from energylab.errors import MeasurementError
from energylab.protocol.warm_up import believe, spent, total_j
from energylab.protocol.window import Bench, Block
from energylab.protocol.workload import Batch, TaskWorkload
from energylab.record import WarmUp
from energylab.tasks.base import SHORT_CALLS, Row, Task, Tokens


class PublishedWorkload(TaskWorkload):
    """An opened task over its rows; `load` puts its model on the device, after the set was preprocessed.

    With `one_total`, tokenising, generating and decoding are the single phase ``total``.
    """

    def __init__(self, task: Task, rows: Sequence[Row], load: Callable[[], object], one_total: bool = False) -> None:
        super().__init__(task, rows)
        self.load = load
        self._asked = self.phases[-1]
        self._table: Any = None
        self.one_total = one_total
        if one_total:
            self.phases = ("total",)

    def cut(self, queries: Sequence[int], phase: str = "") -> list[tuple[int, ...]]:
        """Cut queries into batches; the set is preprocessed as a whole."""
        return [tuple(queries)] if phase == "preprocess" else super().cut(queries)

    def prepare(self, phase: str, queries: tuple[int, ...]) -> Batch:
        """Name the queries of a batch: their inputs are made inside the window."""
        if phase == "preprocess":
            importlib.import_module("datasets")  # seconds that are no part of preprocessing
        return Batch(queries, queries)

    def run(self, phase: str) -> Callable[[tuple[int, ...]], Any]:
        """Return what a phase does with the queries of a batch."""
        if phase == "preprocess":
            return self._preprocess
        if phase == "total":
            return self._total
        return lambda queries: self._task.run(phase, self._task.fetch(self._table, queries))

    def short_call(self, queries: tuple[int, ...]) -> None:
        """Make one short call of the warm-up."""
        self._task.run_short(self._task.fetch(self._table, queries))

    def count(self, phase: str, batch: Batch, outputs: Any) -> Tokens:
        """Count by the task; the inputs are fetched again, outside the window."""
        if phase == "preprocess":
            return Tokens()
        inputs, outputs = self._of(phase, batch, outputs)
        return self._task.count(self._asked if phase == "total" else phase, inputs, outputs)

    def answers(self, batch: Batch, outputs: Any) -> dict[int, Any]:
        """Answer by the task."""
        return super().answers(*self._seen(batch, outputs))

    def finite(self, batch: Batch, outputs: Any) -> bool:
        """Judge by the task."""
        return super().finite(*self._seen(batch, outputs))

    def _preprocess(self, queries: tuple[int, ...]) -> None:
        self._table = self._task.prepare_all(self._rows)

    def _total(self, queries: tuple[int, ...]) -> tuple[Any, Any]:
        inputs = self._task.prepare([self._rows[query] for query in queries])
        outputs = self._task.run(self._asked, inputs)
        self._task.answers(inputs, outputs)
        return inputs, outputs

    def _of(self, phase: str, batch: Batch, outputs: Any) -> tuple[Any, Any]:
        return outputs if phase == "total" else (self._task.fetch(self._table, batch.queries), outputs)

    def _seen(self, batch: Batch, outputs: Any) -> tuple[Batch, Any]:
        inputs, outputs = self._of(self.phases[-1], batch, outputs)
        return Batch(batch.queries, inputs), outputs


def before_loading(bench: Bench) -> Iterator[list[Block]]:
    """Yield the blocks that are measured before the model is loaded: the set, preprocessed once a run."""
    if not isinstance(bench.workload, PublishedWorkload):
        raise MeasurementError(f"protocol={bench.settings.protocol} measures a task's model; use protocol=steady")
    if "preprocess" in bench.workload.phases:
        for run in range(bench.settings.runs):
            yield [_block(bench, run, "preprocess")]


def after_loading(bench: Bench) -> Iterator[list[Block]]:
    """Yield the blocks that are measured with the model: phase after phase, run after run."""
    for run in range(bench.settings.runs):
        for phase in bench.workload.phases:
            if phase != "preprocess":
                yield [_block(bench, run, phase)]


def _block(bench: Bench, run: int, phase: str) -> Block:
    keep = run == 0 and phase == bench.workload.phases[-1]
    return Block(run, phase, 0, tuple(range(bench.workload.queries)), keep)


def warm_up(bench: Bench) -> WarmUp:
    """Make one full call and ten short ones on the first batch; none where one total is measured."""
    workload, begun_s, begun_j = bench.workload, bench.clock.now(), total_j(bench)
    if workload.one_total:
        return spent(bench, begun_s, begun_j, 0, "the protocol has no warm-up")
    first = workload.cut(range(workload.queries))[0]
    try:
        workload.run(workload.phases[-1])(first)
        for _ in range(SHORT_CALLS):
            workload.short_call(first)
        workload.synchronize()
    except Exception as error:  # noqa: BLE001 - the windows meet the same query, and record what it says
        return spent(bench, begun_s, begun_j, 0, f"query {first[0]} failed: {type(error).__name__}: {error}"[:300])
    done = spent(bench, begun_s, begun_j, (1 + SHORT_CALLS) * len(first), "one full call and ten short ones")
    if done.energy_j and done.duration_s > 3 * bench.step_s:
        power_w = 2.5 * done.energy_j / done.duration_s  # first calls and short ones use less than the loop
        believe(bench, {phase: power_w for phase in workload.phases if phase != "preprocess"})
    return done
