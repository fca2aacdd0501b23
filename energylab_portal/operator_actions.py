"""What an operator may do: look, review, reject with a reason, try again, allow code, publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from energylab.errors import ConflictError, PortalError
from energylab.publish.text import visible
from energylab_portal import log
from energylab_portal.database import Database
from energylab_portal.leases import FREE
from energylab_portal.schema import Submission
from energylab_portal.submissions import records_of

ACTOR = "operator"

#: A reason must say what to do; a word or two cannot.
LEAST_REASON = 10


def review(database: Database, name: str) -> None:
    """Approve a measured submission: it will be in the next release.

    Raises
    ------
    ConflictError
        If it is not measured, or a record of it may not be used.
    """

    def change(session: Any, submission: Submission) -> None:
        unusable = [record for record in records_of(session, submission.id) if not record.valid]
        if unusable:
            raise ConflictError(f"{len(unusable)} of its records are invalid: {unusable[0].reasons}; reject it")
        log.move(session, database, submission, "reviewed", ACTOR, "the operator looked at it and approved it")

    _with(database, name, change)


def reject(database: Database, name: str, reason: str) -> None:
    """Reject a submission with a reason that says what to do.

    Raises
    ------
    PortalError
        If the reason is too short to say anything.
    ConflictError
        If it is published or rejected already.
    """
    reason = visible(reason.strip())[:2000]
    if len(reason) < LEAST_REASON:
        raise PortalError(f"write a reason that says what to do, at least {LEAST_REASON} characters")

    def change(session: Any, submission: Submission) -> None:
        log.move(session, database, submission, "rejected", ACTOR, reason, reason=reason, waits_for_key=False, **FREE)

    _with(database, name, change)


def retry(database: Database, name: str) -> None:
    """Take a rejected submission up again, from its check on.

    Raises
    ------
    ConflictError
        If it is not rejected, or has records: those stay, and a new measurement is a new submission.
    """

    def change(session: Any, submission: Submission) -> None:
        if records_of(session, submission.id):
            raise ConflictError("it has records already, and records are kept; submit it again to measure it again")
        log.move(
            session,
            database,
            submission,
            "received",
            ACTOR,
            "the operator takes it up again",
            reason="",
            tries=0,
            **FREE,
        )

    _with(database, name, change)


def allow_code(database: Database, name: str) -> None:
    """Allow this one submission to bring code of its own, in the sealed container.

    Raises
    ------
    ConflictError
        If it is no open model, or has been queued already.
    """

    def change(session: Any, submission: Submission) -> None:
        if submission.kind != "open" or submission.state not in ("received", "rejected"):
            raise ConflictError(
                f"code can be allowed for an open model before it is queued; this one is {submission.state}"
            )
        submission.allow_code = True
        words = "the operator allows this model to bring its own code, in the sealed container only"
        log.note(session, submission.id, database.now(session), ACTOR, words)

    _with(database, name, change)


def _with(database: Database, name: str, change: Callable[[Any, Submission], None]) -> None:
    with database.writing() as session:
        change(session, log.by_name(session, name))
