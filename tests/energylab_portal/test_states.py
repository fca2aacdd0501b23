"""States follow each other only as they may, every change is logged, and nothing is deleted."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DatabaseError

from energylab.errors import ConflictError, PortalError
from energylab_portal import review, tables
from energylab_portal.database import Database
from energylab_portal.tables import STATES, Base, Submission

ALLOWED = {
    ("received", "checked"), ("checked", "queued"), ("checked", "measured"), ("queued", "measuring"),
    ("measuring", "measured"), ("measuring", "queued"), ("measured", "reviewed"), ("reviewed", "published"),
    ("rejected", "received"), *((state, "rejected") for state in STATES if state not in ("published", "rejected")),
}  # fmt: skip


@pytest.mark.parametrize("before", STATES)
def test_every_pair_is_allowed_or_refused(submit, database, before):
    name = submit().name
    for after in STATES:
        with database.writing() as session:
            one = tables.by_name(session, name)
            one.state = before
            if (before, after) in ALLOWED:
                tables.move(session, one, after, "test", "why")
                assert one.state == after
            else:
                with pytest.raises(ConflictError, match="is only possible after"):
                    tables.move(session, one, after, "test", "why")


def test_a_change_and_its_line_are_one(submit, database, now):
    """What fails after the change takes the change with it."""
    name = submit().name

    def change_and_fail():
        with database.writing() as session:
            tables.move(session, tables.by_name(session, name), "checked", "test", "looked at")
            raise RuntimeError("the machine stops here")

    with pytest.raises(RuntimeError):
        change_and_fail()
    one, _, lines = now(name)
    assert (one.state, len(lines)) == ("received", 1)


KEPT = [(delete, table) for table in sorted(Base.metadata.tables)] + [(update, "events"), (update, "records")]


@pytest.mark.parametrize(("change", "table"), KEPT)
def test_the_database_itself_refuses_to_delete_and_to_rewrite(measured, database, change, table):
    measured()
    review.enrol(database, "A" * 43 + "=", "someone")
    with database.writing() as session:
        session.execute(text("INSERT INTO releases VALUES (1, 'r', 'open', '2026-01-01', 'd', 0, 0)"))
    statement = change(Base.metadata.tables[table])
    with pytest.raises(DatabaseError, match="cannot be changed"), database.writing() as session:
        session.execute(statement.values(id=77) if change is update else statement)


def test_readers_do_not_wait_for_a_writer_and_what_was_committed_is_synced(submit, database):
    submit("org/before")
    with database.writing() as writer:
        writer.execute(update(Submission).values(model="org/after"))
        with database.reading() as reader:
            assert reader.scalar(select(Submission.model)) == "org/before"
            assert reader.scalar(text("PRAGMA journal_mode")) == "wal"
            assert reader.scalar(text("PRAGMA synchronous")) == 2  # FULL


def test_a_bad_url_is_one_clear_error_without_its_password(tmp_path):
    for url, words in {
        "no url at all": "sqlite:///FILE",
        "postgresql://me:hunter2@127.0.0.1:1/none": "check the URL and the server",
        f"sqlite:///{tmp_path}/no/such/folder/x.db": "check the URL and the server",
    }.items():
        with pytest.raises(PortalError, match=words) as error:
            Database(url).open()
        assert "hunter2" not in str(error.value)
