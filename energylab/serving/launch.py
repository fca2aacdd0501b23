"""Start ``transformers serve`` on a folder of a model, for tests, notebooks and sweeps over concurrency."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx

from energylab.errors import MissingExtraError, ModelError

#: What ``transformers serve`` imports beside transformers.
NEEDED = ("fastapi", "uvicorn", "openai")


@contextlib.contextmanager
def transformers_serve(model: str | Path, *options: str, start_s: float = 120.0) -> Iterator[str]:
    """Serve a model on a free port of the loopback for the length of a ``with`` block.

    Parameters
    ----------
    model : path or str
        Folder or hub id.
    *options : str
        Further options of ``transformers serve``: ``--continuous-batching``, ``--dtype``, ``bfloat16`` …
    start_s : float
        How long to wait for it.

    Yields
    ------
    str
        The endpoint, ``http://127.0.0.1:PORT/v1``.

    Raises
    ------
    MissingExtraError
        If the libraries it needs are not installed.
    ModelError
        If it does not come up; with the end of what it said.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"`transformers serve` needs {', '.join(missing)}: pip install 'energylab[serving]'")
    port = free_port()
    # its own console script may not be on the path of a notebook's kernel
    program = "import sys; sys.argv[0] = 'transformers'; from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", program, "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*command, *options], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ, **OFFLINE}
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, said, start_s)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


#: A server of local weights asks no hub.
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(address: str, process: subprocess.Popen, said: IO[bytes], start_s: float) -> None:
    deadline = time.monotonic() + start_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ModelError(f"`transformers serve` ended with status {process.returncode}: {_end_of(said)}")
        with contextlib.suppress(httpx.HTTPError):  # not up yet
            if httpx.get(address, timeout=2.0, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    raise ModelError(f"`transformers serve` did not answer within {start_s:g} s: {_end_of(said)}")


def _end_of(said: IO[bytes]) -> str:
    said.seek(0)
    return "\n".join(said.read().decode(errors="replace").splitlines()[-12:])
