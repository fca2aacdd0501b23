"""Every change of a submission, in one place: allowed or refused, written down, all in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from energylab.errors import ConflictError, NotThereError
from energylab.record import Record
from energylab_portal.database import Database
from energylab_portal.tables import NEXT, STATES, Event, State, StoredRecord, Submission

#: States, names and actors go to the program's log; never a link, a contact or a text of a submitter.
_LOG = logging.getLogger("energylab_portal")


def move(
    session: Session, database: Database, submission: Submission, after: State, actor: str, words: str, **facts: Any
) -> None:
    """Bring a submission into another state, with columns that change with it, and write that down.

    `session` is `Database.writing`'s, and `submission` was read in it: nobody else has changed it since.
    """
    before = submission.state
    if after not in NEXT[before]:
        allowed = ", ".join(state for state in STATES if after in NEXT[state]) or "none"
        raise ConflictError(f"submission {submission.name} is {before}; {after} may follow only: {allowed}")
    now = database.now(session)
    change(submission, state=after, changed_s=now, **facts)
    note(session, submission.id, now, actor, words, before, after)
    _LOG.info("%s: %s -> %s by %s", submission.name, before, after, actor)


def change(submission: Submission, **values: Any) -> None:
    for name, value in values.items():
        setattr(submission, name, value)


def note(
    session: Session, submission_id: int | None, at_s: float, actor: str, words: str,
    before: str | None = None, after: str | None = None,
) -> None:  # fmt: skip
    line = {"submission_id": submission_id, "at_s": at_s, "actor": actor, "words": words[:4000]}
    session.add(Event(**line, before=before, after=after))


def erase_contact(session: Session, database: Database, submission: Submission, actor: str) -> None:
    submission.contact = ""
    note(session, submission.id, database.now(session), actor, "the mail address was erased")


def by_name(session: Session, name: str) -> Submission:
    """Return the submission an operator means."""
    found = session.scalar(select(Submission).where(Submission.name == name))
    if found is None:
        raise NotThereError("there is no such submission")
    return found


def history(session: Session, submission_id: int) -> list[Event]:
    return list(session.scalars(select(Event).where(Event.submission_id == submission_id).order_by(Event.id)))


def latest(session: Session, limit: int = 50) -> list[tuple[Event, str | None]]:
    lines = select(Event, Submission.name).outerjoin(Submission, Event.submission_id == Submission.id)
    return [(event, name) for event, name in session.execute(lines.order_by(Event.id.desc()).limit(limit))]


def in_states(session: Session, states: Iterable[str], limit: int = 500, newest: bool = False) -> list[Submission]:
    wanted = select(Submission).where(Submission.state.in_(list(states)))
    return list(session.scalars(wanted.order_by(Submission.id.desc() if newest else Submission.id).limit(limit)))


def counts(session: Session) -> dict[str, int]:
    rows = session.execute(select(Submission.state, func.count()).group_by(Submission.state))
    return {state: number for state, number in rows}


def records_of(session: Session, submission_id: int) -> list[StoredRecord]:
    wanted = select(StoredRecord).where(StoredRecord.submission_id == submission_id)
    return list(session.scalars(wanted.order_by(StoredRecord.id)))


def attach(session: Session, submission_id: int, records: Sequence[Record]) -> None:
    ids = [record.record_id for record in records]
    known = session.scalars(select(StoredRecord.record_id).where(StoredRecord.record_id.in_(ids))).all()
    if known or len(set(ids)) != len(ids):
        raise ConflictError(f"the record {(known or ids)[0][:60]} was submitted before; a result counts once")
    session.add_all(_stored(submission_id, record) for record in records)
    session.flush()


def _stored(submission_id: int, record: Record) -> StoredRecord:
    from energylab import energy

    joules = energy.session_energy_j(record)
    return StoredRecord(
        submission_id=submission_id,
        record_id=record.record_id,
        digest=record.digest(),
        task=record.task.name,
        model_class=record.model.model_class,
        energy_kind=record.energy_kind,
        energy_wh=None if joules is None else joules / energy.J_PER_WH * 1000,
        device=f"{len(record.devices)} x {record.devices[0].name}"[:200],
        valid=record.valid,
        reasons=", ".join(record.reasons),
        text=record.model_dump_json(),
    )
