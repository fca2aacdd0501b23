"""One sealed session: what works is in the container, what measures is here. What it leaves is not yet for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from energylab.errors import MeterError, ParameterError
from energylab.measuring import choose_instruments, measure_subject
from energylab.meters import Instruments
from energylab.meters.base import Meter
from energylab.meters.estimate import EstimateMeter
from energylab.parameters import Parameters
from energylab.protocol.session import Session
from energylab.record import Record
from energylab_portal.sealed import derive
from energylab_portal.sealed.container import Container, Plan
from energylab_portal.sealed.derive import Known
from energylab_portal.sealed.remote import RemoteSubject
from energylab_portal.sealed.statement import Image, Seal, Timeline, Weights
from energylab_portal.sealed.watch import WatchedMeter, watched
from energylab_portal.sealed.weights import survey

#: Meters that see the container's work from outside it.
OUTSIDE = ("nvml", "rapl", "estimate")

#: Wraps meters: what `energylab_portal.sealed.watch.watched` does.
Watch = Callable[..., tuple[WatchedMeter, ...]]


@dataclass(frozen=True)
class Measured:
    """What a sealed session leaves.

    Attributes
    ----------
    record : Record
        Whole, valid or not.
    session : Session
        With the readings behind the record, and the outputs by query.
    known : Known
        Task and data as the host knows them.
    started_utc : datetime
    weights : Weights
        The model's files as the host sees them.
    hashes : dict of str to str
        sha256 of the weight files, by path.
    image : Image
    seal : Seal
    timelines : tuple of Timeline
    """

    record: Record
    session: Session
    known: Known
    started_utc: datetime
    weights: Weights
    hashes: Mapping[str, str]
    image: Image
    seal: Seal
    timelines: tuple[Timeline, ...]


def measure(
    parameters: Parameters, plan: Plan, named: Mapping[str, Any], *, container: Any = None,
    instruments: Instruments | None = None, watch: Watch = watched,
) -> Measured:  # fmt: skip
    """Measure the model in a plan's folder in a sealed container, from outside.

    Parameters
    ----------
    parameters : Parameters
        As for any session; what they say of the model is what the record says, the work gets the plan's folder.
    plan : Plan
        The container.
    named : mapping
        Facts of the model that the host knows better than the container: ``name``, ``source`` …
    container, instruments, watch : optional
        Stand-ins, for tests.

    Raises
    ------
    SealError
        If the container cannot be sealed or broke the rules.
    ParameterError, MeterError
        If something is asked for that cannot be seen from outside.
    """
    known = check(parameters)
    weights, hashes = survey(plan.model)
    container = container or Container(plan)
    instruments = _instruments(parameters, container, instruments, watch)
    clock = instruments.scored[0].clock
    began_s = clock.now()
    subject = RemoteSubject(_inside(parameters), container.start, known)
    try:
        record, session = _session(subject, parameters, instruments)
    finally:
        container.remove()
    model = record.model.model_copy(update=dict(named))
    host = record.host.model_copy(update=subject.software)
    return Measured(
        record=record.model_copy(update={"model": model, "host": host}),
        session=session,
        known=known,
        started_utc=datetime.now(UTC) - timedelta(seconds=clock.now() - began_s),
        weights=weights,
        hashes=hashes,
        image=container.image,
        seal=container.seal,
        timelines=tuple(meter.timeline(session.origin_s) for meter in instruments.scored),
    )


def check(parameters: Parameters) -> Known:
    """Refuse what no sealed session can do; return what the host knows of the task.

    Raises
    ------
    EnergylabError
        Says what, and what to do.
    """
    if parameters.protocol != "steady":
        raise ParameterError(f"a sealed run measures by steady, not by protocol={parameters.protocol!r}: leave it out")
    if parameters.precision_target is not None or parameters.star_probability is not None:
        raise ParameterError("a sealed run measures all of its runs: leave precision_target and star_probability out")
    return derive.known({name: getattr(parameters, name) for name in derive.SHOWN}, parameters.params)


def _inside(parameters: Parameters) -> Parameters:
    """Return the parameters as the work gets them: its model is a folder, and nothing of the host's is named."""
    mounted = {"model": "/model", "model_source": "path", "revision": None}
    return parameters.model_copy(update={**mounted, "params": None, "output_folder": None, "record": None})


def _session(subject: RemoteSubject, parameters: Parameters, instruments: Instruments) -> tuple[Record, Session]:
    """Run the session; a rule that the container broke outweighs whatever the session made of it."""
    try:
        measured = measure_subject(subject, parameters, instruments, instruments.scored[0].clock)
    except Exception:
        if subject.broken is not None:
            raise subject.broken from None
        raise
    if subject.broken is not None:
        raise subject.broken
    return measured


def _instruments(parameters: Parameters, container: Any, given: Instruments | None, watch: Watch) -> Instruments:
    """Choose meters that see the container from outside; processor time is the container's, not this process's."""
    instruments = replace(given or choose_instruments(parameters), extra=())
    blind = [meter.name for meter in instruments.scored if meter.name not in OUTSIDE]
    if blind:
        raise MeterError(f"meter {blind[0]!r} watches this process, not the container; use one of {', '.join(OUTSIDE)}")
    scored = [_outside(meter, parameters, container.cpu_s) for meter in instruments.scored]
    return replace(instruments, scored=watch(scored, parameters.window_s, container.processes))


def _outside(meter: Meter, parameters: Parameters, cpu_s: Callable[[], float]) -> Meter:
    if meter.name != "estimate":
        return meter
    return EstimateMeter(parameters.cpu_core_w, cpu_time=cpu_s)
