"""One sealed session: what works is in the container, what measures is here. What it leaves is not yet for others.

A closed model's owner makes a bundle of it (`energylab_portal.sealed.run`); an operator who lets an open model bring
its own code keeps the whole record.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from energylab.errors import MeterError, ParameterError
from energylab.measuring import Instruments, choose_instruments, measure_subject
from energylab.meters.base import Meter
from energylab.meters.estimate import EstimateMeter, PowerModel
from energylab.parameters import Parameters
from energylab.protocol.session import Session
from energylab.record import Record
from energylab.tasks import is_path
from energylab_portal.sealed.container import Container, Plan
from energylab_portal.sealed.remote import RemoteSubject, host_knows
from energylab_portal.sealed.statement import Attested, ClosedRun, Image, Seal, Timeline, Weights, WindowReadings
from energylab_portal.sealed.watch import WatchedMeter, timeline, watched, window_readings
from energylab_portal.sealed.weights import survey

#: Meters that see the container's work from outside it.
OUTSIDE = ("nvml", "rapl", "estimate")

#: Wraps meters: what `energylab_portal.sealed.watch.watched` does.
Watch = Callable[..., tuple[WatchedMeter, ...]]


@dataclass(frozen=True)
class Sealed:
    """What a sealed session leaves.

    Attributes
    ----------
    record : Record
        Whole, valid or not.
    answers : dict of int to str
        The outputs, by query.
    results : tuple of str
        Files the work left in its results folder.
    started_utc : datetime
    weights : Weights
        The model's files as the host sees them.
    hashes : dict of str to str
        sha256 of the weight files, by path.
    image : Image
    seal : Seal
    data_checked_by : str
        ``host`` where it has the task, else ``container``.
    readings : tuple of WindowReadings
    timelines : tuple of Timeline
    """

    record: Record
    answers: Mapping[int, str]
    results: tuple[str, ...]
    started_utc: datetime
    weights: Weights
    hashes: Mapping[str, str]
    image: Image
    seal: Seal
    data_checked_by: str
    readings: tuple[WindowReadings, ...]
    timelines: tuple[Timeline, ...]

    def run(self, record: Record, commitments: Mapping[str, str], attested: Attested) -> ClosedRun:
        """Return the session as what is checked, and signed where it is for others."""
        return ClosedRun(
            run_id=secrets.token_hex(32),
            started_utc=self.started_utc,
            finished_utc=datetime.now(UTC),
            record=record,
            readings=self.readings,
            timelines=self.timelines,
            image=self.image,
            seal=self.seal,
            data_checked_by=self.data_checked_by,
            weights=self.weights,
            commitments=dict(commitments),
            attestations=attested,
        )


def measure(
    parameters: Parameters, plan: Plan, results: Path, named: Mapping[str, Any], *,
    container: Any = None, instruments: Instruments | None = None, watch: Watch = watched,
) -> Sealed:  # fmt: skip
    """Measure the model in a plan's folder in a sealed container, from outside.

    Parameters
    ----------
    parameters : Parameters
        As for any session; what they say of the model is what the record says, the work gets the plan's folder.
    plan : Plan
        The container.
    results : Path
        Where the plain files go that the work leaves.
    named : mapping
        Facts of the model that the host knows better than the container: ``name``, ``source`` …
    container, instruments, watch : optional
        Stand-ins, for tests; see `energylab_portal.sealed.run.run`.

    Returns
    -------
    Sealed

    Raises
    ------
    SealError
        If the container cannot be sealed or broke the rules.
    ParameterError, MeterError
        If something is asked for that cannot be seen from outside.
    """
    check(parameters)
    weights, hashes = survey(plan.model)
    container = container or Container(plan)
    instruments = _instruments(parameters, container, instruments, watch)
    started = datetime.now(UTC)
    subject = RemoteSubject(_inside(parameters), container.start, host_knows(parameters))
    try:
        record, session = _measured(subject, parameters, instruments)
        left = container.fetch_results(results)
    finally:
        container.remove()
    readings = window_readings(session.edges, instruments.scored, session.origin_s)
    return Sealed(
        record=_as_the_host_knows(record, subject, named),
        answers=session.answers,
        results=tuple(left),
        started_utc=started,
        weights=weights,
        hashes=hashes,
        image=container.image,
        seal=container.seal,
        data_checked_by="host" if subject.expected is not None else "container",
        readings=readings,
        timelines=tuple(timeline(meter, readings, session.origin_s) for meter in instruments.scored),
    )


def check(parameters: Parameters) -> None:
    """Refuse what no sealed session can do.

    Raises
    ------
    ParameterError
        Says what, and what to do.
    """
    if is_path(parameters.task):
        raise ParameterError(
            f"task {parameters.task!r} is a file of the host; bring a task of your own in an image built on "
            "the runner (energylab_portal/docs/sealed.md)"
        )
    if parameters.precision_target is not None:
        raise ParameterError("a sealed run measures all of its runs: leave precision_target out")
    if parameters.star_probability is not None:
        raise ParameterError("a sealed run measures all of its runs: leave star_probability and peers out")


def _inside(parameters: Parameters) -> Parameters:
    """Return the parameters as the work gets them: its model is a folder, and nothing of the host's is named."""
    mounted = {"model": "/model", "model_source": "path", "revision": None}
    return parameters.model_copy(update={**mounted, "params": None, "output_folder": None, "record": None})


def _as_the_host_knows(record: Record, subject: RemoteSubject, named: Mapping[str, Any]) -> Record:
    model = record.model.model_copy(update=dict(named))
    return record.model_copy(update={"model": model, "host": record.host.model_copy(update=subject.software)})


def _measured(subject: RemoteSubject, parameters: Parameters, instruments: Instruments) -> tuple[Record, Session]:
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
    return EstimateMeter(PowerModel(core_w=parameters.cpu_core_w), cpu_time=cpu_s)
