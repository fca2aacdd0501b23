"""One sealed run: measured from outside, made public without what is private, searched for leaks, and signed."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from energylab import store
from energylab.benchmark import Instruments, choose_instruments, measure_subject
from energylab.closed import commitments, envelope, leaks, privacy, statement
from energylab.closed import keys as key_files
from energylab.closed.checks.bounds import LOOSEST
from energylab.closed.container import Container, Plan
from energylab.closed.remote import RemoteSubject, host_knows
from energylab.closed.statement import Attested, ClosedRun
from energylab.closed.watch import WatchedMeter, timeline, watched, window_readings
from energylab.closed.weights import survey
from energylab.errors import BundleError, MeasurementError, MeterError, ParameterError
from energylab.meters.base import Meter
from energylab.meters.estimate import EstimateMeter, PowerModel
from energylab.parameters import Parameters
from energylab.protocol.session import Session
from energylab.record import Record
from energylab.tasks.files import is_path

#: Meters that see the container's work from outside it.
OUTSIDE = ("nvml", "rapl", "estimate")

#: Wraps meters: what `energylab.closed.watch.watched` does.
Watch = Callable[..., tuple[WatchedMeter, ...]]

BUNDLE, OPENING, RECORD, RESULTS = "bundle.json", "opening.json", "private", "results"


@dataclass(frozen=True)
class Request:
    """One sealed run as asked for.

    Attributes
    ----------
    parameters : Parameters
        As for any session; ``model`` is the model's folder, ``model_source`` is ``path``.
    plan : Plan
        The container.
    alias : str
        The name the model is shown under.
    key : PrivateKey
        Signs the bundle.
    out : Path
        Folder for the bundle, and for what stays with the owner.
    attested : Attested
        What the owner attests.
    private_names : tuple of str
        Further names that must not appear in the bundle.
    """

    parameters: Parameters
    plan: Plan
    alias: str
    key: key_files.PrivateKey
    out: Path
    attested: Attested
    private_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Left:
    """What a sealed run leaves.

    Attributes
    ----------
    bundle : Path
        To be sent.
    digest : str
        sha256 of the signed statement.
    opening, record : Path
        The owner's: what was committed to, and the whole record.
    results : tuple of str
        Files the work left in its results folder.
    """

    bundle: Path
    digest: str
    opening: Path
    record: Path
    results: tuple[str, ...]


def run(
    request: Request, *, container: Any = None, instruments: Instruments | None = None, watch: Watch = watched
) -> Left:
    """Measure a closed model in a sealed container and leave a signed bundle.

    Parameters
    ----------
    request : Request
    container : object, optional
        Stands in for a `Container`: a test gives its own.
    instruments : Instruments, optional
        Devices and meters, in place of those the parameters choose.
    watch : callable, optional
        Wraps meters so that they are sampled; a test samples on a clock of its own.

    Returns
    -------
    Left

    Raises
    ------
    SealError
        If the container cannot be sealed or broke the rules.
    MeasurementError
        If the session has no total.
    BundleError
        If something private would be in the bundle; nothing is written then.
    """
    _check(request)
    weights, hashes = survey(request.plan.model)
    container = container or Container(request.plan)
    instruments = _instruments(request.parameters, container, instruments, watch)
    started = datetime.now(UTC)
    record, session, checked_by, results = _measure_sealed(request, container, instruments)
    kept = _keep(record, request.out / RECORD)
    public, private = privacy.split(record, request.alias)
    committed, opening = commitments.commit(privacy.with_answers(private, session.answers, hashes))
    readings = window_readings(session.edges, instruments.scored, session.origin_s)
    # its own id could be changed without a trace, and the same measurement be handed in as a second session
    public = public.model_copy(update={"record_id": statement.measurement_id(readings)})
    made = ClosedRun(
        run_id=secrets.token_hex(32),
        started_utc=started,
        finished_utc=datetime.now(UTC),
        record=public,
        readings=readings,
        timelines=tuple(timeline(meter, readings, session.origin_s) for meter in instruments.scored),
        image=container.image,
        seal=container.seal,
        data_checked_by=checked_by,
        weights=weights,
        commitments=committed,
        attestations=request.attested,
    )
    private_texts = leaks.secrets_of(request.plan.model, hashes, session.answers, request.private_names)
    return _leave(request, made, private_texts, opening, kept, results)


def _measure_sealed(request: Request, container: Any, instruments: Instruments) -> tuple[Record, Session, str, tuple]:
    """Measure in the container; return the whole record, its session, who checked the data, and the results' names."""
    inside = request.parameters.model_copy(update={"model": "/model", "params": None, "output_folder": None})
    subject = RemoteSubject(inside, container.start, host_knows(request.parameters))
    try:
        record, session = _measured(subject, request.parameters, instruments)
        results = container.fetch_results(request.out / RESULTS)
    finally:
        container.remove()
    model = record.model.model_copy(update={"name": request.plan.model.name, "source": "path"})
    host = record.host.model_copy(update=subject.software)
    checked_by = "host" if subject.expected is not None else "container"
    return record.model_copy(update={"model": model, "host": host}), session, checked_by, tuple(results)


def _keep(record: Record, folder: Path) -> Path:
    """Write the whole record for its owner alone; a record without a total ends here."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = store.write(record, folder)
    if not record.valid:
        raise MeasurementError(f"no bundle: {'; '.join(record.reasons)}; the private record is {kept}")
    return kept


def _check(request: Request) -> None:
    privacy.check_alias(request.alias)
    if request.parameters.model_source != "path":
        raise ParameterError("a closed model is a folder: model_source='path'")
    if is_path(request.parameters.task):
        raise ParameterError(
            f"task {request.parameters.task!r} is a file of the host; bring a task of your own in an image built on "
            "the runner (docs/closed-models.md)"
        )
    if request.parameters.precision_target is not None:
        raise ParameterError("a sealed run measures all of its runs: leave precision_target out")
    if request.parameters.star_probability is not None:
        raise ParameterError("a sealed run measures all of its runs: leave star_probability and peers out")
    if request.parameters.max_relative_bound > LOOSEST:
        raise ParameterError(
            f"max_relative_bound={request.parameters.max_relative_bound:g}: a bundle whose windows may be more than "
            f"{LOOSEST:g} wrong is not taken; leave it out, and lengthen window_s"
        )
    for name in (BUNDLE, OPENING):
        if (request.out / name).exists():
            raise BundleError(f"{request.out / name} exists; name another folder with --output")


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


def _leave(request: Request, made: ClosedRun, private: list, opening: dict, kept: Path, results: tuple) -> Left:
    payload = statement.write(made)
    allowed = [request.alias, request.parameters.task, made.record.task.name]
    leaked = leaks.find(payload, private, allowed)
    if leaked:
        raise BundleError(
            f"no bundle was written: it would hold {', '.join(leaked)}; choose another public name, or, where a public "
            "word happens to equal a private one, rename the model's folder"
        )
    data = envelope.sign(payload, request.key)
    if len(data) > envelope.MAX_BYTES:
        raise BundleError(
            f"the bundle has {len(data)} bytes, more than {envelope.MAX_BYTES}; measure fewer runs at once"
        )
    opened = commitments.write_opening(opening, request.out / OPENING)
    bundle = _write(data, request.out / BUNDLE)
    return Left(bundle, hashlib.sha256(payload).hexdigest(), opened, kept, results)


def _write(data: bytes, target: Path) -> Path:
    """Write a file so that it is either whole or not there."""
    descriptor, temporary = tempfile.mkstemp(prefix=".bundle-", dir=target.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).chmod(0o644)
    Path(temporary).replace(target)
    return target
