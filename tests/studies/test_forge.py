"""Forked processes are processes of their own: nothing carried over, none lost, none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from energylab.errors import StudyError
from energylab.studies import forge as forging
from energylab.studies.forge_client import ForgedProcess, ForgeServer, Order
from energylab.studies.processes import MARKER, kill_marked, marked, private_folder

TESTS = Path(__file__).resolve().parents[1]

CHILD = """
import json, os, random, sys
import numpy as np

left = []

def report(arguments):
    print(json.dumps({
        "pid": os.getpid(), "session": os.getsid(0), "folder": os.getcwd(), "environment": dict(os.environ),
        "random": random.random(), "numpy": float(np.random.rand()), "left": list(left), "arguments": arguments,
        "descriptors": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task")),
    }))
    left.append("something")
    return 7

def sleep(arguments):
    import subprocess, time
    if arguments:
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
    time.sleep(600)

def lease(arguments):
    import time
    from energylab.studies.forge_client import ForgedProcess, Order
    kernel = ForgedProcess(os.environ["FORGE"], Order("child:sleep", [], "test-kernel", {}, os.getcwd()), 1)
    print(kernel.pid, flush=True)
    time.sleep(600)

def fail(arguments):
    raise ValueError("as asked")

def leave(arguments):
    sys.exit(3)

def die(arguments):
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def forge(tmp_path_factory):
    """A warm process that finds `CHILD`."""
    folder = tmp_path_factory.mktemp("forge")
    (folder / "child.py").write_text(CHILD)
    server = ForgeServer(folder, marker=str(folder), environment={"PYTHONPATH": f"{TESTS.parent}:{TESTS}:{folder}"})
    yield server
    server.close()


@pytest.fixture
def fork(forge, tmp_path):
    """Return a function that forks a process that calls a function of `CHILD`, with its output file."""

    def start(function: str, *arguments: str, **environment: str) -> tuple[ForgedProcess, Path]:
        log = tmp_path / f"{function}-{time.monotonic_ns()}.log"
        shown = {"PATH": os.environ["PATH"], **environment}
        order = Order(f"child:{function}", list(arguments), "test-child", shown, str(tmp_path))
        with log.open("wb") as file:
            return ForgedProcess(forge.ensure(), order, file.fileno()), log

    return start


def told(log):
    return json.loads(log.read_text().splitlines()[-1])


def test_a_fork_has_its_own_session_environment_folder_and_status(fork, tmp_path):
    process, log = fork("report", "one", "two", COLOUR="blue")
    assert process.wait(30) == 7
    said = told(log)
    assert said["pid"] == said["session"] == process.pid
    assert said["environment"] == {"PATH": os.environ["PATH"], "COLOUR": "blue"}
    assert said["folder"] == str(tmp_path)
    assert said["arguments"] == ["one", "two"]
    assert said["descriptors"] <= 4  # 0, 1, 2 and the one that lists them
    assert said["threads"] <= 2


def test_nothing_is_carried_over_and_random_states_differ(fork):
    saids = []
    for _ in range(3):
        process, log = fork("report")
        process.wait(30)
        saids.append(told(log))
    assert [said["left"] for said in saids] == [[], [], []]
    assert len({said["random"] for said in saids}) == 3
    assert len({said["numpy"] for said in saids}) == 3


@pytest.mark.parametrize(("function", "status"), [("fail", 1), ("leave", 3), ("die", -signal.SIGKILL)])
def test_how_it_ended_is_known(fork, function, status):
    process, log = fork(function)
    assert process.wait(30) == status
    assert process.poll() == status
    assert ("ValueError: as asked" in log.read_text()) == (function == "fail")


def test_a_client_that_goes_away_takes_its_process_and_children_along(fork):
    process, log = fork("sleep", "with a child")
    wait_for(lambda: log.read_text().strip())
    child = int(log.read_text())
    process.close()
    wait_for(lambda: not alive(process.pid) and not alive(child))


def test_an_end_is_told_only_when_nothing_it_had_leased_is_left(fork, forge):
    """A job that is killed must not leave its kernel on the device that the next job is given."""
    job, log = fork("lease", FORGE=forge.ensure())
    wait_for(lambda: log.read_text().strip())
    kernel = int(log.read_text())
    assert alive(kernel)
    os.kill(job.pid, signal.SIGKILL)
    assert job.wait(30) == -signal.SIGKILL
    assert not alive(kernel)


def test_a_forge_that_is_killed_takes_its_forks_along_and_is_started_again(fork, forge, tmp_path):
    order = Order("child:sleep", [], "test-child", {}, str(tmp_path))
    first, _ = fork("sleep")
    os.kill(forge._process.pid, signal.SIGKILL)
    assert first.wait(60) == -signal.SIGKILL
    wait_for(lambda: not alive(first.pid))
    with (tmp_path / "log").open("wb") as log:
        second = forge.start(order, log.fileno())
    assert alive(second.pid)
    forge.close()
    wait_for(lambda: not alive(second.pid))


def test_imports_that_leave_a_thread_are_refused(monkeypatch):
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    script = f"{code}\nfrom energylab.studies.forge import untouched\nprint(untouched())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "imports left threads running" in done.stdout


def test_a_quiet_process_may_be_forked():
    script = "from energylab.studies.forge import untouched\nprint(repr(untouched()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "''"


def test_an_opened_gpu_is_refused(tmp_path, monkeypatch):
    (tmp_path / "3").symlink_to("/dev/nvidiactl")
    original = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: original(tmp_path if str(self) == "/proc/self/fd" else self))
    monkeypatch.setattr(forging, "_FORK_SAFE_THREADS", AnyThread())
    assert "imports opened a GPU (/dev/nvidiactl)" in forging.untouched()


class AnyThread:
    """Every thread of the test's own process is let pass."""

    def __iter__(self):
        return iter({(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()})


def test_a_forge_that_cannot_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StudyError, match="run again with --cold"):
        ForgeServer(tmp_path, marker="x").ensure()


@pytest.mark.slow
def test_two_hundred_kernels_start_in_parallel_and_none_is_lost(forge, tmp_path):
    """Each is asked for its process id over its own sockets: no two share one, none fails."""
    (tmp_path / "ask.py").write_text(ASK)
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "ENERGYLAB_FORGE": forge.ensure()}

    def start(number: int) -> subprocess.CompletedProcess:
        command = [sys.executable, str(tmp_path / "ask.py"), "8"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)

    with ThreadPoolExecutor(25) as pool:
        done = list(pool.map(start, range(25)))
    failures = [run.stderr for run in done if run.returncode]
    assert failures == []
    pids = [line for run in done for line in run.stdout.split()]
    assert len(pids) == len(set(pids)) == 200


ASK = """
import asyncio, sys
from energylab.studies.kernels import manager

async def ask():
    with manager("python3") as kernels:
        await kernels.start_kernel()
        client = kernels.client()
        client.start_channels()
        await client.wait_for_ready(timeout=400)
        said = []
        hook = lambda message: said.append(message["content"].get("text", ""))
        await client._async_execute_interactive("import os; print(os.getpid())", output_hook=hook, timeout=400)
        client.stop_channels()
        print("".join(said).strip(), flush=True)
        kernels.provisioner.process.kill()

async def all_at_once():
    await asyncio.gather(*(ask() for _ in range(int(sys.argv[1]))))

asyncio.run(all_at_once())
"""


def test_marked_processes_are_found_and_ended_and_others_spared(tmp_path):
    def start(folder):
        environment = {**os.environ, MARKER: str(folder)}
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)

    one, two, other = start(tmp_path / "s/j1/attempt-0"), start(tmp_path / "s/j2/attempt-0"), start(tmp_path / "s2")
    try:
        wait_for(lambda: set(marked(tmp_path)) == {one.pid, two.pid, other.pid})
        kill_marked(tmp_path / "s", spare=[tmp_path / "s/j2"])
        assert one.wait(10) == -signal.SIGKILL
        assert set(marked(tmp_path)) == {two.pid, other.pid}
    finally:
        for process in (one, two, other):
            process.kill()
            process.wait()


def test_a_private_folder_is_short_private_and_empty(tmp_path):
    study = tmp_path / ("deep/" * 30)
    folder = private_folder(study)
    (folder / "left").touch()
    again = private_folder(study)
    assert again == folder
    assert list(again.iterdir()) == []
    assert len(str(again)) < 60
    assert again.stat().st_mode & 0o077 == 0
    again.rmdir()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
