"""A portal and workers in processes of their own, as people run them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import select

from energylab_portal.tables import Submission

ROOT = Path(__file__).parents[2]


def environment(**more):
    """Return variables for a child that finds this repository's package and nothing of a hub but what is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    path = f"{ROOT}:{kept.get('PYTHONPATH', '')}"
    return {**kept, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1", **more}


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class RunningPortal:
    """``energylab-portal serve`` on a port of its own."""

    def __init__(self, folder, *options):
        self.folder, self.port, self.options = Path(folder), free_port(), options
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.folder.with_name(f"{self.folder.name}.log")
        self.start()

    def start(self):
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "energylab_portal.cli", "serve", "--folder", str(self.folder)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *self.options], stdout=log, stderr=log, env=environment(), cwd=ROOT
            )
        while self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise AssertionError(f"the portal did not start:\n{self.log.read_text()}")

    @property
    def token(self):
        """The operator's token, as it was printed."""
        return re.search(r"^operator +(\S+)$", self.log.read_text(), re.MULTILINE)[1]

    def kill(self):
        """End it as a power failure would."""
        end(self.process)


def start_worker(folder, *options, **told):
    """Start ``energylab-portal worker`` on the CPU."""
    command = [sys.executable, "-m", "energylab_portal.cli", "worker", "--folder", str(folder), "--devices", "cpu"]
    with Path(folder).with_name("worker.log").open("ab") as log:
        return subprocess.Popen([*command, *options], stdout=log, stderr=log, env=environment(**told), cwd=ROOT)


def end(process):
    """Kill a process and wait for it."""
    process.kill()
    return process.wait()


def expire(database, pid):
    """Let the leases of a dead worker run out now; return how many it held."""
    with database.writing() as session:
        held = list(session.scalars(select(Submission).where(Submission.worker.like(f"%/{pid} on %"))))
        for submission in held:
            submission.lease_until_s = 0.0
    return len(held)
