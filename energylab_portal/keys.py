"""Public keys whose owners the operator knows: only their bundles count."""

from __future__ import annotations

import base64
import binascii
import hashlib

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from energylab.errors import ConflictError, NotThereError, PortalError
from energylab.publish.text import one_line
from energylab_portal import log
from energylab_portal.database import Database
from energylab_portal.schema import EnrolledKey, Submission

_RAW_BYTES = 32  # of an Ed25519 public key


def key_id(public_key: str) -> str:
    """Return the id of a public key: the sha256, in hex, of its 32 raw bytes.

    Parameters
    ----------
    public_key : str
        Base64 of the raw Ed25519 public key.

    Raises
    ------
    PortalError
        If it is not one.
    """
    try:
        raw = base64.b64decode(public_key.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _RAW_BYTES:
        raise PortalError(
            f"a public key is the base64 of {_RAW_BYTES} raw bytes (Ed25519), {len(raw)} read; "
            "its owner gets it from `energylab-portal sealed key`"
        )
    return hashlib.sha256(raw).hexdigest()


def enrol(database: Database, public_key: str, owner: str, actor: str = "operator") -> str:
    """Enrol a key; bundles that wait for it are checked next.

    Returns
    -------
    str
        The key's id.

    Raises
    ------
    PortalError
        If it is no key, or no owner is named.
    ConflictError
        If it is enrolled already, or was revoked.
    """
    identity = key_id(public_key)
    owner = one_line(owner.strip())[:200]
    if not owner:
        raise PortalError("name the owner of the key: an organisation or a person you have heard it from")
    with database.writing() as session:
        known = session.get(EnrolledKey, identity)
        if known is not None:
            what = "was revoked, and a revoked key stays so" if known.revoked_s else f"is enrolled for {known.owner}"
            raise ConflictError(f"the key {identity[:16]} {what}")
        now = database.now(session)
        session.add(EnrolledKey(key_id=identity, public_key=public_key.strip(), owner=owner, enrolled_s=now))
        log.note(session, None, now, actor, f"key {identity[:16]} enrolled for {owner}")
        waiting = session.scalars(
            select(Submission).where(
                Submission.waits_for_key, Submission.key_id == identity, Submission.state == "received"
            )
        )
        for submission in list(waiting):
            submission.waits_for_key = False
            log.note(session, submission.id, now, actor, f"its key was enrolled for {owner}; it is checked next")
    return identity


def revoke(database: Database, identity: str, actor: str = "operator") -> None:
    """Revoke a key: its bundles count no more from now on. What is published stays, and the log says when.

    Raises
    ------
    NotThereError
        If no such key is enrolled.
    """
    with database.writing() as session:
        now = database.now(session)
        done = session.execute(
            update(EnrolledKey)
            .where(EnrolledKey.key_id == identity, EnrolledKey.revoked_s.is_(None))
            .values(revoked_s=now)
        )
        if done.rowcount != 1:
            raise NotThereError(f"no key {identity[:16]} is enrolled")
        log.note(session, None, now, actor, f"key {identity[:16]} revoked")


def enrolled(session: Session) -> dict[str, str]:
    """Return the keys that count: id to base64 of the raw public key."""
    rows = session.scalars(select(EnrolledKey).where(EnrolledKey.revoked_s.is_(None)))
    return {row.key_id: row.public_key for row in rows}


def everyone(session: Session) -> list[EnrolledKey]:
    """Return all keys that were ever enrolled, newest first."""
    return list(session.scalars(select(EnrolledKey).order_by(EnrolledKey.enrolled_s.desc())))
