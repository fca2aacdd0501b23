"""The operator's actions: enrol and revoke keys, approve, reject with a reason, reopen, erase an address."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from energylab.errors import ConflictError, NotThereError, PortalError, unknown_name
from energylab.publish.text import one_line, visible
from energylab_portal import tables
from energylab_portal.database import Database
from energylab_portal.leases import FREE
from energylab_portal.sealed import keys
from energylab_portal.tables import EnrolledKey, Submission

ACTOR = "operator"

#: Minimal number of characters of a reason, which must tell the submitter what to do.
LEAST_REASON = 10


def act(database: Database, name: str, action: str, reason: str = "") -> None:
    """Approve a submission, reject it with a reason, reopen it, or erase its mail address."""
    actions = {"review": _review, "reject": _reject, "retry": _retry, "erase-contact": _erase_contact}
    if action not in actions:
        raise unknown_name("action", action[:50], actions)
    with database.writing() as session:
        actions[action](session, tables.by_name(session, name), reason)


def _review(session: Session, submission: Submission, reason: str) -> None:
    unusable = [record for record in tables.records_of(session, submission.id) if not record.valid]
    if unusable:
        raise ConflictError(f"{len(unusable)} of its records are invalid: {unusable[0].reasons}; reject it")
    refuse_revoked(session, submission)
    tables.move(session, submission, "reviewed", ACTOR, "approved by the operator")


def refuse_revoked(session: Session, submission: Submission) -> None:
    """Refuse a closed result whose key was revoked; called at its check, its review and every release."""
    if submission.kind == "closed" and submission.key_id not in enrolled(session):
        raise ConflictError(f"the key {str(submission.key_id)[:16]} that signed the bundle was revoked; reject it")


def _reject(session: Session, submission: Submission, reason: str) -> None:
    reason = visible(reason.strip())[:2000]
    if len(reason) < LEAST_REASON:
        raise PortalError(f"the reason is too short; write what to do, in at least {LEAST_REASON} characters")
    tables.move(session, submission, "rejected", ACTOR, reason, reason=reason, waits_for_key=False, **FREE)


def _retry(session: Session, submission: Submission, reason: str) -> None:
    """Reopen a rejected submission, beginning with its check."""
    if tables.records_of(session, submission.id):
        raise ConflictError("it already has records, which are never deleted; to measure it again, submit it again")
    words = "reopened by the operator"
    tables.move(session, submission, "received", ACTOR, words, reason="", tries=0, **FREE)


def _erase_contact(session: Session, submission: Submission, reason: str) -> None:
    tables.erase_contact(session, submission, ACTOR)


def enrol(database: Database, public_key: str, owner: str) -> str:
    """Enrol a key; bundles waiting for it are then checked."""
    identity, owner = keys.key_id(public_key.strip()), one_line(owner.strip())[:200]
    if not owner:
        raise PortalError("the owner of the key is missing: name the organisation or person who gave you the key")
    with database.writing() as session:
        known = session.get(EnrolledKey, identity)
        if known is not None:
            what = "was revoked; use a new key" if known.revoked_s else f"is already enrolled for {known.owner}"
            raise ConflictError(f"the key {identity[:16]} {what}")
        now = tables.now(session)
        session.add(EnrolledKey(key_id=identity, public_key=public_key.strip(), owner=owner, enrolled_s=now))
        tables.note(session, None, ACTOR, f"key {identity[:16]} enrolled for {owner}")
        waits = (Submission.waits_for_key, Submission.key_id == identity, Submission.state == "received")
        for submission in list(session.scalars(select(Submission).where(*waits))):
            submission.waits_for_key = False
            tables.note(session, submission.id, ACTOR, f"its key was enrolled for {owner}; its check follows")
    return identity


def revoke(database: Database, identity: str) -> None:
    """Revoke a key: its bundles are refused; published ones stay in past releases, but enter no later one."""
    with database.writing() as session:
        known = session.get(EnrolledKey, identity)
        if known is None or known.revoked_s:
            raise NotThereError(f"no key {identity[:16]} is enrolled")
        known.revoked_s = tables.now(session)
        tables.note(session, None, ACTOR, f"key {identity[:16]} revoked")


def enrolled(session: Session) -> dict[str, str]:
    """Return the valid keys: id to base64 of the raw public key."""
    rows = session.scalars(select(EnrolledKey).where(EnrolledKey.revoked_s.is_(None)))
    return {row.key_id: row.public_key for row in rows}
