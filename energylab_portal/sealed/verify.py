"""Verification of a bundle: file, signature, schema, official list, and physical checks.

An image that is built twice differs in its digest, so images are not reproduced but vouched for: an operator builds
or checks one, lists its digest, and signs the list. Who trusts the operator's key trusts the image.

Verifying runs nothing and loads nothing of the sender's: a task is looked up by its name among energylab's own,
parameters and lists are those the verifier names, and no model is ever loaded. Needs neither Docker nor torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from energylab.errors import BundleError, EnergylabError
from energylab.record import Record, canonical_json
from energylab_portal.sealed import bundle as bundles
from energylab_portal.sealed import checks, derive, floors, statement
from energylab_portal.sealed import keys as key_files
from energylab_portal.sealed.checks import Check
from energylab_portal.sealed.derive import Known
from energylab_portal.sealed.keys import PrivateKey
from energylab_portal.sealed.statement import ClosedRun, Image, ImageDigest, Sha256, Text

LIST_KIND = "urn:energylab:official:1"


class _Listed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OfficialImage(_Listed):
    """One trusted image, and the environment shared with it."""

    name: Text
    digest: ImageDigest
    layers: tuple[ImageDigest, ...]
    environment_digest: Sha256 | None = None  # None: the image has its own


class OfficialData(_Listed):
    """The first rows of a published data set."""

    task: Text
    samples: int
    digest: Sha256


class Official(_Listed):
    """A signed list of trusted images and data, and its signer."""

    images: tuple[OfficialImage, ...] = ()
    data: tuple[OfficialData, ...] = ()
    key_id: str = "nobody"

    def image(self, image: Image) -> Check:
        for one in self.images:
            if one.digest != image.digest:
                continue
            if (one.layers, one.environment_digest) != (image.layers, image.environment_digest):
                return Check("image", False, f"its digest is that of {one.name}, but layers or packages differ")
            return Check("image", True, f"{one.name}, listed by key {self.key_id[:16]}…")
        words = f"{image.digest[:19]}… is not one of the {len(self.images)} images listed by key {self.key_id[:16]}…"
        return Check("image", False, words)

    def rows(self, run: ClosedRun, known: Known) -> Check:
        """Check that the queries are the first rows of the task's data."""
        name, count, source = known.facts.name, known.data.queries, known.data.source
        digest = known.data.digest
        if source == "hub":
            listed = [one.digest for one in self.data if (one.task, one.samples) == (name, count)]
            if not listed:
                return Check("data", None, f"the list has no digest of the first {count} published rows of {name}")
            digest = listed[0]
        same = digest == run.data_digest
        return Check("data", same, f"the rows are {'' if same else 'not '}the first {count} {source} rows of {name}")


def list_entry(image: Image, name: str) -> OfficialImage:
    return OfficialImage(name=name, **image.model_dump(include={"digest", "layers", "environment_digest"}))


def write_list(listed: Official, key: PrivateKey) -> bytes:
    content: dict[str, Any] = {"kind": LIST_KIND, **listed.model_dump(mode="json", exclude={"key_id"})}
    return bundles.sign(canonical_json(content), key)


def read_list(path: Path, keys: dict[str, str] | None = None) -> Official:
    """Read a list signed by one of `keys`; without keys any signer is accepted, to sign the list again."""
    try:
        sealed = bundles.read(bundles.read_file(path))
        if keys is not None and not bundles.signature_holds(sealed, keys):
            raise BundleError(f"key {sealed.key_id[:16]}… is not trusted; name the signer's key with --lister")
        content = bundles.parse(sealed.payload, "the list")
        if not isinstance(content, dict) or content.pop("kind", None) != LIST_KIND:
            raise BundleError("it is not a list of official images and data; make one with `sealed official`")
        return Official.model_validate_json(canonical_json({**content, "key_id": sealed.key_id}))
    except (BundleError, ValidationError) as error:
        raise BundleError(f"{path}: {str(error)[:300]}") from None


@dataclass(frozen=True)
class Verdict:
    """Result of all checks of a bundle."""

    accepted: bool  # whether the key is known and no check failed; undecided checks do not refuse
    key_id: str | None  # sha256 (hex) of the raw public key that signed; None if missing
    key_known: bool  # whether this key is one of the given keys
    digest: str | None  # sha256 (hex) of the signed statement; None if missing
    checks: tuple[Check, ...]  # in order; they end if the file or the signature fails
    record: Record | None  # the public record, derived from the statement; None if impossible

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.passed is False)


def verify(
    bundle: Path | bytes, *, keys: Mapping[str, str], official: Official, params: str | Path | None = None
) -> Verdict:
    """Check a bundle; no content of a bundle raises an exception."""
    try:
        sealed = bundles.read(bundle if isinstance(bundle, bytes) else bundles.read_file(bundle))
    except BundleError as error:
        return Verdict(False, None, False, None, (Check("file", False, str(error)),), None)
    digest = hashlib.sha256(sealed.payload).hexdigest()
    made = [Check("file", True, f"one envelope, one signature; the statement's sha256 is {digest[:16]}…")]
    holds, key = bundles.signature_holds(sealed, keys), f"key {sealed.key_id[:16]}…"
    words = {None: f"{key} is not one of the given keys; checks end here", False: f"the signature is not that of {key}"}
    made.append(Check("signature", holds, words.get(holds, f"made by {key}")))
    if not holds:
        return Verdict(False, sealed.key_id, holds is not None, digest, tuple(made), None)
    record = _look(sealed.payload, official, params, made)
    accepted = all(check.passed is not False for check in made)
    return Verdict(accepted, sealed.key_id, True, digest, tuple(made), record)


def check_opening(bundle: Path, opening: Path, given: Sequence[str]) -> dict[str, bool]:
    """Return, for every entry of an opening, whether it matches the bundle's commitment."""
    known = {identity: public for one in given for identity, public in key_files.read_public(one).items()}
    sealed = bundles.read(bundles.read_file(bundle))
    if not bundles.signature_holds(sealed, known):
        raise BundleError(f"{bundle}: not signed by a given key; pass the owner's public key with --key")
    shown = bundles.parse(bundles.read_file(opening), str(opening))
    return key_files.check_opening(statement.read(sealed.payload).commitments, shown)


def _look(payload: bytes, official: Official, params: str | Path | None, made: list[Check]) -> Record | None:
    """Make all checks of a statement with a valid signature; return the derived record."""
    try:
        run = statement.read(payload)
    except BundleError as error:
        made.append(Check("schema", False, str(error)))
        return None
    made.append(Check("schema", True, "one sealed run: attested, isolated, all hidden fields committed"))
    try:
        known = derive.known(run.parameters, params)
        record = derive.record_of(run, known)
    except (EnergylabError, ValidationError) as error:
        made.append(Check("task", False, str(error)[:300]))
        return None
    looks = (  # each relies on the checks before it
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
    how = f"with its own {', '.join(changed)}" if changed else "with the published settings"
    size = f", class {record.model.model_class}" if record.model.model_class else ""
    weights = f"{record.model.parameters:,} stored weights{size}; computed in {record.model.dtype}"
    return f"{record.task.name} {record.task.version}, {how}; {weights}"
