"""A server is its processes: found by the port, their processor time counted, another machine refused."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from energylab.errors import DeviceLostError, MeterError, ModelError, ParameterError
from energylab.meters.estimate import EstimateMeter
from energylab.serving.processes import ServerProcesses, address, listeners

#: Listens, says on which port, and burns a core in a child until it is told to stop.
SERVER = """
import multiprocessing, socket, sys, time
def burn():
    while True: sum(range(100000)); time.sleep(0.002)
if __name__ == "__main__":
    s = socket.create_server(("127.0.0.1", 0))
    child = multiprocessing.Process(target=burn, daemon=True); child.start()
    print(s.getsockname()[1], child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port, child = process.stdout.readline().split()
    yield process, f"http://127.0.0.1:{port}/v1", int(child)
    for pid in (int(child), process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_the_server_is_who_listens_with_its_children(server):
    process, endpoint, child = server
    processes = ServerProcesses(endpoint)
    assert processes.find() == (process.pid,)
    assert processes.tree() == {process.pid, child}
    assert processes.cpus() == set(psutil.Process(process.pid).cpu_affinity())
    assert "server.py" in processes.command()


def _seconds(pid):
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def test_the_estimate_counts_the_server(server):
    process, endpoint, child = server
    with EstimateMeter(10.0, 0.0, server=ServerProcesses(endpoint)) as meter:
        meter.counters()
        outer, before, inner = _seconds(child), meter.read(), _seconds(child)
        time.sleep(0.5)  # this process rests
        inner, after, outer = _seconds(child) - inner, meter.read(), _seconds(child) - outer
    assert 10.0 * inner - 0.5 <= after.energy_j - before.energy_j <= 10.0 * outer + 0.5
    assert "of the server's processes" in meter.source


def test_a_server_that_ended_is_a_lost_device(server):
    process, endpoint, _ = server
    processes = ServerProcesses(endpoint)
    seconds = processes.cpu_s()
    process.kill()
    process.wait()
    with pytest.raises(DeviceLostError, match="has ended"):
        processes.cpu_s()
    assert seconds >= 0
    assert issubclass(DeviceLostError, MeterError)


def test_a_process_can_be_named(server):
    process, _, child = server
    named = ServerProcesses("http://127.0.0.1:1/v1", pid=child)
    assert named.tree() == {child}


def test_what_is_not_a_server_here_is_refused():
    for endpoint, error, message in (
        ("http://127.0.0.1:9/v1", ModelError, "no server listens.*vllm serve"),
        ("http://192.0.2.1:8000/v1", ParameterError, "on another machine"),
        ("http://no-such-host.invalid/v1", ParameterError, "unknown host"),
        ("127.0.0.1:8000", ParameterError, "write it as http"),
        ("http://127.0.0.1:80000/v1", ParameterError, "out of range"),
    ):
        with pytest.raises(error, match=message):
            listeners(endpoint)
    assert address("http://localhost/v1") == ("localhost", 80)


def test_who_only_passes_requests_on_is_refused(server, monkeypatch):
    process, endpoint, _ = server
    monkeypatch.setattr("energylab.serving.processes.PROXIES", (psutil.Process(process.pid).name(),))
    with pytest.raises(ModelError, match="but only forwards requests.*server_pid"):
        listeners(endpoint)
