"""Portal and workers are started by one command each, and say clearly when they cannot."""

from __future__ import annotations

import signal
import socket
import subprocess

import pytest
from typer.testing import CliRunner

from energylab.errors import EnergylabError, PortalError
from energylab_portal import cli, start_workers, worker_processes


class Process:
    """A worker's process that ends when a test says so."""

    def __init__(self, device):
        self.device, self.returncode, self.heard, self.stubborn = device, None, [], False

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        self.heard.append(number)
        if not self.stubborn:
            self.returncode = -number

    def wait(self, timeout=None):
        if self.returncode is None:
            raise subprocess.TimeoutExpired("worker", timeout)
        return self.returncode

    def kill(self):
        self.send_signal(signal.SIGKILL)
        self.returncode = -signal.SIGKILL


class TestCrew:
    def keep(self, devices, events):
        """Keep a crew while `events` happen, one each time it looks; then it is interrupted."""
        started = []

        def start(device):
            started.append(Process(device))
            return started[-1]

        def sleep(_):
            if not events:
                raise KeyboardInterrupt
            events.pop(0)(started)

        worker_processes.keep(devices, start, sleep)
        return started

    def test_one_worker_a_device_and_none_left_behind(self):
        started = self.keep(["0", "1"], [lambda _: None])
        assert [one.device for one in started] == ["0", "1"]
        assert [one.heard for one in started] == [[signal.SIGTERM], [signal.SIGTERM]]

    def test_one_that_dies_is_replaced(self):
        def die(started):
            started[0].returncode = -9

        started = self.keep(["0", "1"], [die, lambda _: None])
        assert [one.device for one in started] == ["0", "1", "0"]

    def test_one_that_does_not_stop_is_killed(self):
        def hang(started):
            started[0].stubborn = True

        started = self.keep(["0"], [hang])
        assert started[0].heard == [signal.SIGTERM, signal.SIGKILL]

    def test_what_it_starts_is_told_its_device_and_no_password(self, monkeypatch):
        seen = []
        monkeypatch.setattr(worker_processes.subprocess, "Popen", lambda command, env: seen.append((command, env)))
        options = start_workers.Options("folder", "postgresql://me:hunter2@host/x", protocol="trial", lease_s=5.0)
        worker_processes.starter(start_workers._command(options), options.database)("1")
        command, told = seen[0]
        assert command[-2:] == ["--devices", "1"]
        assert command[command.index("--protocol") + 1] == "trial"
        assert not any("hunter2" in word for word in command)
        assert "hunter2" in told["ENERGYLAB_DATABASE"]


def test_a_worker_without_a_portal_says_how_to_start_one(tmp_path):
    with pytest.raises(PortalError, match="start one with `energylab-portal serve --folder"):
        start_workers.run(start_workers.Options(tmp_path, devices="cpu", once=True))


def test_once_serves_one_device(tmp_path):
    with pytest.raises(PortalError, match="name it with --devices"):
        start_workers.run(start_workers.Options(tmp_path, devices="0,1", once=True))


@pytest.mark.parametrize("option", [{"protocol": "publishd"}, {"executor": "slrm"}])
def test_unknown_names_are_refused_before_anything_starts(make_portal, option):
    folder = make_portal().settings.folder
    with pytest.raises(EnergylabError, match="did you mean"):
        start_workers.run(start_workers.Options(folder, **{"devices": "cpu", "once": True, **option}))


def test_a_taken_port_is_one_clear_error():
    serve = pytest.importorskip("energylab_portal.serve")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortalError, match="choose another with --port"):
            serve.listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    "command", [["serve"], ["worker"], ["submit", "open"], ["submit", "closed"], ["submit", "status"]]
)
def test_every_option_is_explained(command):
    shown = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert "Usage" in shown.output
