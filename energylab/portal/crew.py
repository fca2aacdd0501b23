"""Workers of one machine: one process a device, kept alive."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from energylab.portal.settings import DATABASE

_LOG = logging.getLogger("energylab.portal")

#: How long a worker may take to cancel its study when it is told to stop, in seconds.
PATIENCE_S = 30.0

#: A worker that ends sooner than this has a trouble that another start will not cure: starts are spaced out.
LEAST_LIFE_S = 5.0


def keep(command: Sequence[str], devices: Sequence[str], database: str = "") -> None:
    """Run ``energylab worker … --devices DEVICE`` for every device until interrupted, and restart those that die.

    Parameters
    ----------
    command : sequence of str
        The worker's options without its device.
    devices : sequence of str
    database : str
        URL of the database where it is not in the folder; told by the environment, since it may hold a password.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    crew = {device: _start(command, device, database) for device in devices}
    try:
        while True:
            time.sleep(LEAST_LIFE_S)
            for device, worker in crew.items():
                if worker.poll() is not None:
                    _LOG.warning("the worker on %s ended with status %d; starting another", device, worker.returncode)
                    crew[device] = _start(command, device, database)
    except KeyboardInterrupt:
        for worker in crew.values():
            worker.terminate()
        for worker in crew.values():
            worker.wait(timeout=PATIENCE_S)


def _start(command: Sequence[str], device: str, database: str) -> subprocess.Popen:
    told = {DATABASE: database} if database else {}
    arguments = [sys.executable, "-m", "energylab.cli", "worker", *command, "--devices", device]
    return subprocess.Popen(arguments, env={**os.environ, **told})
