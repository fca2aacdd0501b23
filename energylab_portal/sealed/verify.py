"""Whether a bundle can be believed: file, signature, schema, what is official, and physics.

Verifying runs nothing and loads nothing of the sender's: a task is looked up by its name among energylab's own,
parameters and lists are those the verifier names, and no model is ever loaded. Needs neither Docker nor torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from energylab.errors import BundleError, EnergylabError
from energylab.record import Record
from energylab_portal.sealed import bundle as bundles
from energylab_portal.sealed import checks, derive, floors, statement
from energylab_portal.sealed import keys as key_files
from energylab_portal.sealed.checks import Check
from energylab_portal.sealed.official import Official


@dataclass(frozen=True)
class Verdict:
    """What is known of a bundle after every check."""

    accepted: bool  # whether the key is known and no check failed. A check that could not be decided does not refuse
    key_id: str | None  # sha256 (hex) of the raw public key that signed; None where the file names none
    key_known: bool  # whether that key is among those given
    digest: str | None  # sha256 (hex) of the signed statement; None where there is none
    checks: tuple[Check, ...]  # in the order they were made; the first failure of the file itself ends them
    record: Record | None  # the public record, derived from what was signed; None where it could not be

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.passed is False)


def verify(
    bundle: Path | bytes, *, keys: Mapping[str, str], official: Official, params: str | Path | None = None
) -> Verdict:
    """Check a bundle; never raises on what the bundle holds."""
    try:
        sealed = bundles.read(bundle if isinstance(bundle, bytes) else bundles.read_file(bundle))
    except BundleError as error:
        return Verdict(False, None, False, None, (Check("file", False, str(error)),), None)
    digest = hashlib.sha256(sealed.payload).hexdigest()
    made = [Check("file", True, f"one envelope, one signature; the statement's sha256 is {digest[:16]}…")]
    holds, key = bundles.signature_holds(sealed, keys), f"key {sealed.key_id[:16]}…"
    words = {None: f"{key} is not among the keys given; nothing else was read", False: f"{key} did not sign this"}
    made.append(Check("signature", holds, words.get(holds, f"made by {key}")))
    if not holds:
        return Verdict(False, sealed.key_id, holds is not None, digest, tuple(made), None)
    record = _look(sealed.payload, official, params, made)
    accepted = all(check.passed is not False for check in made)
    return Verdict(accepted, sealed.key_id, True, digest, tuple(made), record)


def check_opening(bundle: Path, opening: Path, given: Sequence[str]) -> dict[str, bool]:
    """Return, for every entry that an owner shows, whether it is what a bundle committed to."""
    known = {identity: public for one in given for identity, public in key_files.read_public(one).items()}
    sealed = bundles.read(bundles.read_file(bundle))
    if not bundles.signature_holds(sealed, known):
        raise BundleError(f"{bundle}: no given key made its signature; pass the owner's public key with --key")
    shown = bundles.parse(bundles.read_file(opening), str(opening))
    return key_files.check_opening(statement.read(sealed.payload).commitments, shown)


def _look(payload: bytes, official: Official, params: str | Path | None, made: list[Check]) -> Record | None:
    """Make every check of a statement whose signature holds; return the record that follows from it."""
    try:
        run = statement.read(payload)
    except BundleError as error:
        made.append(Check("schema", False, str(error)))
        return None
    made.append(
        Check(
            "schema",
            True,
            "a statement on one sealed run: attested, closed off, what is left out committed to",
        )
    )
    try:
        known = derive.known(run.parameters, params)
        record = derive.record_of(run, known)
    except (EnergylabError, ValidationError) as error:
        made.append(Check("task", False, str(error)[:300]))
        return None
    looks = (  # each compares what the ones before it hold to be true
        lambda: [
            Check("task", True, _of_task(record)), official.image(run.image), official.rows(run, known),
            checks.timeline(run), checks.kind(run, record),
        ],
        lambda: [
            checks.coverage(record, known.task.phases), checks.counter(run), checks.durations(run, record),
        ],
        lambda: [checks.steps(run, record), checks.power(run, record)],
        lambda: [
            checks.sensor(run, record), checks.pace(run, record), floors.time(run, record),
            floors.least_energy(run, record), checks.repeats(run, record),
        ],
    )  # fmt: skip
    for look in looks:
        made += look()
        if any(check.passed is False for check in made):
            break
    return record


def _of_task(record: Record) -> str:
    changed = record.task.overridden
    how = f"with {', '.join(changed)} of its own" if changed else "with every setting as published"
    size = f", class {record.model.model_class}" if record.model.model_class else ""
    weights = f"{record.model.parameters:,} stored weights{size}; computed in {record.model.dtype}"
    return f"{record.task.name} {record.task.version}, {how}; {weights}"
