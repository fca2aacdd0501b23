"""One sealed run: measured from outside, made public without what is private, searched for leaks, and signed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylab import store
from energylab.errors import BundleError, MeasurementError, ParameterError
from energylab.measuring import Instruments
from energylab.parameters import Parameters
from energylab.record import Record
from energylab_portal.sealed import commitments, envelope, leaks, privacy, statement
from energylab_portal.sealed import keys as key_files
from energylab_portal.sealed.checks.bounds import LOOSEST
from energylab_portal.sealed.container import Plan
from energylab_portal.sealed.measure import Watch, measure
from energylab_portal.sealed.statement import Attested, ClosedRun
from energylab_portal.sealed.watch import watched

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
    model = request.plan.model
    named = {"name": model.name, "source": "path"}
    sealed = measure(
        request.parameters, request.plan, request.out / RESULTS, named,
        container=container, instruments=instruments, watch=watch,
    )  # fmt: skip
    kept = _keep(sealed.record, request.out / RECORD)
    public, private = privacy.split(sealed.record, request.alias)
    committed, opening = commitments.commit(privacy.with_answers(private, sealed.answers, sealed.hashes))
    # its own id could be changed without a trace, and the same measurement be handed in as a second session
    public = public.model_copy(update={"record_id": statement.measurement_id(sealed.readings)})
    made = sealed.run(public, committed, request.attested)
    private_texts = leaks.secrets_of(model, sealed.hashes, sealed.answers, request.private_names)
    return _leave(request, made, private_texts, opening, kept, sealed.results)


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
    if request.parameters.max_relative_bound > LOOSEST:
        raise ParameterError(
            f"max_relative_bound={request.parameters.max_relative_bound:g}: a bundle whose windows may be more than "
            f"{LOOSEST:g} wrong is not taken; leave it out, and lengthen window_s"
        )
    for name in (BUNDLE, OPENING):
        if (request.out / name).exists():
            raise BundleError(f"{request.out / name} exists; name another folder with --output")


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
