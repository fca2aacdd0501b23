"""One session: idle, load, warm up, windows, checks, and what they leave."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from energylab.clock import Clock
from energylab.errors import MeasurementError, SealError
from energylab.meters.base import Meter
from energylab.protocol.bench import Bench, Block, Edge
from energylab.protocol.settings import Settings
from energylab.protocol.steady import idle_level, resident_already, warm_up
from energylab.protocol.window import measure_window
from energylab.protocol.workload import Batch, Workload
from energylab.record import SCORED_PHASES, IdleLevel, MeterFacts, WarmUp, Window


@dataclass(frozen=True)
class Session:
    """What one session measured.

    Attributes
    ----------
    meters : tuple of MeterFacts
        The meters, as found when opened.
    idle : tuple of IdleLevel
        The three idle levels.
    warm_up : WarmUp
        How the device was brought to its working state.
    windows : tuple of Window
        Every window, the invalid ones included, in order.
    answers : dict of int to object
        One answer a query, from the last phase of the first run.
    unread : str or None
        Why answers could not be read from the model's outputs, where they could not: there is no quality then.
    edges : tuple
        For every window, the two readings of every scored meter.
    origin_s : float
        Clock time the windows' ``start_s`` are counted from.
    stopped : str or None
        Why the session ended before its last run, where a stopping rule ended it.
    valid : bool
        Whether every scored phase of every run has a total.
    reasons : tuple of str
        Why not.
    """

    meters: tuple[MeterFacts, ...]
    idle: tuple[IdleLevel, ...]
    warm_up: WarmUp
    windows: tuple[Window, ...]
    answers: dict[int, Any]
    unread: str | None
    edges: tuple[tuple[Edge, ...], ...]
    origin_s: float
    stopped: str | None
    valid: bool
    reasons: tuple[str, ...]


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
        Loads model and data and returns the workload; called after the first idle level, outside every window.
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
        at_rest, resting_w = idle_level(list(scored), settings, "weights_resident")
        bench.rest_w.update(resting_w)
        bench.idle_w.update(resting_w if resident else {})
        warmed = warm_up(bench)
        with quiet_collector():
            measured = _measure_runs(bench, stop)
        after, _ = idle_level(list(scored), settings, "after_load")
        facts = tuple(meter.facts(scored=True) for meter in scored) + tuple(
            meter.facts(scored=False) for meter in extra
        )
    return Session(
        meters=facts,
        idle=(no_context, at_rest, after),
        warm_up=warmed,
        windows=tuple(measured.windows),
        answers=measured.answers,
        unread=measured.unread,
        edges=tuple(bench.edges),
        origin_s=bench.origin_s,
        stopped=measured.stopped,
        valid=measured.gave_up is None,
        reasons=() if measured.gave_up is None else (measured.gave_up,),
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

    Whole batches stay together. The number of blocks follows from the pace of the slowest of `phases` in the
    warm-up; queries that take less than a window together are a single block, which its window repeats.
    """
    workload, settings = bench.workload, bench.settings
    order = list(range(workload.queries))
    random.Random(f"{settings.seed}/{run}").shuffle(order)
    batches = workload.cut(order)
    pass_s = max(bench.pace_s.get(phase, 0.0) for phase in phases) * workload.queries
    count = max(1, min(int(pass_s / settings.window_s), len(batches) // workload.least_batches))
    cuts = [len(batches) * i // count for i in range(count + 1)]
    parts = [batches[a:b] for a, b in pairwise(cuts)]
    return [tuple(query for batch in part for query in batch) for part in parts]


def _order(bench: Bench, run: int, together: bool) -> Iterator[list[Block]]:
    """Yield the blocks of one run in groups: phase after phase as published, or all phases of a block `together`.

    Together, every run asks the same blocks in an order of its own; else each deals the queries anew.
    """
    phases = bench.workload.phases
    if together:
        numbered = list(enumerate(plan_blocks(bench, 0, phases)))  # a stop rule compares a block with itself
        random.Random(f"{bench.settings.seed}/order/{run}").shuffle(numbered)
        for number, queries in numbered:
            yield [Block(run, phase, number, queries) for phase in phases]
        return
    for phase in phases:
        for number, queries in enumerate(plan_blocks(bench, run, [phase])):
            yield [Block(run, phase, number, queries)]


@dataclass
class _Measured:
    """What the runs leave."""

    windows: list[Window] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)
    unread: str | None = None
    stopped: str | None = None
    gave_up: str | None = None


def _measure_runs(bench: Bench, stop: Stop | None) -> _Measured:
    measured = _Measured()
    given_up: set[tuple[int, str]] = set()  # unscored phases: their loss costs their own total alone
    for run in range(bench.settings.runs):
        for group in _order(bench, run, together=stop is not None):
            unit = {}
            for block in group:
                if (run, block.phase) in given_up:
                    continue
                window = _measure_block(bench, block, measured)
                if not window.valid and block.phase in SCORED_PHASES:
                    measured.gave_up = _gave_up(block, window)
                    return measured
                if not window.valid:
                    given_up.add((run, block.phase))
                unit[block.phase] = window
            measured.stopped = stop(unit) if stop else None
            if measured.stopped:
                return measured
    return measured


def _measure_block(bench: Bench, block: Block, measured: _Measured) -> Window:
    """Measure a block until it is valid, at most ``max_attempts`` times; return the last window."""
    for attempt in range(bench.settings.max_attempts):
        window, answered = measure_window(bench, block, len(measured.windows), attempt)
        measured.windows.append(window)
        if window.valid:
            break
    if window.valid and block.run == 0 and block.phase == bench.workload.phases[-1]:
        _read_answers(bench, answered, measured)
    return window


def _read_answers(bench: Bench, answered: Sequence[tuple[Batch, Any]], measured: _Measured) -> None:
    """Read what the model said. An error here is no fault of the window: its energy stands, its quality is unknown."""
    try:
        for batch, outputs in answered:
            measured.answers.update(bench.workload.answers(batch, outputs))
    except SealError:  # broken rules end the session
        raise
    except Exception as error:  # noqa: BLE001 - kept for the record
        measured.unread = f"answers cannot be read: {type(error).__name__}: {error}"[:500]


def _gave_up(block: Block, last: Window) -> str:
    said = [f"query {failure.query}: {failure.error}: {failure.message}" for failure in last.failures[:3]]
    why = "; ".join([", ".join(last.reasons), *said])
    where = f"run {block.run}, {block.phase}, block {block.number}"
    return f"no total: {where} stayed invalid after {last.attempt + 1} attempts ({why})"
