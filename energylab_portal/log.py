"""Every change of a submission, in one place: allowed or refused, written down, all in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from energylab.errors import ConflictError, NotThereError
from energylab_portal.database import Database
from energylab_portal.schema import Event, Submission
from energylab_portal.states import NEXT, State, sources

#: States, names and actors go to the program's log; never a link, a contact or a text of a submitter.
_LOG = logging.getLogger("energylab_portal")


def move(
    session: Session, database: Database, submission: Submission, after: State, actor: str, words: str, **facts: Any
) -> None:
    """Bring a submission into another state, and write that down.

    Parameters
    ----------
    session : Session
        Of `Database.writing`.
    database : Database
        For the time.
    submission : Submission
        As it was read; it must still be in that state.
    after : str
        The new state.
    actor : str
        Who did it.
    words : str
        What happened, for people.
    **facts
        Columns that change with the state.

    Raises
    ------
    ConflictError
        If that state cannot follow, or the submission has moved on meanwhile.
    """
    before = submission.state
    if after not in NEXT[before]:
        allowed = ", ".join(sources(after)) or "none"
        raise ConflictError(f"submission {submission.name} is {before}; {after} may follow only: {allowed}")
    now = database.now(session)
    done = session.execute(
        update(Submission)
        .where(Submission.id == submission.id, Submission.state == before)
        .values(state=after, changed_s=now, **facts)
        .execution_options(synchronize_session=False)
    )
    if done.rowcount != 1:
        raise ConflictError(f"submission {submission.name} is no longer {before}; load the page again")
    note(session, submission.id, now, actor, words, before, after)
    session.refresh(submission)
    _LOG.info("%s: %s -> %s by %s", submission.name, before, after, actor)


def note(
    session: Session, submission_id: int | None, at_s: float, actor: str, words: str,
    before: str | None = None, after: str | None = None,
) -> None:  # fmt: skip
    """Write one line of the log."""
    session.execute(
        insert(Event).values(
            submission_id=submission_id, at_s=at_s, actor=actor, words=words[:4000], before=before, after=after
        )
    )


def by_name(session: Session, name: str) -> Submission:
    """Return the submission an operator means.

    Raises
    ------
    NotThereError
        If there is none.
    """
    found = session.scalar(select(Submission).where(Submission.name == name))
    if found is None:
        raise NotThereError("there is no such submission")
    return found


def history(session: Session, submission_id: int) -> list[Event]:
    """Return the log of one submission, oldest first."""
    return list(session.scalars(select(Event).where(Event.submission_id == submission_id).order_by(Event.id)))


def latest(session: Session, limit: int = 50) -> list[tuple[Event, str | None]]:
    """Return the newest lines of the whole log with the submission's name, newest first."""
    rows = session.execute(
        select(Event, Submission.name)
        .outerjoin(Submission, Event.submission_id == Submission.id)
        .order_by(Event.id.desc())
        .limit(limit)
    )
    return [(event, name) for event, name in rows]


def in_states(session: Session, states: Iterable[State], limit: int = 500, newest: bool = False) -> list[Submission]:
    """Return submissions in some states, oldest or newest first."""
    order = Submission.id.desc() if newest else Submission.id
    return list(
        session.scalars(select(Submission).where(Submission.state.in_(list(states))).order_by(order).limit(limit))
    )
