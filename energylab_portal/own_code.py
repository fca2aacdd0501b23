"""Submissions that wait for a worker with the sealed container: which they are, and what workers say they lack."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from energylab_portal import log
from energylab_portal.database import Database
from energylab_portal.leases import TO_MEASURE
from energylab_portal.schema import Event, Submission

#: How the line begins that a worker writes into the log of a submission it cannot run.
WAITS = "waits for a worker with the sealed container; this one cannot: "


def waiting(session: Session, database: Database) -> list[Submission]:
    """Return submissions that may bring their own code and that nobody measures now, oldest first."""
    free = or_(Submission.lease_until_s.is_(None), Submission.lease_until_s < database.now(session))
    wanted = select(Submission).where(TO_MEASURE, Submission.allow_code.is_(True), free)
    return list(session.scalars(wanted.order_by(Submission.id)))


def tell(database: Database, worker: str, why: str) -> list[str]:
    """Write into the log of every waiting submission why a worker cannot run it, once for each reason.

    Returns
    -------
    list of str
        Names of the submissions that wait.
    """
    with database.reading() as session:  # nobody is kept from writing by a worker that only looks
        found = waiting(session, database)
        untold = [one.name for one in found if why not in lacking(log.history(session, one.id))]
    if untold:
        with database.writing() as session:
            for one in waiting(session, database):
                if why not in lacking(log.history(session, one.id)):
                    log.note(session, one.id, database.now(session), worker, WAITS + why)
    return [one.name for one in found]


def lacking(events: Sequence[Event]) -> list[str]:
    """Return what workers said that they lack for a submission, since it was queued last; each once."""
    queued = max((number for number, event in enumerate(events) if event.after == "queued"), default=0)
    said = [event.words.removeprefix(WAITS) for event in events[queued:] if event.words.startswith(WAITS)]
    return list(dict.fromkeys(said))
