"""One window: lead-in, reading, whole queries, reading. Only the model's work runs between the two readings."""

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
    """State of one session: its meters and settings, what the warm-up measured, and the results so far."""

    rated_meters: Sequence[Meter]  # open; their sum is the energy that is rated: one per device, or one for all
    extra_meters: Sequence[Meter]  # open; read over the same windows, for comparison
    settings: Settings
    clock: Clock  # the meters' clock
    workload: Workload | None = None  # once it is loaded
    origin_s: float = 0.0  # clock time at which the windows' start_s is 0

    idle_without_model_w: dict[str, float] = field(default_factory=dict)  # device -> power before the model is loaded
    idle_with_model_w: dict[str, float] = field(default_factory=dict)  # device -> idle power with the model loaded
    seconds_per_query: dict[str, float] = field(default_factory=dict)  # phase -> duration of a query in the warm-up
    bytes_per_query: dict[str, float] = field(default_factory=dict)  # phase -> memory of a query's prepared inputs
    assumed_limit_w: dict[str, float] = field(default_factory=dict)  # phase -> limit used if the device states none
    work_w: float | None = None  # mean power under load, from the warm-up
    not_finite: set[int] = field(default_factory=set)  # queries whose outputs are not finite numbers
    failed: int = 0  # blocks that stayed invalid
    unrecoverable: bool = False  # whether another attempt cannot succeed, see `validity.UNRECOVERABLE`

    meters: tuple[MeterFacts, ...] = ()  # as found when opened
    idle: list[IdleLevel] = field(default_factory=list)  # the three levels
    warm_up: WarmUp | None = None
    windows: list[Window] = field(default_factory=list)  # all windows in order, invalid ones included
    edges: list[tuple[tuple[Reading | None, Reading | None], ...]] = field(
        default_factory=list
    )  # the rated meters' readings at the edges of every window
    answers: dict[int, Any] = field(default_factory=dict)  # one per query, from the last phase of the first run
    unread: str | None = None  # why answers could not be read from the model's outputs; quality is then unknown
    stopped: str | None = None  # why a stopping rule ended the session early; None if none did
    reasons: list[str] = field(default_factory=list)  # why a scored phase of a run has no total

    def __post_init__(self) -> None:
        self.rng = random.Random(self.settings.seed)

    @property
    def valid(self) -> bool:
        """Whether every scored phase of every run has a total."""
        return not self.reasons

    @property
    def steady(self) -> bool:
        """Whether the protocol is `steady`."""
        return self.settings.protocol == "steady"

    @property
    def step_s(self) -> float:
        """Longest time until a change of power shows in the counter: step plus latency of the slowest rated meter."""
        return max((meter.update_period_s or 0.0) + meter.latency_s for meter in self.rated_meters)

    @property
    def stepped(self) -> bool:
        """Whether the counter of a rated meter moves in visible steps."""
        return any(meter.update_period_s for meter in self.rated_meters)

    @property
    def estimated(self) -> bool:
        """Whether the energy comes from a power model."""
        return all(meter.kind == "estimated" for meter in self.rated_meters)


@dataclass(frozen=True)
class Block:
    """The queries of one planned window; `keep`: whether answers are read from its outputs."""

    run: int
    phase: str
    number: int
    queries: tuple[int, ...]
    keep: bool = False


def observe(watches: Sequence[Watch], clock: Clock, work: Callable[[], Any]) -> Any:
    """Run `work` between two readings of every meter; the last meter is read closest to it."""
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
    """Return the reasons why a rated meter's energy is invalid in a phase; phase None is an idle level.

    Idle power is a lower limit only for phases on a GPU: preprocessing runs on the host, and a processor's idle power
    includes other processes, which may end before the first window.
    """
    meter, settings = watch.meter, session.settings
    floor = phase not in (None, "preprocess", "total") and not meter.of_processor
    idle_w = session.idle_without_model_w.get(meter.device) if floor else None
    assumed_limit_w = session.assumed_limit_w.get(phase) if phase else meter.assumed_limit_w
    reasons = validity.reading_reasons(watch, settings, idle_w, assumed_limit_w)
    if watch.state:  # at rest a processor is always shared
        reasons += validity.state_reasons(watch.state, settings, session.estimated or phase is None)
    reasons += ["state_unknown"] if watch.state is None and not watch.error else []
    return reasons + (["process_stopped"] if watch.stopped else [])


def measure_window(session: Session, block: Block, attempt: int = 0) -> tuple[Window, list[tuple[Batch, Any]]]:
    """Measure one block of queries once; return the window and, where they are kept, the model's outputs."""
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
    watches = [watch for watch in watches if watch.stop]  # empty if the work did not begin
    session.edges.append(tuple(watch.edges for watch in watches[-len(session.rated_meters) :]))
    window = _window(session, block, attempt, watches, work, _count(session.workload, block.phase, batches, work))
    return window, list(zip(batches, work.outputs, strict=False)) if block.keep else []


def _on_tick(session: Session, block: Block) -> bool:
    """Whether the edges of this window are read right after a step of the counter.

    Dithered edges are right on average, and wrong by up to one step each. They are used while that error is within
    `max_relative_bound`; otherwise, or if one batch is too long for a lead-in, edges wait for a step. Waiting adds idle
    energy to the window; the bound includes it.
    """
    settings, query_s = session.settings, session.seconds_per_query.get(block.phase, 0.0)
    if not session.stepped or settings.edges == "dithered" or session.workload.continuous:
        return False
    if settings.edges == "tick" or query_s * session.workload.batch_size > settings.window_s / 4:
        return True
    planned_s = max(settings.window_s, query_s * len(block.queries))
    usual_w = session.work_w or max([*session.idle_without_model_w.values(), 1.0])
    ratio = max((meter.edge_power_w() or 0.0) for meter in session.rated_meters) / usual_w
    return 2 * session.step_s / planned_s * max(ratio, 1.0) > settings.max_relative_bound


def _lead_in(session: Session, phase: str, batches: Sequence[Batch], on_tick: bool) -> None:
    """Run queries before the first reading, which is taken at working power and at a random time within a step.

    A counter read between two steps misses the energy since the last one. With the same power before both readings, the
    two errors cancel on average; a start from idle would make the window's energy too small.
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
        except Exception:  # noqa: BLE001 - the window runs the same query, and records its error
            return
        workload.synchronize()


def _between_readings(session: Session, block: Block, batches: Sequence[Batch], watches: Sequence[Watch]) -> Work:
    workload, clock, window_s = session.workload, session.clock, session.settings.window_s
    try:
        workload.begin(block.phase, batches)
    except SealError:  # a violation of the sealed run's rules ends the session
        raise
    except Exception as error:  # noqa: BLE001 - recorded with the queries; earlier windows are kept
        work = Work()
        work.fail(block.queries, error)
        return work
    return observe(watches, clock, lambda: workload.work_through(block.phase, batches, clock, window_s, block.keep))


def _count(workload: Workload, phase: str, batches: Sequence[Batch], work: Work) -> dict[str, int | None]:
    """Count tokens of the first replication; a wrong count is a failed query, an unknown count makes the sum None."""
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
    """Return the reasons why a window is invalid, and its warnings."""
    reasons = [*validity.failure_reasons(work.failures), *work.reasons]
    reasons += [reason for watch in rated for reason in reasons_of(session, watch, phase)]
    warnings = [warning for watch in rated for warning in watch.warnings]
    if any(validity.loose(watch, session.settings) for watch in rated):
        (reasons if session.steady else warnings).append("too_few_ticks" if session.steady else "few_ticks")
    if session.estimated and any(watch.state and validity.busy(watch.state, session.settings) for watch in rated):
        warnings.append("busy_host")
    return reasons, warnings


def _window(
    session: Session, block: Block, attempt: int, watches: Sequence[Watch], work: Work, tokens: dict[str, Any]
) -> Window:
    """Make the window's entry of the record; it has no readings if preparing or starting its queries failed."""
    rated = watches[-len(session.rated_meters) :]
    reasons, warnings = _judge(session, block.phase, rated, work)
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
        marks=tuple(dict.fromkeys(warnings)),
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
