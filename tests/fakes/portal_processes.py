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

from sqlalchemy import update

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


def run(command, folder, *options, **told):
    """Start a command of ``energylab-portal`` on a portal's folder; its output goes to a file beside that."""
    typed = [sys.executable, "-m", "energylab_portal.cli", command, "--folder", str(folder), *options]
    with folder.with_name(f"{command}.log").open("ab") as log:
        return subprocess.Popen(typed, stdout=log, stderr=log, env=environment(**told), cwd=ROOT)


def start_worker(folder, *options, **told):
    """Start ``energylab-portal worker`` on the CPU."""
    return run("worker", folder, "--devices", "cpu", *options, **told)


class RunningPortal:
    """``energylab-portal serve`` on a port of its own."""

    def __init__(self, folder, *options):
        self.folder, self.port, self.options = Path(folder), free_port(), options
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.folder.with_name("serve.log")
        self.start()

    def start(self):
        """Start it, and wait until it answers."""
        self.process = run("serve", self.folder, "--port", str(self.port), *self.options)
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


def end(process):
    """Kill a process and wait for it."""
    process.kill()
    return process.wait()


def expire(database, pid):
    """Let the leases of a dead worker run out now; return how many it held."""
    held = Submission.worker.like(f"%/{pid} on %")
    with database.writing() as session:
        return session.execute(update(Submission).where(held).values(lease_until_s=0.0)).rowcount
