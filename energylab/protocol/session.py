"""One session: idle levels, load, warm-up, windows and their checks."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

from energylab.clock import Clock
from energylab.errors import MeasurementError, SealError
from energylab.meters.base import Meter
from energylab.protocol.settings import Settings
from energylab.protocol.validity import UNRECOVERABLE, Watch
from energylab.protocol.warm_up import warm_up
from energylab.protocol.window import Block, Session, measure_window, observe, reasons_of
from energylab.protocol.workload import Batch, Workload
from energylab.record import SCORED_PHASES, IdleLevel, Window

#: After this many blocks that stayed invalid, the session ends and keeps what was measured.
FAILED_BLOCKS = 3

#: Largest memory for the prepared inputs of one block, in bytes. A block of large images has fewer queries, and its
#: window repeats them more often.
BLOCK_BYTES = 2 * 2**30

#: Stopping rule: called after every block with its windows by phase; returns None to go on, or the reason to stop.
Stop = Callable[[Mapping[str, Window]], "str | None"]


def run_session(
    load: Callable[[], Workload],
    rated_meters: Sequence[Meter],
    settings: Settings,
    *,
    extra_meters: Sequence[Meter] = (),
    clock: Clock | None = None,
    stop: Stop | None = None,
    resident: bool = False,
) -> Session:
    """Measure one workload from the first idle level to the last, even if a block fails at every attempt.

    `load` loads model and data and returns the workload, after the first idle level; a `PublishedWorkload` loads its
    model later, after preprocessing. The energies of `rated_meters` add up to the rated energy: one meter per device,
    or one for all; `extra_meters` are read over the same windows, for comparison. `stop` may end the session early;
    each block then runs through all phases before the next block. `resident` means that a server has already loaded
    the model, so that no idle level without it can be measured.
    """
    clock = clock or (rated_meters[0].clock if rated_meters else Clock())
    session = Session(rated_meters, extra_meters, settings, clock)
    with ExitStack() as stack:
        stack.enter_context(session.clock.watching())
        for meter in [*rated_meters, *extra_meters]:
            stack.enter_context(meter)
        kinds = sorted({meter.kind for meter in rated_meters})
        if len(kinds) != 1:
            many = f"the rated meters give different kinds of energy ({', '.join(kinds)}); choose meters of one kind"
            raise MeasurementError(
                many if kinds else "a session needs at least one rated meter; see `energylab doctor`"
            )
        if resident:
            reasons = ("server_running",)
            session.idle.append(
                IdleLevel(level="no_context", power_w=None, duration_s=0, energy_j=None, reasons=reasons)
            )
        else:
            session.idle_without_model_w = _idle_level(session, "no_context")
        session.workload = load()
        stack.callback(session.workload.close)
        if session.workload.queries < 1:
            raise MeasurementError("the workload has no queries; give at least one")
        session.origin_s = session.clock.now()
        _measure_loaded(session, stop, resident)
        session.meters = tuple(meter.facts(scored=meter in rated_meters) for meter in [*rated_meters, *extra_meters])
    return session


def _measure_loaded(session: Session, stop: Stop | None, resident: bool) -> None:
    """Measure everything after loading: warm-up, windows and the other idle levels."""
    phases, run_warm_up = session.workload.phases, warm_up
    if not session.steady:  # the set is preprocessed before the model is loaded
        from energylab.protocol import published

        run_warm_up = published.warm_up
        _measure(session, [phase for phase in phases if phase == "preprocess"], stop)
        phases = [phase for phase in phases if phase != "preprocess"]
    session.workload.load()
    session.idle_with_model_w = _idle_level(session, "weights_resident")
    if resident:  # a server keeps its model loaded: no level without it was measured
        session.idle_without_model_w = session.idle_with_model_w
    session.warm_up = run_warm_up(session)
    _measure(session, phases, stop)
    _idle_level(session, "after_load")


def _idle_level(session: Session, level: str) -> dict[str, float]:
    """Measure the idle power of each device over ``settings.idle_s``; return those that are valid.

    The readings pass the same checks as a window. The recorded level is the sum over the devices, or None with reasons.
    """
    idle_s = session.settings.idle_s
    watches = [Watch(meter, on_tick=True) for meter in session.rated_meters]
    observe(watches, session.clock, lambda: session.clock.sleep(idle_s))
    reasons = [reasons_of(session, watch, phase=None) for watch in watches]
    known = [watch for watch, why in zip(watches, reasons, strict=True) if not why]
    whole = len(known) == len(watches)
    session.idle.append(
        IdleLevel(
            level=level,
            power_w=sum(watch.energy_j / watch.duration_s for watch in known) if whole else None,
            duration_s=max(watch.duration_s or idle_s for watch in watches),
            energy_j=sum(watch.energy_j for watch in known) if whole else None,
            reasons=tuple(dict.fromkeys(reason for why in reasons for reason in why)),
        )
    )
    return {watch.meter.device: watch.energy_j / watch.duration_s for watch in known}


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Freeze all existing objects (`gc.freeze`), so that garbage collection between windows takes microseconds.

    If a caller of several sessions has frozen them already, they stay frozen.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def plan_blocks(session: Session, run: int, phases: Sequence[str]) -> list[tuple[int, ...]]:
    """Cut the queries of one run into blocks, in random order, each block about one window long.

    Batches are not split. The number of blocks follows from the duration of the slowest of `phases` in the warm-up, and
    from the memory of the inputs; if all queries together take less than a window, they are one block, which the window
    repeats. Under a published protocol all queries are one block, in the order of the data.
    """
    workload, settings = session.workload, session.settings
    order = list(range(workload.queries))
    if not session.steady:
        return [tuple(order)]
    random.Random(f"{settings.seed}/{run}").shuffle(order)
    batches = workload.cut(order)
    costs = (session.seconds_per_query, session.bytes_per_query)
    pass_s, pass_bytes = (max(cost.get(phase, 0.0) for phase in phases) * workload.queries for cost in costs)
    wanted = max(int(pass_s / settings.window_s), -(-int(pass_bytes) // BLOCK_BYTES))
    count = max(1, min(wanted, len(batches) // workload.least_batches))
    cuts = [len(batches) * i // count for i in range(count + 1)]
    return [tuple(query for batch in batches[a:b] for query in batch) for a, b in pairwise(cuts)]


def _block_groups(session: Session, phases: Sequence[str], together: bool) -> Iterator[list[Block]]:
    """Yield all blocks in groups: one phase after the other, or with `together` all phases of each block.

    With `together`, all runs measure the same blocks, each in another random order; otherwise each run shuffles the
    queries and cuts them into blocks again.
    """
    last = session.workload.phases[-1]
    for run in range(session.settings.runs):
        for asked in [phases] if together else [[phase] for phase in phases]:
            blocks = list(enumerate(plan_blocks(session, 0 if together else run, asked)))
            if together:  # a stopping rule compares a block with the same block of other runs
                random.Random(f"{session.settings.seed}/order/{run}").shuffle(blocks)
            for number, queries in blocks:
                yield [Block(run, phase, number, queries, run == 0 and phase == last) for phase in asked]


@quiet_collector()
def _measure(session: Session, phases: Sequence[str], stop: Stop | None) -> None:
    """Measure all blocks of phases. A block that stays invalid makes its total unavailable; others are measured."""
    abandoned: set[tuple[int, str]] = set()  # (run, phase) with a block that stayed invalid: its others are skipped
    for blocks in _block_groups(session, phases, together=session.steady and stop is not None):
        if session.stopped or session.unrecoverable or session.failed >= FAILED_BLOCKS:
            return
        windows = _measure_group(session, blocks, abandoned)
        if stop and windows is not None:
            session.stopped = stop(windows)


def _measure_group(session: Session, blocks: list[Block], abandoned: set[tuple[int, str]]) -> dict[str, Window] | None:
    """Measure blocks of several phases; return the valid windows by phase, or None if a scored phase stayed invalid."""
    windows = {}
    for block in blocks:
        if (block.run, block.phase) in abandoned:
            continue
        window = _measure_block(session, block)
        if window.valid:
            windows[block.phase] = window
        elif block.phase in SCORED_PHASES:
            session.reasons.append(_gave_up(block, window))
            session.failed += 1
            session.unrecoverable = any(reason in UNRECOVERABLE for reason in window.reasons)
            return None
        else:
            abandoned.add((block.run, block.phase))
    return windows


def _measure_block(session: Session, block: Block) -> Window:
    """Measure a block until it is valid, at most ``max_attempts`` times; return the last window."""
    for attempt in range(session.settings.max_attempts):
        window, answered = measure_window(session, block, attempt)
        if window.valid:
            _read_answers(session, answered)
            if block.phase != "preprocess" and session.not_finite & {*block.queries}:
                window = window.model_copy(update={"marks": (*window.marks, "not_finite")})
        session.windows.append(window)
        if window.valid:
            break
    return window


def _read_answers(session: Session, answered: Sequence[tuple[Batch, Any]]) -> None:
    """Read the model's answers. After an error here the window's energy is still valid, but quality is unknown."""
    try:
        for batch, outputs in answered:
            if not session.workload.finite(batch, outputs):
                session.not_finite.update(batch.queries)
            session.answers.update(session.workload.answers(batch, outputs))
    except SealError:  # a violation of the sealed run's rules ends the session
        raise
    except Exception as error:  # noqa: BLE001 - kept for the record
        session.unread = f"answers cannot be read: {type(error).__name__}: {error}"[:500]


def _gave_up(block: Block, last: Window) -> str:
    failed = [f"query {failure.query}: {failure.error}: {failure.message}" for failure in last.failures[:3]]
    why = "; ".join([", ".join(last.reasons), *failed])
    where = f"run {block.run}, {block.phase}, block {block.number}"
    return f"no total: {where} stayed invalid after {last.attempt + 1} attempts ({why})"
