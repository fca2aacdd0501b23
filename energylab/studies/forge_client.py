"""The runner's and the job's side of the forge: start it, and ask it for processes."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from energylab.errors import StudyError
from energylab.studies.processes import MARKER, kill_group

#: Environment variable that tells a job where its forge listens.
SOCKET = "ENERGYLAB_FORGE"

#: Environment variable that names the run's private folder for sockets; its path is short, as sockets' paths must be.
RUNTIME = "ENERGYLAB_RUNTIME"


@dataclass(frozen=True)
class Order:
    """What a forked process shall do.

    Attributes
    ----------
    target : str
        ``module:function``; called with `arguments`, and its result is the exit status.
    arguments : list of str
    name : str
        What the process is called in ``ps`` and ``top``, at most 15 characters.
    environment : dict
        The whole environment of the process.
    folder : str
        Its working folder.
    """

    target: str
    arguments: list[str]
    name: str
    environment: dict[str, str]
    folder: str


class ForgedProcess:
    """A process that a forge forked for us, used like a ``subprocess.Popen``. It ends when this object is closed.

    Parameters
    ----------
    path : str
        The forge's socket.
    order : Order
        What the process shall do.
    log : int
        Descriptor that its output goes to.

    Raises
    ------
    StudyError
        If the forge does not answer.
    """

    stdin = stdout = stderr = None

    def __init__(self, path: str, order: Order, log: int) -> None:
        self.returncode: int | None = None
        self._lease = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._lease.connect(path)
            socket.send_fds(self._lease, [json.dumps(asdict(order)).encode()], [log])
            self.pid = int(json.loads(self._lease.recv(256))["pid"])
        except (OSError, ValueError) as error:
            self._lease.close()
            raise StudyError(
                f"the warm process at {path} does not answer ({error}); run again, or with --cold"
            ) from error

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the process has ended."""
        return self._lease.fileno()

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the process runs."""
        if self.returncode is None and select.select([self._lease], [], [], 0)[0]:
            self._receive()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the process has ended.

        Raises
        ------
        subprocess.TimeoutExpired
            If it has not within `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._lease], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            self._receive()
        return self.returncode

    def _receive(self) -> None:
        message = self._lease.recv(256)
        # A lease that breaks without a status: the forge was killed, and its processes were with it.
        self.returncode = json.loads(message)["status"] if message else -signal.SIGKILL

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and everything in its session."""
        if self.poll() is None:
            kill_group(self.pid)

    def close(self) -> None:
        """Give up the lease: the process is killed if it still runs."""
        self._lease.close()


class ForgeServer:
    """The forge of one run. Creating it starts nothing.

    Parameters
    ----------
    runtime : path
        Private folder for its socket.
    marker : str
        What its processes are known by, see `energylab.studies.processes`.
    environment : mapping of str to str, optional
        Variables that imports must already see.
    """

    def __init__(self, runtime: Path, marker: str, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})
        self._runtime = runtime
        self._marker = marker
        self._process: subprocess.Popen | None = None
        self._starts = 0
        self.path = ""

    def start(self, order: Order, log: int) -> ForgedProcess:
        """Fork a process; a forge that has died meanwhile is started again, once."""
        try:
            return ForgedProcess(self.ensure(), self._told(order), log)
        except StudyError:
            self.close()
        return ForgedProcess(self.ensure(), self._told(order), log)

    def _told(self, order: Order) -> Order:
        """Return the order with the forge's own address, which the process needs to ask for its kernel."""
        return replace(order, environment={**order.environment, SOCKET: self.path})

    def ensure(self) -> str:
        """Start the forge if it does not run, and return its socket once it is warm.

        Raises
        ------
        StudyError
            If it cannot be forked from on this machine; says why.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        return self.path

    def _start(self) -> None:
        self.close()
        self._starts += 1
        self.path = str(self._runtime / f"forge-{self._starts}")
        messages = self._runtime / f"forge-{self._starts}.log"
        with messages.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "energylab.studies.forge", self.path, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._environment, MARKER: self._marker},
                start_new_session=True,
            )
        answer = self._process.stdout.readline()
        trouble = json.loads(answer)["trouble"] if answer else self._last_words(messages)
        if trouble:
            self.close()
            raise StudyError(f"jobs cannot be forked from a warm process ({trouble.strip()}); run again with --cold")

    def _last_words(self, messages: Path) -> str:
        """Return why a forge ended while it was importing."""
        status = self._process.wait()
        return f"it ended with status {status} {messages.read_text(errors='replace')[-2000:]}"

    def close(self) -> None:
        """End the forge, and with it every process it forked."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
