"""One window: lead in, read, run whole queries, read. Nothing but the model's work lies between the readings."""

from __future__ import annotations

import gc
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from energylab.clock import Clock
from energylab.errors import SealError
from energylab.meters.base import Meter, Reading
from energylab.protocol import validity
from energylab.protocol.settings import Settings
from energylab.protocol.validity import Watch
from energylab.protocol.workload import Batch, Work, Workload
from energylab.record import IdleLevel, MeterFacts, MeterReadings, WarmUp, Window


@dataclass
class Session:
    """One session: what it measures with, what it learns on the way, and what it leaves."""

    rated_meters: Sequence[Meter]  # open; their sum is the energy that is rated: one a device, or one for all
    extra_meters: Sequence[Meter]  # open; read over the same windows, for comparison
    settings: Settings
    clock: Clock  # the meters' clock
    workload: Workload | None = None  # once it is loaded
    origin_s: float = 0.0  # clock time the windows' start_s are counted from

    idle_without_model_w: dict[str, float] = field(default_factory=dict)  # device -> power before the model is loaded
    idle_with_model_w: dict[str, float] = field(default_factory=dict)  # device -> power once it is
    pace_s: dict[str, float] = field(default_factory=dict)  # phase -> seconds a query, from the warm-up
    size_b: dict[str, float] = field(default_factory=dict)  # phase -> bytes of a query's inputs in memory
    believed_w: dict[str, float] = field(default_factory=dict)  # phase -> largest power where no limit is told
    work_w: float | None = None  # mean power while working, from the warm-up
    not_finite: set[int] = field(default_factory=set)  # queries whose outputs are not finite numbers
    failed: int = 0  # blocks that stayed invalid
    hopeless: bool = False  # whether no further try can succeed, see `validity.HOPELESS`

    meters: tuple[MeterFacts, ...] = ()  # as found when opened
    idle: list[IdleLevel] = field(default_factory=list)  # the three levels
    warm_up: WarmUp | None = None
    windows: list[Window] = field(default_factory=list)  # every window, the invalid ones included, in order
    edges: list[tuple[tuple[Reading | None, Reading | None], ...]] = field(
        default_factory=list
    )  # of every window, the rated meters' readings
    answers: dict[int, Any] = field(default_factory=dict)  # one a query, from the last phase of the first run
    unread: str | None = None  # why answers could not be read from the model's outputs: there is no quality then
    stopped: str | None = None  # why the session ended before its last run, where a stopping rule ended it
    reasons: list[str] = field(default_factory=list)  # why a scored phase of a run has no total

    def __post_init__(self) -> None:
        self.rng = random.Random(self.settings.seed)

    @property
    def valid(self) -> bool:
        """Whether every scored phase of every run has a total."""
        return not self.reasons

    @property
    def steady(self) -> bool:
        """Whether it measures by our own protocol."""
        return self.settings.protocol == "steady"

    @property
    def step_s(self) -> float:
        """Longest time a change of power may stay unseen: step and latency of the slowest rated meter."""
        return max((meter.update_period_s or 0.0) + meter.latency_s for meter in self.rated_meters)

    @property
    def stepped(self) -> bool:
        """Whether the counter of a rated meter moves in visible steps."""
        return any(meter.update_period_s for meter in self.rated_meters)

    @property
    def estimated(self) -> bool:
        """Whether the energy is that of a power model."""
        return all(meter.kind == "estimated" for meter in self.rated_meters)


@dataclass(frozen=True)
class Block:
    """The queries of one planned window; `keep` whether its outputs are answers to be read."""

    run: int
    phase: str
    number: int
    queries: tuple[int, ...]
    keep: bool = False


def observe(watches: Sequence[Watch], clock: Clock, work: Callable[[], Any]) -> Any:
    """Do work between the readings of meters, the last of them closest to it."""
    for watch in watches:
        watch.ready()
    for watch in watches:
        watch.begin()
    begun_s = clock.now()
    done = work()
    work_s = clock.now() - begun_s
    for watch in reversed(watches):
        watch.end()
    for watch in watches:
        watch.ask(work_s)
    return done


def reasons_of(session: Session, watch: Watch, phase: str | None) -> list[str]:
    """Return the reasons not to believe a rated meter under a phase; None: at rest.

    Idle power is a floor under what works on a GPU: preprocessing works on the host, and what a processor draws at
    rest is that of every other process, too, which may end before the first window.
    """
    meter, settings = watch.meter, session.settings
    floor = phase not in (None, "preprocess", "total") and not meter.of_processor
    idle_w = session.idle_without_model_w.get(meter.device) if floor else None
    believed_w = session.believed_w.get(phase) if phase else meter.believed_w
    reasons = validity.reading_reasons(watch, settings, idle_w, believed_w)
    if watch.state:  # at rest a processor is always shared
        reasons += validity.state_reasons(watch.state, settings, session.estimated or phase is None)
    reasons += ["state_unknown"] if watch.state is None and not watch.error else []
    return reasons + (["process_stopped"] if watch.stopped else [])


def measure_window(session: Session, block: Block, attempt: int = 0) -> tuple[Window, list[tuple[Batch, Any]]]:
    """Measure one block of queries once: the window, and what the model returned where that is kept."""
    batches, work = [], Work()
    for queries in session.workload.cut(block.queries, block.phase):
        try:
            batches.append(session.workload.prepare(block.phase, queries))
        except Exception as error:  # noqa: BLE001 - kept with the query, and makes the window invalid
            work.fail(queries, error)
    on_tick, watches = _on_tick(session, block), []
    if not work.failures:
        meters = [*session.extra_meters, *session.rated_meters]
        watches = [Watch(meter, on_tick, session.idle_with_model_w.get(meter.device)) for meter in meters]
        _lead_in(session, block.phase, batches, on_tick)
        gc.collect()
        gc.disable()  # a collection inside the window would be charged to the model
        try:
            work = _between_readings(session, block, batches, watches)
        finally:
            gc.enable()
            session.workload.end()
    watches = [watch for watch in watches if watch.stop]  # none where the work did not begin
    session.edges.append(tuple(watch.edges for watch in watches[-len(session.rated_meters) :]))
    window = _window(session, block, attempt, watches, work, _count(session.workload, block.phase, batches, work))
    return window, list(zip(batches, work.outputs, strict=False)) if block.keep else []


def _on_tick(session: Session, block: Block) -> bool:
    """Whether this window begins and ends on a step of the counter.

    Dithered edges are right on average, and off by up to one step at each edge. They are kept while that is within
    the stated precision; otherwise, or where one batch is too long to be spent on a lead-in, edges wait for a step.
    The device rests meanwhile: that energy is in the window and not of its queries, and the bound says so.
    """
    settings, query_s = session.settings, session.pace_s.get(block.phase, 0.0)
    if not session.stepped or settings.edges == "dithered" or session.workload.continuous:
        return False
    if settings.edges == "tick" or query_s * session.workload.batch_size > settings.window_s / 4:
        return True
    planned_s = max(settings.window_s, query_s * len(block.queries))
    usual_w = session.work_w or max([*session.idle_without_model_w.values(), 1.0])
    ratio = max((meter.edge_power_w() or 0.0) for meter in session.rated_meters) / usual_w
    return 2 * session.step_s / planned_s * max(ratio, 1.0) > settings.max_relative_bound


def _lead_in(session: Session, phase: str, batches: Sequence[Batch], on_tick: bool) -> None:
    """Bring the device to its working power before the first reading, at a random time of the counter's step.

    A counter read between two steps lags by the energy since the last one. With the same power before the start as
    before the end, the two lags cancel on average; a start on idle would make the window too small.
    """
    workload, clock = session.workload, session.clock
    if not session.stepped or on_tick or workload.continuous:
        return
    if session.settings.dither:
        clock.sleep(session.rng.random() * session.step_s)
    lead_until, call = clock.now() + 2 * session.step_s, workload.run(phase)
    for batch in itertools.cycle(batches):
        if clock.now() >= lead_until:
            return
        try:
            call(batch.inputs)
        except Exception:  # noqa: BLE001 - the window itself meets the same query, and records what it says
            return
        workload.synchronize()


def _between_readings(session: Session, block: Block, batches: Sequence[Batch], watches: Sequence[Watch]) -> Work:
    workload, clock, window_s = session.workload, session.clock, session.settings.window_s
    try:
        workload.begin(block.phase, batches)
    except SealError:  # broken rules end the session
        raise
    except Exception as error:  # noqa: BLE001 - what was measured before is kept
        work = Work()
        work.fail(block.queries, error)
        return work
    return observe(watches, clock, lambda: workload.work_through(block.phase, batches, clock, window_s, block.keep))


def _count(workload: Workload, phase: str, batches: Sequence[Batch], work: Work) -> dict[str, int | None]:
    """Count tokens of the first replication; a wrong count is a failed query, and one unknown leaves no sum."""
    counts = []
    for batch, outputs in zip(batches, work.outputs, strict=False):
        try:
            counts.append(workload.count(phase, batch, outputs))
        except Exception as error:  # noqa: BLE001 - kept with the query, and makes the window invalid
            work.fail(batch.queries, error)
    sides = {side: [getattr(counted, side) for counted in counts] for side in ("input", "output")}
    return {f"{side}_tokens": _sum(each) for side, each in sides.items()}


def _sum(values: Sequence[float | None]) -> Any:
    return sum(values) if values and None not in values else None


def _judge(session: Session, phase: str, rated: Sequence[Watch], work: Work) -> tuple[list[str], list[str]]:
    """Return the reasons not to believe a window, and its marks."""
    reasons = [*validity.failure_reasons(work.failures), *work.reasons]
    reasons += [reason for watch in rated for reason in reasons_of(session, watch, phase)]
    marks = [mark for watch in rated for mark in watch.marks]
    if any(validity.loose(watch, session.settings) for watch in rated):
        (reasons if session.steady else marks).append("too_few_ticks" if session.steady else "few_ticks")
    if session.estimated and any(watch.state and validity.busy(watch.state, session.settings) for watch in rated):
        marks.append("busy_host")
    return reasons, marks


def _window(
    session: Session, block: Block, attempt: int, watches: Sequence[Watch], work: Work, tokens: dict[str, Any]
) -> Window:
    """Write the window down; one whose inputs could not be made, or whose work did not begin, has no reading."""
    rated = watches[-len(session.rated_meters) :]
    reasons, marks = _judge(session, block.phase, rated, work)
    begun_s = next((start.time_s for start, _ in session.edges[-1] if start), session.clock.now())
    return Window(
        index=len(session.windows),
        run=block.run,
        phase=block.phase,
        block=block.number,
        attempt=attempt,
        queries=block.queries,
        replications=work.replications,
        start_s=begun_s - session.origin_s,
        duration_s=max([watch.duration_s or 0.0 for watch in rated], default=0.0),
        meters=tuple(map(_readings, watches)),
        energy_j=_sum([watch.energy_j for watch in rated]),
        bound_j=_sum([watch.bound_j for watch in rated]),
        **tokens,
        states=tuple(watch.state for watch in rated if watch.state),
        failures=tuple(work.failures),
        valid=not reasons,
        reasons=tuple(dict.fromkeys(reasons)),
        marks=tuple(dict.fromkeys(marks)),
    )


def _readings(watch: Watch) -> MeterReadings:
    step_s = watch.meter.update_period_s
    return MeterReadings(
        meter=watch.meter.name,
        device=watch.meter.device,
        energy_j=watch.energy_j,
        bound_j=watch.bound_j,
        ticks=int(watch.duration_s / step_s) if step_s and not watch.error else None,
        max_power_w=watch.power_w,
    )
