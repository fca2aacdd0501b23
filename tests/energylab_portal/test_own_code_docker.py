"""A model that brings its own code, from a stand-in hub to the leaderboard: run in a real container and nowhere else.

Skipped by name where no Docker daemon answers; ``docker/setup.sh --daemon`` starts one.
"""

from __future__ import annotations

import html
import json
import urllib.request

import own_code_model
import pytest
import yaml
from portal_processes import ROOT, RunningPortal, start_worker
from sealed_runner import RUNNER, build
from stand_in_hub import StandInHub

from energylab.record import Record
from energylab_portal import log
from energylab_portal.client import Client
from energylab_portal.database import Database
from energylab_portal.sealed import docker
from energylab_portal.submissions import records_of

pytest.importorskip("fastapi", reason="the portal's libraries are not installed: pip install energylab-portal")

MODEL = "someone/own-code"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(docker.why_not() is not None, reason=f"no sealed runs here: {docker.why_not()}"),
]


@pytest.fixture(scope="module")
def runner():
    return build()


@pytest.fixture
def hub():
    stand_in = StandInHub()
    rows = "".join(json.dumps({"text": f"A sentence to go on with, number {number}"}) + "\n" for number in range(8))
    published = {"README.md": b"# data\n", "train.jsonl": rows.encode()}
    stand_in.add("dataset", "EnergyStarAI/text_generation").commit(published)
    yield stand_in
    stand_in.close()


@pytest.fixture
def portal(tmp_path):
    running = RunningPortal(tmp_path / "portal")
    yield running
    running.kill()


@pytest.fixture
def work(portal, hub, tmp_path):
    """Return a function that lets a worker do all that is left to do, with an image for the container."""

    def work(image):
        protocol = yaml.safe_load((ROOT / "params/portal/trial.yaml").read_text())
        protocol["parameters"]["data_source"] = "hub"
        protocol["sealed"] = {"image": image, "memory_mb": 2048, "step_limit_s": 120}
        (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(protocol))
        (tmp_path / "cache").mkdir(exist_ok=True)
        (tmp_path / "cache/token").write_text("hf_" + "a" * 34)
        told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
        worker = start_worker(portal.folder, "--protocol", str(tmp_path / "protocol.yaml"), "--once", **told)
        assert worker.wait(timeout=180) == 0
        return (tmp_path / "worker.log").read_text()

    return work


def ask(portal, path, body=None):
    """Ask as the operator."""
    headers = {"Authorization": f"Bearer {portal.token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(portal.url + path, data, headers), timeout=60) as answer:
        return answer.read().decode()


def test_own_code_runs_in_the_container_and_nowhere_else(runner, portal, hub, work, tmp_path):
    mark = tmp_path / "own-code-ran"
    (tmp_path / "made").mkdir()
    files = own_code_model.files(tmp_path / "made", str(mark), hub.server.server_port)
    commit = hub.add("model", MODEL).commit(files)
    name = Client(portal.url).submit_open(MODEL, ["text_generation"], "someone@example.org", None)["submission"]
    place = f"/api/v1/operator/submissions/{name}"

    work(RUNNER)
    told = json.loads(ask(portal, place))
    assert told["state"] == "rejected"
    assert "ask the operator" in told["reason"]

    ask(portal, f"{place}/allow-code", {})
    ask(portal, f"{place}/retry", {})
    said = work("no-such-image")
    told = json.loads(ask(portal, place))
    assert told["state"] == "queued"
    lacking = "no image 'no-such-image' here; docker/setup.sh builds it"
    assert lacking in said
    assert lacking in told["history"][-1]["words"]
    assert lacking in html.unescape(ask(portal, f"/operator/submissions/{name}"))

    work(RUNNER)
    told = json.loads(ask(portal, place))
    assert told["state"] == "measured", told
    for record in records(portal, name):
        assert (record.model.name, record.model.source, record.model.commit) == (MODEL, "hub", commit)
        assert record.model.trust_remote_code
        assert record.model.architecture == "OwnModel"
        assert record.host.container
        assert (record.data.source, record.data.queries) == ("hub", 4)
        assert record.extra["sealed"]["seal"]["network"] == "none"
        assert record.extra["sealed"]["image"] == docker.inspect("image", RUNNER)["Id"]
        assert list(record.extra["sealed"]["weight_files"]) == ["pytorch_model.bin"]
        assert record.parameters["model"] == MODEL
        assert all(window.energy_j > 0 for window in record.windows)
    assert not mark.exists()
    assert not [path for _, path, _ in hub.requests if path == "ran"]
    model = portal.folder / "work" / name / "model"
    assert docker.call(["ps", "--all", "--quiet", "--filter", f"volume={model}"]) == ""
    kept = [path.name for path in (portal.folder / "work").rglob("*") if path.is_file()]
    assert "own.py" not in kept  # taken away when it was measured
    assert "token" not in kept

    ask(portal, f"{place}/review", {})
    ask(portal, "/api/v1/operator/releases", {"name": "r", "date": "2026-03-05"})
    assert MODEL in ask(portal, "/leaderboard/")


def records(portal, name):
    """Return the whole records of a submission."""
    database = Database(f"sqlite:///{portal.folder / 'portal.db'}").open()
    with database.reading() as session:
        found = [Record.model_validate_json(one.text) for one in records_of(session, log.by_name(session, name).id)]
    database.close()
    assert len(found) == 2
    return found
