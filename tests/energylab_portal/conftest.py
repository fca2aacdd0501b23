"""A portal in a folder of its own, with a clock that tests move, and clients that browse it as people do."""

from __future__ import annotations

import io
import json
import re
import secrets
from contextlib import ExitStack, contextmanager

import pytest
from release_builders import record_of
from stand_in_hub import StandInHub

pytest.importorskip("fastapi", reason="the portal's libraries are not installed: pip install energylab-portal")

from starlette.testclient import TestClient

from energylab.tasks.architectures import find_architecture
from energylab.tasks.tokenizers import local_tokenizer
from energylab_portal import publication, review, tables
from energylab_portal.database import Database
from energylab_portal.leases import FREE, Leases
from energylab_portal.sealed.statement import ATTESTATIONS
from energylab_portal.settings import Limits, Settings, Vault
from energylab_portal.submissions import ClosedSubmission, OpenSubmission
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
def operator(browse, portal, fields):
    """A browser whose user has entered the operator's token."""
    client = browse()
    client.post("/operator/login", data={**fields(client, "/operator/login"), "token": portal.token})
    return client


@pytest.fixture
def submit(portal):
    """Return a function that submits an open model and gives what was accepted."""

    def submit(model="org/model", tasks=("text_generation",), key="", client="", by=portal):
        asked = OpenSubmission(model=model, tasks=tasks, contact="someone@example.org")
        return by.queue.take_open(asked, key or secrets.token_urlsafe(20), client)

    return submit


@pytest.fixture
def send(portal):
    """Return a function that submits the bundle of a closed model and gives what was accepted."""

    def send(bundle=b"a bundle", key="", attested=tuple(ATTESTATIONS)):
        asked = ClosedSubmission(contact="someone@example.org", attested=attested)
        return portal.queue.take_closed(asked, key or secrets.token_urlsafe(20), io.BytesIO(bundle))

    return send


@pytest.fixture
def queued(submit, database):
    """Return a function that queues a submission and gives its name."""

    def queued(model="org/model"):
        name = submit(model).name
        with database.writing() as session:
            for state in ("checked", "queued"):
                tables.move(session, tables.by_name(session, name), state, "test", "on its way")
        return name

    return queued


@pytest.fixture
def measured(submit, database):
    """Return a function that submits a model and measures it twice, with records of a stated energy."""

    def measured(model="org/model", energy_wh=10.0, **more):
        accepted = submit(model)
        with database.writing() as session:
            one = tables.by_name(session, accepted.name)
            for state in ("checked", "queued", "measuring"):
                tables.move(session, one, state, "test", "on its way")
            tables.attach(session, one.id, [record_of(model, energy_wh, number, **more) for number in range(2)])
            tables.move(session, one, "measured", "test", "done", **FREE)
        return accepted

    return measured


@pytest.fixture
def reviewed(measured, database):
    """Return a function that measures a model and approves it."""

    def reviewed(*model, **more):
        accepted = measured(*model, **more)
        review.act(database, accepted.name, "review")
        return accepted

    return reviewed


@pytest.fixture
def publish(portal):
    """Return a function that publishes what is reviewed."""
    return lambda name="r", date="2026-03-05": publication.publish(portal.database, portal.settings, name, date)


@pytest.fixture
def now(database):
    """Return a function that gives a submission as it is, its records and its log."""

    def now(name):
        with database.reading() as session:
            one = tables.by_name(session, name)
            return one, tables.records_of(session, one.id), tables.history(session, one.id)

    return now


@pytest.fixture
def fields():
    """Return a function that loads a form and gives its hidden fields: what a browser would send along."""
    return lambda client, path: dict(re.findall(r'name="(csrf|key)" value="([^"]*)"', client.get(path).text))


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """A hub with a small language model, and with others that must not be measured."""
    import torch
    import transformers

    folder, stand_in = tmp_path_factory.mktemp("model"), StandInHub()
    torch.manual_seed(1)
    config = find_architecture("tiny-gpt2").build_config()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    local_tokenizer(config, "gpt").save_pretrained(folder)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}

    def configured(**changes):
        return {**files, "config.json": json.dumps(json.loads(files["config.json"]) | changes).encode()}

    code = b"import pathlib\npathlib.Path('/tmp/energylab-was-here').touch()\nclass Config: pass\n"
    own = {**configured(model_type="own", auto_map={"AutoConfig": "own.Config"}), "own.py": code}
    pickled = {**own, "pytorch_model.bin": b"never read"}
    del pickled["model.safetensors"]
    for name, held in {
        "tiny": files,
        "own-code": own,
        "own-code-pickled": pickled,
        "picture": {"config.json": b'{"model_type": "vit"}', "model.safetensors": b""},
        "nested": {**files, "config.json": b'{"model_type":' + b"[" * 50_000 + b"]" * 50_000 + b"}"},
        "huge": configured(n_layer=96, n_embd=12288, n_head=96, n_inner=4 * 12288),
    }.items():
        stand_in.add("model", f"someone/{name}").commit(held)
    stand_in.add("model", "someone/gated", gated=True).commit(files)
    yield stand_in
    stand_in.close()
