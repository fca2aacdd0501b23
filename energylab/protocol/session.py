"""One session: idle, load, warm up, windows, checks, and what they leave."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from energylab.clock import Clock
from energylab.errors import MeasurementError, SealError
from energylab.meters.base import Meter
from energylab.protocol import Settings
from energylab.protocol.validity import HOPELESS
from energylab.protocol.warm_up import idle_level, resident_already, warm_up
from energylab.protocol.window import Bench, Block, Edge, measure_window
from energylab.protocol.workload import Batch, Workload
from energylab.record import SCORED_PHASES, IdleLevel, MeterFacts, WarmUp, Window

#: Blocks that may stay invalid before the session ends with what it has.
FAILED_BLOCKS = 3

#: Most memory that the prepared inputs of one block may take, in bytes: a block of large pictures is cut smaller, and
#: its window repeats it more often.
BLOCK_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Session:
    """What one session measured."""

    meters: tuple[MeterFacts, ...]  # as found when opened
    idle: tuple[IdleLevel, ...]  # the three levels
    warm_up: WarmUp
    windows: tuple[Window, ...]  # every window, the invalid ones included, in order
    answers: dict[int, Any]  # one a query, from the last phase of the first run
    unread: str | None  # why answers could not be read from the model's outputs: there is no quality then
    edges: tuple[tuple[Edge, ...], ...]  # for every window, the two readings of every scored meter
    origin_s: float  # clock time the windows' start_s are counted from
    stopped: str | None  # why the session ended before its last run, where a stopping rule ended it
    valid: bool  # whether every scored phase of every run has a total
    reasons: tuple[str, ...]  # why not


#: Asked after every block with its windows, one a phase → None to go on, or why the session may stop.
Stop = Callable[[Mapping[str, Window]], "str | None"]


def run_session(
    load: Callable[[], Workload],
    scored: Sequence[Meter],
    settings: Settings,
    *,
    extra: Sequence[Meter] = (),
    clock: Clock | None = None,
    stop: Stop | None = None,
    resident: bool = False,
) -> Session:
    """Measure one workload from the first idle level to the last.

    Parameters
    ----------
    load : callable
        Loads model and data and returns the workload; called after the first idle level, outside every window. Under a
        published protocol it returns a `PublishedWorkload`, which loads its model when the set is preprocessed.
    scored : sequence of Meter
        Meters whose sum is the energy: one a device. Opened and closed here.
    settings : Settings
        The protocol's settings.
    extra : sequence of Meter
        More meters on the same windows.
    clock : Clock, optional
        The meters' clock; the machine's by default.
    stop : callable, optional
        Looks at every block's windows and may end the session early; blocks then run through all phases in turn.
    resident : bool, default False
        The model is on its device already, in a server: there is no idle level without it.

    Returns
    -------
    Session
        What was measured, also where a block failed at every attempt: then `valid` is False, with the reasons.

    Raises
    ------
    MeasurementError
        If there is nothing to measure, or nothing to measure it with.
    MeterError
        If a meter cannot be opened.
    """
    if not scored:
        raise MeasurementError(
            "a session needs at least one scored meter; see `energylab doctor` for what this machine has"
        )
    clock = clock or Clock()
    with ExitStack() as stack:
        stack.enter_context(clock.watching())
        for meter in [*scored, *extra]:
            stack.enter_context(meter)
        kinds = sorted({meter.kind for meter in scored})
        if len(kinds) > 1:
            raise MeasurementError(f"the scored meters are of different kinds ({', '.join(kinds)}); choose one")
        no_context, idle_w = (resident_already(), {}) if resident else idle_level(list(scored), settings, "no_context")
        workload = load()
        stack.callback(workload.close)
        if workload.queries < 1:
            raise MeasurementError("there is no query to measure; give at least one")
        bench = Bench(workload, scored, extra, settings, clock, clock.now(), random.Random(settings.seed), idle_w)
        measured = _Measured()
        steady = settings.protocol == "steady"
        if not steady:
            from energylab.protocol import published

            with quiet_collector():
                _measure(bench, published.before_loading(bench), measured, stop)
            workload.load()
        at_rest, resting_w = idle_level(list(scored), settings, "weights_resident")
        bench.rest_w.update(resting_w)
        bench.idle_w.update(resting_w if resident else {})
        warmed = warm_up(bench) if steady else published.warm_up(bench)
        blocks = _order(bench, together=stop is not None) if steady else published.after_loading(bench)
        with quiet_collector():
            _measure(bench, blocks, measured, stop)
        after, _ = idle_level(list(scored), settings, "after_load")
        facts = [meter.facts(scored=True) for meter in scored] + [meter.facts(scored=False) for meter in extra]
    return Session(
        meters=tuple(facts),
        idle=(no_context, at_rest, after),
        warm_up=warmed,
        windows=tuple(measured.windows),
        answers=measured.answers,
        unread=measured.unread,
        edges=tuple(bench.edges),
        origin_s=bench.origin_s,
        stopped=measured.stopped,
        valid=not measured.gave_up,
        reasons=tuple(measured.gave_up),
    )


_quiet = False  # whether a caller holds `quiet_collector` already


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Set aside what the process already holds, so that collecting between windows takes microseconds.

    A caller of many sessions may hold it around all of them: inside another one it does nothing.
    """
    global _quiet
    if _quiet:
        yield
        return
    ours = gc.get_freeze_count() == 0  # what the caller set aside stays so
    gc.collect()
    gc.freeze()
    _quiet = True
    try:
        yield
    finally:
        _quiet = False
        if ours:
            gc.unfreeze()


def plan_blocks(bench: Bench, run: int, phases: Sequence[str]) -> list[tuple[int, ...]]:
    """Cut the queries of one run into blocks: random order, each block about one window long.

    Whole batches stay together. The number of blocks follows from the pace of the slowest of `phases` in the warm-up,
    and from the memory that inputs take; queries that take less than a window together are a single block, which its
    window repeats.
    """
    workload, settings = bench.workload, bench.settings
    order = list(range(workload.queries))
    random.Random(f"{settings.seed}/{run}").shuffle(order)
    batches = workload.cut(order)
    pass_s, pass_bytes = (
        max(known.get(phase, 0.0) for phase in phases) * workload.queries for known in (bench.pace_s, bench.size_b)
    )
    wanted = max(int(pass_s / settings.window_s), -(-int(pass_bytes) // BLOCK_BYTES))
    count = max(1, min(wanted, len(batches) // workload.least_batches))
    cuts = [len(batches) * i // count for i in range(count + 1)]
    parts = [batches[a:b] for a, b in pairwise(cuts)]
    return [tuple(query for batch in part for query in batch) for part in parts]


def _order(bench: Bench, together: bool) -> Iterator[list[Block]]:
    """Yield all blocks in groups: phase after phase as published, or all phases of a block `together`.

    Together, every run asks the same blocks in an order of its own; else each deals the queries anew.
    """
    phases = bench.workload.phases
    for run in range(bench.settings.runs):
        keep = {phase: run == 0 and phase == phases[-1] for phase in phases}
        if together:
            numbered = list(enumerate(plan_blocks(bench, 0, phases)))  # a stop rule compares a block with itself
            random.Random(f"{bench.settings.seed}/order/{run}").shuffle(numbered)
            for number, queries in numbered:
                yield [Block(run, phase, number, queries, keep[phase]) for phase in phases]
            continue
        for phase in phases:
            for number, queries in enumerate(plan_blocks(bench, run, [phase])):
                yield [Block(run, phase, number, queries, keep[phase])]


@dataclass
class _Measured:
    """What the blocks leave."""

    windows: list[Window] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)
    not_finite: set[int] = field(default_factory=set)  # queries whose outputs are not finite numbers
    unread: str | None = None
    stopped: str | None = None
    gave_up: list[str] = field(default_factory=list)
    failed: int = 0  # blocks that stayed invalid


def _measure(bench: Bench, groups: Iterable[list[Block]], measured: _Measured, stop: Stop | None) -> None:
    """Measure groups of blocks. One that stays invalid costs its own total; the others are measured all the same."""
    unscored: set[tuple[int, str]] = set()  # phases whose total is lost, and in which nothing more is asked
    for group in groups:
        if measured.stopped or measured.failed >= FAILED_BLOCKS:
            return
        unit = {}
        for block in group:
            if (block.run, block.phase) in unscored:
                continue
            window = _measure_block(bench, block, measured)
            if window.valid:
                unit[block.phase] = window
            elif block.phase in SCORED_PHASES:
                measured.gave_up.append(_gave_up(block, window))
                measured.failed += FAILED_BLOCKS if {*window.reasons} & {*HOPELESS} else 1
                break
            else:
                unscored.add((block.run, block.phase))
        else:
            measured.stopped = stop(unit) if stop else None


def _measure_block(bench: Bench, block: Block, measured: _Measured) -> Window:
    """Measure a block until it is valid, at most ``max_attempts`` times; return the last window."""
    for attempt in range(bench.settings.max_attempts):
        window, answered = measure_window(bench, block, len(measured.windows), attempt)
        if window.valid:
            _read_answers(bench, answered, measured)
            if block.phase != "preprocess" and measured.not_finite & {*block.queries}:
                window = window.model_copy(update={"marks": (*window.marks, "not_finite")})
        measured.windows.append(window)
        if window.valid:
            break
    return window


def _read_answers(bench: Bench, answered: Sequence[tuple[Batch, Any]], measured: _Measured) -> None:
    """Read the model's answers. An error here does not concern the window: its energy is valid, its quality unknown."""
    try:
        for batch, outputs in answered:
            if not bench.workload.finite(batch, outputs):
                measured.not_finite.update(batch.queries)
            measured.answers.update(bench.workload.answers(batch, outputs))
    except SealError:  # broken rules end the session
        raise
    except Exception as error:  # noqa: BLE001 - kept for the record
        measured.unread = f"answers cannot be read: {type(error).__name__}: {error}"[:500]


def _gave_up(block: Block, last: Window) -> str:
    failed = [f"query {failure.query}: {failure.error}: {failure.message}" for failure in last.failures[:3]]
    why = "; ".join([", ".join(last.reasons), *failed])
    where = f"run {block.run}, {block.phase}, block {block.number}"
    return f"no total: {where} stayed invalid after {last.attempt + 1} attempts ({why})"
