"""One session: idle, load, warm up, windows, checks, and what they leave."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from energylab.clock import Clock
from energylab.errors import MeasurementError
from energylab.meters.base import Meter
from energylab.protocol.settings import Settings
from energylab.protocol.steady import idle_level, warm_up
from energylab.protocol.window import Bench, Block, measure_window
from energylab.protocol.workload import Workload
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
    origin_s: float
    stopped: str | None
    valid: bool
    reasons: tuple[str, ...]


#: Asked after every run: the windows so far → None to go on, or why the session may stop.
Stop = Callable[[Sequence[Window]], str | None]


def run_session(
    load: Callable[[], Workload],
    scored: Sequence[Meter],
    settings: Settings,
    *,
    extra: Sequence[Meter] = (),
    clock: Clock | None = None,
    stop: Stop | None = None,
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
        Looks at the windows after every run and may end the session early.

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
        no_context, idle_w = idle_level(list(scored), settings, "no_context")
        workload = load()
        if workload.queries < 1:
            raise MeasurementError("there is no query to measure; give at least one")
        bench = Bench(workload, scored, extra, settings, clock, clock.now(), random.Random(settings.seed), idle_w)
        resident, _ = idle_level(list(scored), settings, "weights_resident")
        warmed = warm_up(bench)
        with _quiet_collector():
            windows, answers, stopped, gave_up = _measure_runs(bench, stop)
        after, _ = idle_level(list(scored), settings, "after_load")
        facts = tuple(meter.facts(scored=True) for meter in scored) + tuple(
            meter.facts(scored=False) for meter in extra
        )
    return Session(
        meters=facts,
        idle=(no_context, resident, after),
        warm_up=warmed,
        windows=tuple(windows),
        answers=answers,
        origin_s=bench.origin_s,
        stopped=stopped,
        valid=gave_up is None,
        reasons=() if gave_up is None else (gave_up,),
    )


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Set aside what the process already holds, so that collecting between windows takes microseconds."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def plan_blocks(bench: Bench, run: int, phase: str) -> list[Block]:
    """Cut one phase of one run into blocks: queries in random order, each block about one window long.

    Whole batches stay together, and the number of blocks follows from the pace of the warm-up. A phase shorter than
    one window is a single block, which its window repeats.
    """
    workload, settings = bench.workload, bench.settings
    order = list(range(workload.queries))
    random.Random(f"{settings.seed}/{run}").shuffle(order)
    batches = workload.cut(order)
    pass_s = bench.pace_s.get(phase, 0.0) * workload.queries
    count = max(1, min(int(pass_s / settings.window_s), len(batches)))
    cuts = [len(batches) * i // count for i in range(count + 1)]
    parts = [batches[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    return [Block(run, phase, i, tuple(query for batch in part for query in batch)) for i, part in enumerate(parts)]


def _measure_runs(bench: Bench, stop: Stop | None) -> tuple[list[Window], dict[int, Any], str | None, str | None]:
    windows: list[Window] = []
    answers: dict[int, Any] = {}
    for run in range(bench.settings.runs):
        for phase in bench.workload.phases:
            for block in plan_blocks(bench, run, phase):
                answered = _measure_block(bench, block, windows)
                if answered is None and phase in SCORED_PHASES:
                    return windows, answers, None, _gave_up(block, windows[-1])
                if answered is None:
                    break  # a phase that is not scored costs its own total alone
                if run == 0 and phase == bench.workload.phases[-1]:
                    for batch, outputs in answered:
                        answers.update(bench.workload.answers(batch, outputs))
        if stop is not None and (stopped := stop(windows)):
            return windows, answers, stopped, None
    return windows, answers, None, None


def _measure_block(bench: Bench, block: Block, windows: list[Window]) -> list | None:
    """Measure a block until it is valid, at most ``max_attempts`` times; None when it never was."""
    for attempt in range(bench.settings.max_attempts):
        window, answered = measure_window(bench, block, len(windows), attempt)
        windows.append(window)
        if window.valid:
            return answered
    return None


def _gave_up(block: Block, last: Window) -> str:
    said = [f"query {failure.query}: {failure.error}: {failure.message}" for failure in last.failures[:3]]
    why = "; ".join([", ".join(last.reasons), *said])
    where = f"run {block.run}, {block.phase}, block {block.number}"
    return f"no total: {where} stayed invalid after {last.attempt + 1} attempts ({why})"
