"""The same portal on PostgreSQL: taken in once, leased once, nothing deleted. A server of its own, on a socket."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import DatabaseError

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install energylab-portal")

from energylab_portal import database as database_of_portal
from energylab_portal import tables
from energylab_portal.database import Database
from energylab_portal.leases import LeaseLost, Leases
from energylab_portal.tables import Event

INITDB = shutil.which("initdb") or next(iter(sorted(Path("/").glob("usr/lib/postgresql/*/bin/initdb"))[::-1]), None)
if INITDB is None:
    pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)", allow_module_level=True)


@pytest.fixture(scope="module")
def server():
    """A server that listens on a socket in a folder of its own; it refuses to run as root.

    The folder is not pytest's: each run of pytest closes the folder of all runs to everyone but its own user.
    """
    user = "postgres" if os.geteuid() == 0 else None
    if user and user not in {one.pw_name for one in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
    place = Path(tempfile.mkdtemp(prefix="portal-pg-"))
    if user:
        shutil.chown(place, user)
    log, programs = place / "log", Path(INITDB).resolve().parent

    def run(name, *options):
        command = [programs / name, "-D", place / "data", *options]
        return subprocess.Popen(command, cwd="/", user=user, stdout=subprocess.DEVNULL, stderr=log.open("ab"))

    assert run("initdb", "-A", "trust", "-U", "lab", "--no-sync").wait() == 0, log.read_text()
    running = run("postgres", "-k", place, "-c", "listen_addresses=", "-F")
    while running.poll() is None and "ready to accept connections" not in log.read_text():
        time.sleep(0.1)
    assert running.poll() is None, log.read_text()
    yield f"postgresql://lab@/postgres?host={place}"
    running.terminate()
    running.wait()
    shutil.rmtree(place)


@pytest.fixture
def clock():
    """The server's own."""


@pytest.fixture
def portal(make_portal, server):
    return make_portal(database=server)


@pytest.fixture
def connect(server):
    """Return a function that opens the portal's database as another process would."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(Database(server).open()))


def test_taken_in_once_and_leased_once(submit, queued, connect):
    key = secrets.token_urlsafe(20)
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: submit(key=key).link, range(32)))) == 1
        names = set(pool.map(lambda n: queued(f"org/m{n}"), range(12)))
        crews = [Leases(connect(), lease_s=60) for _ in range(3)]
        taken = [lease for lease in pool.map(lambda n: crews[n % 3].take_measurement(f"w{n}"), range(15)) if lease]
    assert sorted(lease.name for lease in taken) == sorted(names)


def test_a_lease_runs_out_by_the_servers_clock(queued, database, monkeypatch):
    """A worker whose own clock is years behind takes nothing early, and what has run out at once."""
    monkeypatch.setattr(time, "time", lambda: 1e6)
    name, leases = queued("org/slow"), Leases(database, lease_s=600)
    dead = leases.take_measurement("dead")
    assert leases.take_measurement("next") is None
    with database.writing() as session:
        leases.held(session, dead).lease_until_s = tables.now(session)
    assert leases.take_measurement("next").name == name
    with pytest.raises(LeaseLost):
        leases.renew(dead)


def test_the_log_stays(submit, database):
    submit("org/logged")
    with pytest.raises(DatabaseError, match="cannot be changed"), database.writing() as session:
        session.execute(delete(Event))


def test_a_writer_whose_machine_is_gone_stops_the_others_for_a_while_only(submit, database, connect, monkeypatch):
    """Its connection stays open, in the middle of a change: the server lets the others on, and drops that change."""
    block = connect().writing()
    session = block.__enter__()
    for bound in ("lock_timeout", "idle_in_transaction_session_timeout"):
        assert session.scalar(text(f"SHOW {bound}")) == "30s"
    session.add(Event(at_s=0.0, actor="gone", words="never kept"))
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1s'"))
    monkeypatch.setattr(database_of_portal, "_PATIENCE_S", 600.0)  # the next one waits as long as this machine takes
    assert submit("org/next").name
    with pytest.raises(DatabaseError):
        block.__exit__(None, None, None)
    with database.reading() as session:
        assert session.scalar(select(func.count()).where(Event.actor == "gone")) == 0


def test_what_is_read_after_the_lock_is_what_the_last_writer_left(database, connect):
    """Also where the server's administrator has made snapshots the default."""
    with database.writing() as session:
        session.execute(text("ALTER ROLE lab SET default_transaction_isolation = 'repeatable read'"))
    try:
        with connect().writing() as session:
            assert session.scalar(text("SHOW transaction_isolation")) == "read committed"
    finally:
        with database.writing() as session:
            session.execute(text("ALTER ROLE lab RESET default_transaction_isolation"))
