"""The tables, and the states of a submission. Nothing in them is ever deleted."""

from __future__ import annotations

from typing import Literal, get_args

from sqlalchemy import DDL, BigInteger, ForeignKey, Index, Integer, MetaData, String, Table, Text, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

State = Literal["received", "checked", "queued", "measuring", "measured", "reviewed", "published", "rejected"]

STATES: tuple[State, ...] = get_args(State)

#: The states of a submission that goes well; a closed result is measured already and skips two.
WAY: dict[str, tuple[State, ...]] = {
    "open": STATES[:-1],
    "closed": ("received", "checked", "measured", "reviewed", "published"),
}

#: What may follow. A published result is not taken back: a later release may leave it out and say so.
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
    "received": "Received: it waits to be checked.",
    "checked": "Checked: it may go on.",
    "queued": "Queued: it waits for a free device.",
    "measuring": "Measuring: a worker runs it now.",
    "measured": "Measured: the operator will look at the result.",
    "reviewed": "Reviewed: it will be in the next release.",
    "published": "Published: it is on the leaderboard.",
    "rejected": "Rejected: the reason below says what to do.",
}

#: SQLite numbers rows by INTEGER only; elsewhere a big number.
_Key = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    metadata = MetaData()


class Submission(Base):
    """One submission. Times are seconds since 1970, UTC."""

    __tablename__ = "submissions"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(16), unique=True)  # random; what operators and logs call it
    link_hash: Mapped[str] = mapped_column(String(64), unique=True)  # sha256 of the private link's token
    request_hash: Mapped[str] = mapped_column(String(64), unique=True)  # sha256 of the client's idempotency key
    content_hash: Mapped[str] = mapped_column(String(64))  # sha256 of what was submitted under that key
    client: Mapped[str] = mapped_column(String(64))  # keyed hash of the client's address
    kind: Mapped[str] = mapped_column(String(8))  # open, closed
    state: Mapped[str] = mapped_column(String(12))
    received_s: Mapped[float]
    changed_s: Mapped[float]
    contact: Mapped[str] = mapped_column(String(254))  # empty once it was erased
    reason: Mapped[str] = mapped_column(Text, default="")  # why it was rejected, and what to do

    model: Mapped[str] = mapped_column(String(200), default="")  # hub id; of a closed one what its record says
    revision: Mapped[str | None] = mapped_column(String(200))
    tasks: Mapped[str] = mapped_column(Text, default="")  # names, separated by spaces
    commit: Mapped[str | None] = mapped_column(String(64))  # what the revision meant when it was checked
    facts: Mapped[str] = mapped_column(Text, default="")  # what the check found, in words, one a line

    bundle: Mapped[str | None] = mapped_column(String(64), unique=True)  # sha256 of the file
    bundle_bytes: Mapped[int | None]
    attestation: Mapped[str | None] = mapped_column(String(32))  # version of the three statements that were made
    key_id: Mapped[str | None] = mapped_column(String(64))  # that signed the bundle
    waits_for_key: Mapped[bool] = mapped_column(default=False)

    worker: Mapped[str | None] = mapped_column(String(200))
    lease: Mapped[str | None] = mapped_column(String(32))  # random; changes with every worker that takes it
    lease_until_s: Mapped[float | None]
    taken_s: Mapped[float | None]  # when a worker took it last
    tries: Mapped[int] = mapped_column(default=0)
    release: Mapped[str | None] = mapped_column(String(100))  # the first that it is in

    __table_args__ = (Index("submissions_by_state", "state", "id"), Index("submissions_by_client", "client", "taken_s"))

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.tasks.split())

    @property
    def title(self) -> str:
        return self.model or "Closed model"


class Event(Base):
    """One line of the log: what changed, when, and by whom."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    submission_id: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"), index=True)
    at_s: Mapped[float]
    actor: Mapped[str] = mapped_column(String(200))
    before: Mapped[str | None] = mapped_column(String(12))
    after: Mapped[str | None] = mapped_column(String(12))
    words: Mapped[str] = mapped_column(Text)


class StoredRecord(Base):
    """One record of a submission, with the figures a page shows."""

    __tablename__ = "records"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), index=True)
    record_id: Mapped[str] = mapped_column(String(200), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(200))
    model_class: Mapped[str | None] = mapped_column(String(1))
    energy_kind: Mapped[str] = mapped_column(String(12))
    energy_wh: Mapped[float | None]  # per 1,000 queries; None: unavailable, never 0 in its place
    device: Mapped[str] = mapped_column(String(200))
    valid: Mapped[bool]
    reasons: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text)  # the record's JSON


class EnrolledKey(Base):
    """A public key whose owner the operator knows."""

    __tablename__ = "keys"

    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)  # sha256 of the raw public key
    public_key: Mapped[str] = mapped_column(String(64))  # base64 of the raw Ed25519 public key
    owner: Mapped[str] = mapped_column(String(200))
    enrolled_s: Mapped[float]
    revoked_s: Mapped[float | None]


class PublishedRelease(Base):
    """A release that was made here. The newest of a board is the one on show."""

    __tablename__ = "releases"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    board: Mapped[str] = mapped_column(String(8))  # open: measured here; closed: measured by the models' owners
    date: Mapped[str] = mapped_column(String(10))
    digest: Mapped[str] = mapped_column(String(64))
    made_s: Mapped[float]
    models: Mapped[int]


def _forbid(table: Table, verb: str) -> None:
    """Let the database itself refuse to delete, or to rewrite, what is kept for ever."""
    said, name = f"rows of {table.name} are kept as they are", f"{table.name}_no_{verb}"
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
