"""States follow each other only as they may, every change is logged, and nothing is deleted."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DatabaseError

from energylab.errors import ConflictError, PortalError
from energylab_portal import tables
from energylab_portal.database import Database
from energylab_portal.tables import STATES, Base, Event, Submission

ALLOWED = {
    ("received", "checked"), ("checked", "queued"), ("checked", "measured"), ("queued", "measuring"),
    ("measuring", "measured"), ("measuring", "queued"), ("measured", "reviewed"), ("reviewed", "published"),
    ("rejected", "received"), *((state, "rejected") for state in STATES if state not in ("published", "rejected")),
}  # fmt: skip


def test_every_pair_is_allowed_or_refused(submit, database):
    name = submit().name
    for before, after in itertools.product(STATES, STATES):
        with database.writing() as session:
            one = tables.by_name(session, name)
            one.state = before
            if (before, after) in ALLOWED:
                tables.move(session, one, after, "test", "why")
                assert one.state == after
            else:
                with pytest.raises(ConflictError, match="may follow only"):
                    tables.move(session, one, after, "test", "why")


def test_a_change_and_its_line_are_one(submit, database):
    """What fails after the change takes the change with it."""
    name = submit().name

    def change_and_fail():
        with database.writing() as session:
            tables.move(session, tables.by_name(session, name), "checked", "test", "looked at")
            raise RuntimeError("the machine stops here")

    with pytest.raises(RuntimeError):
        change_and_fail()
    with database.reading() as session:
        one = tables.by_name(session, name)
        assert (one.state, len(tables.history(session, one.id))) == ("received", 1)


class TestNothingIsDeleted:
    @pytest.mark.parametrize("table", sorted(Base.metadata.tables))
    def test_the_database_itself_refuses(self, measured, database, table):
        from energylab_portal import review

        measured()
        review.enrol(database, "A" * 43 + "=", "someone")
        if table == "releases":
            with database.writing() as session:
                session.execute(text("INSERT INTO releases VALUES (1, 'r', 'open', '2026-01-01', 'd', 0, 0)"))
        with pytest.raises(DatabaseError, match="kept as they are"), database.writing() as session:
            session.execute(delete(Base.metadata.tables[table]))

    def test_the_log_cannot_be_rewritten(self, submit, database):
        submit()
        with pytest.raises(DatabaseError, match="kept as they are"), database.writing() as session:
            session.execute(update(Event).values(actor="another"))


class TestDatabase:
    def test_readers_do_not_wait_for_a_writer(self, submit, database):
        submit("org/before")
        with database.writing() as writer:
            writer.execute(update(Submission).values(model="org/after"))
            with database.reading() as reader:
                assert reader.scalar(select(Submission.model)) == "org/before"

    def test_what_was_committed_is_synced(self, database):
        with database.reading() as session:
            assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert session.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL

    def test_a_bad_url_is_one_clear_error_without_its_password(self, tmp_path):
        with pytest.raises(PortalError, match="sqlite:///FILE"):
            Database("no url at all")
        with pytest.raises(PortalError) as error:
            Database("postgresql://me:hunter2@127.0.0.1:1/none").open()
        assert "hunter2" not in str(error.value)
        with pytest.raises(PortalError, match="check that it is there"):
            Database(f"sqlite:///{tmp_path}/no/such/folder/x.db").open()
