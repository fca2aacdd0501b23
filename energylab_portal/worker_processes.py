"""Workers of one machine: one process a device, kept alive."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from energylab_portal.settings import DATABASE

_LOG = logging.getLogger("energylab_portal")

#: How long a worker may take to cancel its study when it is told to stop, in seconds.
PATIENCE_S = 30.0

#: How often workers are looked after; one that cannot live is started no more often than this.
LOOK_S = 5.0


def keep(
    devices: Sequence[str], start: Callable[[str], subprocess.Popen], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Run a worker for every device until interrupted; restart those that die, and leave none behind.

    Parameters
    ----------
    devices : sequence of str
    start : callable
        Takes a device, returns its worker's process.
    sleep : callable
        Waits so many seconds.
    """
    crew = {device: start(device) for device in devices}
    try:
        while True:
            sleep(LOOK_S)
            for device, worker in crew.items():
                if worker.poll() is not None:
                    _LOG.warning("the worker on %s ended with status %s; starting another", device, worker.returncode)
                    crew[device] = start(device)
    except KeyboardInterrupt:
        _dismiss(list(crew.values()))


def _dismiss(workers: Sequence[subprocess.Popen]) -> None:
    """Ask all to stop, so that their submissions go back to the queue; kill those that do not."""
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        try:
            worker.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def starter(command: Sequence[str], database: str) -> Callable[[str], subprocess.Popen]:
    """Return what starts ``energylab-portal worker … --devices DEVICE``.

    Parameters
    ----------
    command : sequence of str
        The worker's options without its device.
    database : str
        URL of the database where it is not in the folder; told by the environment, since it may hold a password.
    """
    told = {**os.environ, **({DATABASE: database} if database else {})}
    arguments = [sys.executable, "-m", "energylab_portal.cli", "worker", *command, "--devices"]
    return lambda device: subprocess.Popen([*arguments, device], env=told)
