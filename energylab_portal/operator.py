"""What an operator may do: enrol and revoke keys, approve, reject with a reason, try again, erase an address."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from energylab.errors import ConflictError, NotThereError, PortalError
from energylab.publish.text import one_line, visible
from energylab_portal import log
from energylab_portal.database import Database
from energylab_portal.leases import FREE
from energylab_portal.sealed import keys
from energylab_portal.tables import EnrolledKey, Submission

ACTOR = "operator"

#: A reason must say what to do; a word or two cannot.
LEAST_REASON = 10


def review(database: Database, name: str) -> None:
    """Approve a measured submission: it will be in the next release."""

    def change(session: Session, submission: Submission) -> None:
        unusable = [record for record in log.records_of(session, submission.id) if not record.valid]
        if unusable:
            raise ConflictError(f"{len(unusable)} of its records are invalid: {unusable[0].reasons}; reject it")
        refuse_revoked(session, submission)
        log.move(session, database, submission, "reviewed", ACTOR, "the operator looked at it and approved it")

    _with(database, name, change)


def refuse_revoked(session: Session, submission: Submission) -> None:
    """Refuse a closed result whose key does not count any more: at every step from its check to every release."""
    if submission.kind == "closed" and submission.key_id not in enrolled(session):
        raise ConflictError(f"the key {str(submission.key_id)[:16]} that signed it was revoked; reject it")


def reject(database: Database, name: str, reason: str) -> None:
    """Reject a submission with a reason that says what to do."""
    reason = visible(reason.strip())[:2000]
    if len(reason) < LEAST_REASON:
        raise PortalError(f"write a reason that says what to do, at least {LEAST_REASON} characters")

    def change(session: Session, submission: Submission) -> None:
        log.move(session, database, submission, "rejected", ACTOR, reason, reason=reason, waits_for_key=False, **FREE)

    _with(database, name, change)


def retry(database: Database, name: str) -> None:
    """Take a rejected submission up again, from its check on."""

    def change(session: Session, submission: Submission) -> None:
        if log.records_of(session, submission.id):
            raise ConflictError("it has records already, and records are kept; submit it again to measure it again")
        words = "the operator takes it up again"
        log.move(session, database, submission, "received", ACTOR, words, reason="", tries=0, **FREE)

    _with(database, name, change)


def erase_contact(database: Database, name: str) -> None:
    """Erase the mail address of a submission."""

    def change(session: Session, submission: Submission) -> None:
        log.set_columns(session, submission, contact="")
        log.note(session, submission.id, database.now(session), ACTOR, "the mail address was erased")

    _with(database, name, change)


def _with(database: Database, name: str, change: Callable[[Session, Submission], None]) -> None:
    with database.writing() as session:
        change(session, log.by_name(session, name))


def enrol(database: Database, public_key: str, owner: str) -> str:
    """Enrol a key; bundles that wait for it are checked next."""
    identity, owner = keys.key_id(public_key.strip()), one_line(owner.strip())[:200]
    if not owner:
        raise PortalError("name the owner of the key: an organisation or a person you have heard it from")
    with database.writing() as session:
        known = session.get(EnrolledKey, identity)
        if known is not None:
            what = "was revoked, and a revoked key stays so" if known.revoked_s else f"is enrolled for {known.owner}"
            raise ConflictError(f"the key {identity[:16]} {what}")
        now = database.now(session)
        session.add(EnrolledKey(key_id=identity, public_key=public_key.strip(), owner=owner, enrolled_s=now))
        log.note(session, None, now, ACTOR, f"key {identity[:16]} enrolled for {owner}")
        waits = (Submission.waits_for_key, Submission.key_id == identity, Submission.state == "received")
        for submission in list(session.scalars(select(Submission).where(*waits))):
            submission.waits_for_key = False
            log.note(session, submission.id, now, ACTOR, f"its key was enrolled for {owner}; it is checked next")
    return identity


def revoke(database: Database, identity: str) -> None:
    """Revoke a key: its bundles count no more. What is published stays in its release, and in no later one."""
    with database.writing() as session:
        now, holds = database.now(session), (EnrolledKey.key_id == identity, EnrolledKey.revoked_s.is_(None))
        if session.execute(update(EnrolledKey).where(*holds).values(revoked_s=now)).rowcount != 1:
            raise NotThereError(f"no key {identity[:16]} is enrolled")
        log.note(session, None, now, ACTOR, f"key {identity[:16]} revoked")


def enrolled(session: Session) -> dict[str, str]:
    """Return the keys that count: id to base64 of the raw public key."""
    rows = session.scalars(select(EnrolledKey).where(EnrolledKey.revoked_s.is_(None)))
    return {row.key_id: row.public_key for row in rows}
