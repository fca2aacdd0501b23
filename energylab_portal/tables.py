"""The database tables, the states of a submission, and its logged changes. Nothing is ever deleted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from sqlalchemy import DDL, BigInteger, ForeignKey, Index, Integer, MetaData, String, Table, Text, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from energylab import energy
from energylab.errors import ConflictError, NotThereError
from energylab.record import Record

#: The program's log contains states, names and actors, but no links, contacts or texts of submitters.
_LOG = logging.getLogger("energylab_portal")

State = Literal["received", "checked", "queued", "measuring", "measured", "reviewed", "published", "rejected"]

STATES: tuple[State, ...] = get_args(State)

#: The states of a successful submission; a closed result is already measured and skips two.
WAY: dict[str, tuple[State, ...]] = {
    "open": STATES[:-1],
    "closed": ("received", "checked", "measured", "reviewed", "published"),
}

#: Allowed next states. Published results are final; a later release may exclude them and state this.
NEXT: dict[State, tuple[State, ...]] = {
    "received": ("checked", "rejected"),
    "checked": ("queued", "measured", "rejected"),
    "queued": ("measuring", "rejected"),
    "measuring": ("measured", "queued", "rejected"),
    "measured": ("reviewed", "rejected"),
    "reviewed": ("published", "rejected"),
    "published": (),
    "rejected": ("received",),
}

WORDS: dict[State, str] = {
    "received": "Received: waits for its check.",
    "checked": "Checked: accepted for the next step.",
    "queued": "Queued: waits for a free device.",
    "measuring": "Measuring: a worker is measuring it.",
    "measured": "Measured: waits for the operator's review.",
    "reviewed": "Reviewed: part of the next release.",
    "published": "Published: on the leaderboard.",
    "rejected": "Rejected: see the reason below.",
}

#: SQLite needs INTEGER for row numbers; other databases use BIGINT.
_Key = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    metadata = MetaData()


class Submission(Base):
    """One submission. Times are seconds since 1970, UTC."""

    __tablename__ = "submissions"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(16), unique=True)  # random; shown to operators and in logs
    link_hash: Mapped[str] = mapped_column(String(64), unique=True)  # sha256 of the private link's token
    request_hash: Mapped[str] = mapped_column(String(64), unique=True)  # sha256 of the client's idempotency key
    content_hash: Mapped[str] = mapped_column(String(64))  # sha256 of the submission's content
    client: Mapped[str] = mapped_column(String(64))  # keyed hash of the client's address
    kind: Mapped[str] = mapped_column(String(8))  # open, closed
    state: Mapped[str] = mapped_column(String(12))
    received_s: Mapped[float]
    changed_s: Mapped[float]
    contact: Mapped[str] = mapped_column(String(254))  # empty if erased
    reason: Mapped[str] = mapped_column(Text, default="")  # if rejected: the reason, and what to do

    model: Mapped[str] = mapped_column(String(200), default="")  # hub id; for a closed model its public name
    revision: Mapped[str | None] = mapped_column(String(200))
    tasks: Mapped[str] = mapped_column(Text, default="")  # names, separated by spaces
    commit: Mapped[str | None] = mapped_column(String(64))  # commit of the revision at the check
    facts: Mapped[str] = mapped_column(Text, default="")  # results of the check, one per line

    bundle: Mapped[str | None] = mapped_column(String(64), unique=True)  # sha256 of the file
    bundle_bytes: Mapped[int | None]
    attestation: Mapped[str | None] = mapped_column(String(32))  # version of the submitter's three statements
    key_id: Mapped[str | None] = mapped_column(String(64))  # of the bundle's signature
    waits_for_key: Mapped[bool] = mapped_column(default=False)

    worker: Mapped[str | None] = mapped_column(String(200))
    lease: Mapped[str | None] = mapped_column(String(32))  # random token, new for every worker
    lease_until_s: Mapped[float | None]
    taken_s: Mapped[float | None]  # time when a worker last took it
    tries: Mapped[int] = mapped_column(default=0)
    release: Mapped[str | None] = mapped_column(String(100))  # the first one that contains it

    __table_args__ = (Index("submissions_by_state", "state", "id"), Index("submissions_by_client", "client", "taken_s"))

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.tasks.split())

    @property
    def title(self) -> str:
        return self.model or "Closed model"


class Event(Base):
    """One line of the log: the change, its time and its author."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    submission_id: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"), index=True)
    at_s: Mapped[float]
    actor: Mapped[str] = mapped_column(String(200))
    before: Mapped[str | None] = mapped_column(String(12))
    after: Mapped[str | None] = mapped_column(String(12))
    words: Mapped[str] = mapped_column(Text)


class StoredRecord(Base):
    """One record of a submission, with the figures shown on pages."""

    __tablename__ = "records"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), index=True)
    record_id: Mapped[str] = mapped_column(String(200), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(200))
    model_class: Mapped[str | None] = mapped_column(String(1))
    energy_kind: Mapped[str] = mapped_column(String(12))
    energy_wh: Mapped[float | None]  # per 1,000 queries; None: unavailable (never 0 instead)
    device: Mapped[str] = mapped_column(String(200))
    valid: Mapped[bool]
    reasons: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text)  # the record's JSON


class EnrolledKey(Base):
    """A public key of an owner known to the operator."""

    __tablename__ = "keys"

    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)  # sha256 of the raw public key
    public_key: Mapped[str] = mapped_column(String(64))  # base64 of the raw Ed25519 public key
    owner: Mapped[str] = mapped_column(String(200))
    enrolled_s: Mapped[float]
    revoked_s: Mapped[float | None]


class PublishedRelease(Base):
    """A release of this portal. The newest of a board is its current one."""

    __tablename__ = "releases"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    board: Mapped[str] = mapped_column(String(8))  # open: measured here; closed: measured by the models' owners
    date: Mapped[str] = mapped_column(String(10))
    digest: Mapped[str] = mapped_column(String(64))
    made_s: Mapped[float]
    models: Mapped[int]


def _forbid(table: Table, verb: str) -> None:
    """Add a trigger, so that the database refuses to delete or change the rows of a table."""
    said, name = f"rows of {table.name} cannot be changed or deleted", f"{table.name}_no_{verb}"
    for_sqlite = (
        f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {verb} ON {table.name} BEGIN SELECT RAISE(ABORT, '{said}'); END"
    )
    function = (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{said}'; END $$"
    )
    trigger = f"CREATE OR REPLACE TRIGGER {name} BEFORE {verb} ON {table.name} FOR EACH ROW EXECUTE FUNCTION {name}()"
    event.listen(table, "after_create", DDL(for_sqlite).execute_if(dialect="sqlite"))
    for statement in (function, trigger):
        event.listen(table, "after_create", DDL(statement).execute_if(dialect="postgresql"))


for _table in Base.metadata.tables.values():
    _forbid(_table, "delete")
for _name in ("events", "records", "releases"):
    _forbid(Base.metadata.tables[_name], "update")


# ---- changes: checked and logged in one transaction


def move(session: Session, submission: Submission, after: State, actor: str, words: str, **facts: Any) -> None:
    """Move a submission to another state, change other columns with it, and log the change.

    `session` is that of `Database.writing`, and `submission` was read in it, so no other process has changed it.
    """
    before = submission.state
    if after not in NEXT[before]:
        allowed = ", ".join(state for state in STATES if after in NEXT[state]) or "none"
        raise ConflictError(f"submission {submission.name} is {before}; {after} is only possible after: {allowed}")
    change(submission, state=after, changed_s=now(session), **facts)
    note(session, submission.id, actor, words, before, after)
    _LOG.info("%s: %s -> %s by %s", submission.name, before, after, actor)


def change(submission: Submission, **values: Any) -> None:
    for name, value in values.items():
        setattr(submission, name, value)


def note(
    session: Session, submission_id: int | None, actor: str, words: str,
    before: str | None = None, after: str | None = None,
) -> None:  # fmt: skip
    line = {"submission_id": submission_id, "at_s": now(session), "actor": actor, "words": words[:4000]}
    session.add(Event(**line, before=before, after=after))


def now(session: Session) -> float:
    """Return the time in seconds since 1970, by the clock shared by all processes of this portal."""
    return session.info["clock"](session)


def erase_contact(session: Session, submission: Submission, actor: str) -> None:
    """Erase a mail address, and the digest that could confirm a guessed one."""
    submission.contact = submission.content_hash = ""
    note(session, submission.id, actor, "the mail address was erased")


def by_name(session: Session, name: str) -> Submission:
    """Return a submission by its name."""
    found = session.scalar(select(Submission).where(Submission.name == name))
    if found is None:
        raise NotThereError("no submission has this name")
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
        raise ConflictError(f"the record {(known or ids)[0][:60]} was submitted before; each result is accepted once")
    session.add_all(_stored(submission_id, record) for record in records)
    session.flush()


def _stored(submission_id: int, record: Record) -> StoredRecord:
    joules = energy.session_energy_j(record)
    return StoredRecord(
        submission_id=submission_id,
        record_id=record.record_id,
        digest=record.digest(),
        task=record.task.name,
        model_class=record.model.model_class,
        energy_kind=record.energy_kind,
        energy_wh=None if joules is None else joules * energy.WH_PER_1000_QUERIES,
        device=f"{len(record.devices)} x {record.devices[0].name}"[:200],
        valid=record.valid,
        reasons=", ".join(record.reasons),
        text=record.model_dump_json(),
    )
