"""The processes of a server, found by its port, and their processor time; starting a server for a ``with`` block."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import psutil

from energylab.clock import processor_s
from energylab.errors import DeviceLostError, MissingExtraError, ModelError, ParameterError

#: Programs that only forward requests to a server: their processor time is not the model's.
PROXIES = ("docker-proxy", "rootlessport", "slirp4netns", "pasta", "pasta.avx2", "ssh", "sshd", "nginx", "haproxy")

#: Packages that ``transformers serve`` needs besides transformers.
NEEDED = ("fastapi", "uvicorn", "openai")


class ServerProcesses:
    """The processes of one server and their processor time. Creating the object does not look for them.

    The server is the process that listens on the endpoint's port, or the given process, with all descendants, since
    servers compute in child processes.
    """

    def __init__(self, endpoint: str, pid: int | None = None) -> None:
        self.endpoint = endpoint
        self.roots: tuple[int, ...] = () if pid is None else (pid,)
        self._used_s: dict[int, float] = {}  # processor time since this process was first seen
        self._first_s: dict[int, float] = {}
        self._gone: set[int] = set()

    def find(self) -> tuple[int, ...]:
        """Return the ids of the server's first processes; they are searched for once, see `listeners`."""
        if not self.roots:
            self.roots = listeners(self.endpoint)
        return self.roots

    def tree(self) -> set[int]:
        found = set()
        for root in self.find():
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {root, *(child.pid for child in psutil.Process(root).children(recursive=True))}
        if not found:
            raise self._lost()
        return found

    def refresh(self) -> None:
        """Find processes that the server has started; their time counts from now on."""
        for pid in self.tree() - self._first_s.keys():
            now_s = processor_s(pid)
            if now_s is not None:
                self._first_s[pid], self._used_s[pid] = now_s, 0.0

    def cpu_s(self) -> float:
        """Return the processor time of the server since the first call, in seconds; it never decreases."""
        if not self._first_s:
            self.refresh()
        for pid in self._first_s.keys() - self._gone:
            now_s = processor_s(pid)
            if now_s is None:
                self._gone.add(pid)
            else:
                self._used_s[pid] = now_s - self._first_s[pid]
        if self._gone.issuperset(self.roots):
            raise self._lost()
        return sum(self._used_s.values())

    def cpus(self) -> set[int]:
        """Return the hardware threads that the server's first processes may use."""
        try:
            return {cpu for root in self.find() for cpu in psutil.Process(root).cpu_affinity()}
        except psutil.NoSuchProcess:
            raise self._lost() from None

    def command(self) -> str:
        """Return the first process's command line in lower case."""
        try:
            return " ".join(psutil.Process(self.find()[0]).cmdline()).lower()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return ""

    def _lost(self) -> DeviceLostError:
        return DeviceLostError(
            f"the server behind {self.endpoint} has ended (process {', '.join(map(str, self.roots))}); start it again"
        )


def address(endpoint: str) -> tuple[str, int]:
    """Return host and port of an endpoint, which must be an ``http`` address."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParameterError(f"endpoint={endpoint!r} is not an address; write it as http://127.0.0.1:8000/v1")
    try:
        return parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    except ValueError as error:
        raise ParameterError(f"endpoint={endpoint!r}: {error}") from None


def listeners(endpoint: str) -> tuple[int, ...]:
    """Return the first processes that listen on an endpoint's port; a ModelError if they only forward requests."""
    host, port = address(endpoint)
    wanted = {*_addresses_here(endpoint, host), "0.0.0.0", "::"}
    heard = [one for one in psutil.net_connections(kind="tcp") if _listens(one, port) and one.laddr.ip in wanted]
    if not heard:
        raise ModelError(
            f"no server listens at {endpoint}; start it first (`vllm serve MODEL`, `llama-server -m FILE`, "
            "`transformers serve MODEL` …), or correct endpoint="
        )
    pids = sorted({_eldest(one.pid, port) for one in heard if one.pid is not None})
    if not pids:
        raise ModelError(
            f"this user may not see the process behind {endpoint}, so its energy cannot be distinguished from others'; "
            "run as the user who started the server, or give its process id as server_pid="
        )
    passing = [f"{name} ({pid})" for pid in pids if (name := psutil.Process(pid).name()) in PROXIES]
    if passing:
        raise ModelError(
            f"{', '.join(passing)} listens at {endpoint}, but only forwards requests; give the process id of the "
            "server as server_pid= (in a container: `docker inspect -f '{{.State.Pid}}' NAME`)"
        )
    return tuple(pids)


def _listens(connection: Any, port: int) -> bool:
    return connection.status == psutil.CONN_LISTEN and connection.laddr.port == port


def _eldest(pid: int, port: int) -> int:
    """Return the first process that holds the listening socket, since children inherit it."""
    process = psutil.Process(pid)
    with contextlib.suppress(psutil.AccessDenied, psutil.NoSuchProcess):  # another user's: not the server
        while (parent := process.parent()) is not None:
            if not any(_listens(one, port) for one in parent.net_connections("tcp")):
                break
            process = parent
    return process.pid


def _addresses_here(endpoint: str, host: str) -> set[str]:
    """Return the addresses of a host name; refuse those of another machine."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ParameterError(f"endpoint={endpoint!r}: unknown host {host!r}: {error.strerror}") from None
    own = {one.address.partition("%")[0] for several in psutil.net_if_addrs().values() for one in several}
    foreign = sorted(ip for ip in found if ip not in own and not ipaddress.ip_address(ip).is_loopback)
    if foreign:
        raise ParameterError(
            f"endpoint={endpoint!r} is on another machine ({', '.join(foreign)}), whose energy cannot be measured "
            "here; run energylab on the machine of the server"
        )
    return found


@contextlib.contextmanager
def transformers_serve(model: str | Path, *options: str, start_s: float = 120.0) -> Iterator[str]:
    """Serve a model on a free local port inside a ``with`` block.

    Parameters
    ----------
    model : path or str
        Folder or hub id.
    *options : str
        Further options of ``transformers serve``: ``--continuous-batching``, ``--dtype``, ``bfloat16`` …
    start_s : float
        Longest wait for the server, in seconds.

    Yields
    ------
    str
        The endpoint, ``http://127.0.0.1:PORT/v1``.

    Raises
    ------
    MissingExtraError
        If the libraries it needs are not installed.
    ModelError
        If it does not come up; with the end of its output.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"`transformers serve` needs {', '.join(missing)}: pip install 'energylab[serving]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # one that nobody listens on now
    # its own console script may not be on the path of a notebook's kernel
    program = "import sys; sys.argv[0] = 'transformers'; from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", program, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), *options]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}  # a server of local weights asks no hub
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=offline)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, output, start_s)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(address: str, process: subprocess.Popen, output: IO[bytes], start_s: float) -> None:
    import httpx

    deadline, reason = time.monotonic() + start_s, f"did not answer within {start_s:g} s"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            reason = f"ended with status {process.returncode}"
            break
        with contextlib.suppress(httpx.HTTPError):  # not up yet
            if httpx.get(address, timeout=2.0, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    output.seek(0)
    last = "\n".join(output.read().decode(errors="replace").splitlines()[-12:])
    raise ModelError(f"`transformers serve` {reason}: {last}")
