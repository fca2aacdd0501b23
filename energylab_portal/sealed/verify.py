"""Whether a bundle can be believed: file, signature, digests, schema, official parts, physics.

Importing this needs neither torch nor Docker. Nothing of a bundle is read beyond its envelope before its signature
holds under an enrolled key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from energylab.errors import BundleError
from energylab_portal.sealed import envelope, statement
from energylab_portal.sealed.checks import all_checks
from energylab_portal.sealed.official import Official
from energylab_portal.sealed.official import load as load_official
from energylab_portal.sealed.verdict import Check, Verdict

__all__ = ["Check", "Verdict", "verify"]


def verify(
    bundle: Path | bytes,
    *,
    keys: Mapping[str, str],
    official: Official | None = None,
    seen: Collection[str] = (),
) -> Verdict:
    """Check a bundle; never raises on what the bundle holds.

    Parameters
    ----------
    bundle : path or bytes
        The bundle file, or its content.
    keys : mapping of str to str
        Enrolled keys: id (sha256 hex of the raw Ed25519 public key) to the raw public key in base64.
    official : Official, optional
        Official images and data; those of ``params/closed/official.yaml`` by default.
    seen : collection of str
        Digests, run ids and record ids of bundles taken before: a bundle is taken once.

    Returns
    -------
    Verdict
        Accepted when the key is known and no check failed. A check that could not be decided does not refuse.

    Raises
    ------
    BundleError
        If an enrolled key or the list of official parts is not what it must be.
    MissingExtraError
        If the libraries of the extra ``closed`` are not installed.
    """
    official = load_official() if official is None else official
    try:
        sealed = envelope.read(bundle if isinstance(bundle, bytes) else envelope.read_file(bundle))
    except BundleError as error:
        return _ended([Check("file", False, str(error))])
    digest = hashlib.sha256(sealed.payload).hexdigest()
    checks = [Check("file", True, f"one envelope, one signature; the statement's sha256 is {digest[:16]}…")]
    holds = envelope.signature_holds(sealed, keys)
    if holds is None:
        words = f"key {sealed.key_id[:16]}… is not enrolled; nothing else was read"
        return _ended([*checks, Check("signature", None, words)], sealed.key_id, False, digest)
    if not holds:
        words = f"key {sealed.key_id[:16]}… did not sign this statement"
        return _ended([*checks, Check("signature", False, words)], sealed.key_id, True, digest)
    checks.append(Check("signature", True, f"made by key {sealed.key_id[:16]}…"))
    return _of_statement(sealed, digest, checks, official, seen)


def _of_statement(sealed, digest: str, checks: list[Check], official: Official, seen: Collection[str]) -> Verdict:
    try:
        run, broken = statement.read(sealed.payload)
    except BundleError as error:
        return _ended([*checks, Check("schema", False, str(error))], sealed.key_id, True, digest)
    checks.append(Check("schema", True, "an in-toto statement on one closed run"))
    words = (
        "every part has the digest that is stated" if not broken else f"another digest is stated of {', '.join(broken)}"
    )
    checks.append(Check("digests", not broken, words))
    if broken:
        return _ended(checks, sealed.key_id, True, digest)
    again = sorted({digest, run.run_id, run.record.record_id} & set(seen))
    words = "this run was not handed in before" if not again else "this run was handed in before"
    checks.append(Check("replay", not again, words))
    checks += all_checks(run, official)
    accepted = all(check.passed is not False for check in checks)
    return Verdict(accepted, sealed.key_id, True, digest, tuple(checks), run.record, run.attestations.as_dict())


def _ended(checks: list[Check], key_id: str | None = None, known: bool = False, digest: str | None = None) -> Verdict:
    """Return a verdict on a bundle whose content could not be looked at."""
    return Verdict(False, key_id, known, digest, tuple(checks), None, None)
