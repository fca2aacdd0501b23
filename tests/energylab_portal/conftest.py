"""A portal in a folder of its own, with a clock that tests move, and clients that browse it as people do."""

from __future__ import annotations

import re
import secrets
from contextlib import ExitStack, contextmanager

import pytest
from release_builders import record_of

pytest.importorskip("fastapi", reason="the portal's libraries are not installed: pip install energylab-portal")

from starlette.testclient import TestClient

from energylab_portal import tables
from energylab_portal.database import Database
from energylab_portal.leases import FREE, Leases
from energylab_portal.sealed.statement import ATTESTATIONS
from energylab_portal.settings import Limits, Settings, Vault
from energylab_portal.submissions import OpenSubmission
from energylab_portal.web import Portal, create

ADDRESS = "http://127.0.0.1:8320"
GENEROUS = Limits(submissions_per_minute=10**6, requests_per_second=10**6, logins_per_minute=10**6, waiting=10**6)


class Clock:
    """Seconds since 1970, as tests say."""

    def __init__(self) -> None:
        self.now = 1_770_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@contextmanager
def opened_portal(folder, clock=None, **changes):
    """Open a portal, which has the operator's token where that was made now; close it at the end."""
    settings = Settings(folder, **{"limits": GENEROUS, **changes})
    settings.prepare()
    vault, token = Vault.open(settings.folder)
    portal = Portal(settings, Database(settings.database_url, clock).open(), vault)
    portal.token = token
    yield portal
    portal.database.close()


@pytest.fixture(scope="session")
def open_portal():
    return opened_portal


@pytest.fixture
def make_portal(tmp_path, clock):
    """Return a function that opens a portal in this test's folder."""
    with ExitStack() as opened:
        yield lambda folder="portal", **changes: opened.enter_context(
            opened_portal(tmp_path / folder, clock, **changes)
        )


@pytest.fixture
def portal(make_portal):
    return make_portal()


@pytest.fixture
def database(portal):
    return portal.database


@pytest.fixture
def leases(database):
    return Leases(database, lease_s=60, pause_s=0)


@pytest.fixture
def browse(portal):
    """Return a function that opens a fresh browser without scripts; it does not follow redirects."""
    plain = {"base_url": ADDRESS, "follow_redirects": False, "raise_server_exceptions": False}
    return lambda portal=portal, **options: TestClient(create(portal), **{**plain, **options})


@pytest.fixture
def browser(browse):
    return browse()


@pytest.fixture
def operator(browse, portal):
    """A browser whose user has entered the operator's token."""
    client = browse()
    page = client.get("/operator/login").text
    client.post("/operator/login", data={"csrf": hidden(page, "csrf"), "token": portal.token})
    return client


@pytest.fixture
def submit(portal):
    """Return a function that submits an open model and gives what was accepted."""

    def submit(model="org/model", tasks=("text_generation",), key=None):
        asked = OpenSubmission(model=model, tasks=tasks, contact="someone@example.org")
        return portal.queue.take_open(asked, key or secrets.token_urlsafe(20))

    return submit


def to_queue(database, name, states=("checked", "queued")):
    """Bring a submission on its way."""
    with database.writing() as session:
        for state in states:
            tables.move(session, tables.by_name(session, name), state, "test", "on its way")


@pytest.fixture
def queued(submit, database):
    """Return a function that queues a submission and gives its name."""

    def queued(model="org/model"):
        name = submit(model).name
        to_queue(database, name)
        return name

    return queued


@pytest.fixture
def now(database):
    """Return a function that gives a submission as it is, its records and its log."""

    def now(name):
        with database.reading() as session:
            one = tables.by_name(session, name)
            return one, tables.records_of(session, one.id), tables.history(session, one.id)

    return now


@pytest.fixture
def measured(submit, database):
    """Return a function that submits a model and measures it, with records of a stated energy."""

    def measure(model="org/model", energy_wh=10.0, sessions=2, **more):
        accepted = submit(model)
        to_queue(database, accepted.name, ("checked", "queued", "measuring"))
        with database.writing() as session:
            one = tables.by_name(session, accepted.name)
            records = [record_of(model, energy_wh, number, **more) for number in range(sessions)]
            tables.attach(session, one.id, records)
            tables.move(session, one, "measured", "test", "done", **FREE)
        return accepted

    return measure


def hidden(page, name):
    """Return the value of a hidden field of a page's first form that has it."""
    return re.search(rf'name="{name}" value="([^"]*)"', page)[1]


@pytest.fixture
def fields():
    """Return a function that loads a form and gives its hidden fields: what a browser would send along."""

    def read(client, path):
        page = client.get(path).text
        return {name: hidden(page, name) for name in ("csrf", "key") if f'name="{name}"' in page}

    return read


@pytest.fixture
def all_attested():
    return tuple(ATTESTATIONS)
