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
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import DatabaseError

pytest.importorskip("fastapi", reason="the portal's libraries are not installed: pip install energylab-portal")
pytest.importorskip("psycopg", reason="psycopg is not installed: pip install energylab-portal")

from energylab_portal import database as database_of_portal
from energylab_portal import tables
from energylab_portal.database import Database
from energylab_portal.leases import LeaseLost, Leases
from energylab_portal.tables import Event


def programs():
    """Return the folder of initdb and postgres, or None."""
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


if programs() is None:
    pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)", allow_module_level=True)


@pytest.fixture(scope="module")
def server():
    """A server that listens on a socket in a folder of its own; it refuses to run as root.

    The folder is not pytest's: each run of pytest closes the folder of all runs to everyone but its own user.
    """
    as_root = os.geteuid() == 0
    user = "postgres" if as_root else pwd.getpwuid(os.geteuid()).pw_name
    place = Path(tempfile.mkdtemp(prefix="portal-pg-"))
    if as_root:
        try:
            shutil.chown(place, user)
        except LookupError:
            place.rmdir()
            pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")

    def run(*command):
        return subprocess.Popen(
            [str(programs() / command[0]), *command[1:]], cwd="/", user=user if as_root else None,
            stdout=subprocess.DEVNULL, stderr=(place / "log").open("ab"),
        )  # fmt: skip

    made = run("initdb", "-D", f"{place}/data", "-A", "trust", "-U", "lab", "--no-sync")
    assert made.wait() == 0, (place / "log").read_text()
    running = run("postgres", "-D", f"{place}/data", "-k", str(place), "-c", "listen_addresses=", "-F")
    while running.poll() is None and "ready to accept connections" not in (place / "log").read_text():
        time.sleep(0.1)
    assert running.poll() is None, (place / "log").read_text()
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


def test_taken_in_once_and_leased_once(submit, queued, server):
    key = secrets.token_urlsafe(20)
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: submit(key=key).link, range(32)))) == 1
        names = set(pool.map(lambda n: queued(f"org/m{n}"), range(12)))
    crews = [Leases(Database(server).open(), lease_s=60) for _ in range(3)]
    with ThreadPoolExecutor(15) as pool:
        taken = [lease for lease in pool.map(lambda n: crews[n % 3].take_measurement(f"w{n}"), range(15)) if lease]
    for crew in crews:
        crew.database.close()
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
    with pytest.raises(DatabaseError, match="kept as they are"), database.writing() as session:
        session.execute(delete(Event))


def test_a_writer_whose_machine_is_gone_stops_the_others_for_a_while_only(submit, portal, server, monkeypatch):
    """Its connection stays open, in the middle of a change: the server lets the others on, and drops that change."""
    gone = Database(server).open()
    block = gone.writing()
    session = block.__enter__()
    for bound in ("lock_timeout", "idle_in_transaction_session_timeout"):
        assert session.scalar(text(f"SHOW {bound}")) == "30s"
    session.add(Event(at_s=0.0, actor="gone", words="never kept"))
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1s'"))
    monkeypatch.setattr(database_of_portal, "_PATIENCE_S", 600.0)  # the next one waits as long as this machine takes
    assert submit("org/next").name
    with pytest.raises(DatabaseError):
        block.__exit__(None, None, None)
    gone.close()
    with portal.database.reading() as session:
        assert session.scalar(select(func.count()).where(Event.actor == "gone")) == 0


def test_what_is_read_after_the_lock_is_what_the_last_writer_left(submit, portal, server):
    """Also where the server's administrator has made snapshots the default."""
    with portal.database.writing() as session:
        session.execute(text("ALTER ROLE lab SET default_transaction_isolation = 'repeatable read'"))
    try:
        fresh = Database(server).open()
        with fresh.writing() as session:
            assert session.scalar(text("SHOW transaction_isolation")) == "read committed"
        fresh.close()
    finally:
        with portal.database.writing() as session:
            session.execute(text("ALTER ROLE lab RESET default_transaction_isolation"))
