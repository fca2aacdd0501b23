"""A warm process that forks jobs and kernels, so that none of them pays for imports again.

Each fork is a process of its own: its own session, environment, log and random state; nothing flows back and nothing
is carried over. The forge itself only imports: it holds no thread pool and never touches a GPU, and refuses to serve
if something it imported did.

A connection is a lease. The client asks for one process over a Unix socket; when the process ends, the forge sends
its exit status; when the client goes away first, the forge kills the process and its group. The forge dies with the
runner that started it, and its processes with it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import select
import selectors
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from energylab.studies.forge_client import Order
from energylab.studies.processes import die_with_parent, kill_group

#: What a job or its kernel would otherwise import: papermill with its validators, the kernel, and the heavy libraries.
PRELOAD = (
    "papermill",
    "papermill.execute",
    "nbclient.client",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "torch",
    "transformers",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "pandas",
    "scipy.stats",
    "seaborn",
    "energylab.measuring",
    "energylab.figures",
    "energylab.studies.job",
)

#: Threads that survive a fork by the care of the library that owns them.
_FORK_SAFE_THREADS = ("jemalloc_bg_thd",)

#: As ipykernel sets it in every kernel, before matplotlib is imported.
_BACKEND = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}


def main(arguments: list[str]) -> NoReturn:
    """Serve on the socket named by the first argument until the parent, named by the second, is gone."""
    path, parent = arguments
    die_with_parent(int(parent))
    os.environ.update({name: value for name, value in _BACKEND.items() if name not in os.environ})
    for name in PRELOAD:
        importlib.import_module(name)
    _compile_schema()
    _quiesce()
    trouble = untouched()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    print(json.dumps({"trouble": trouble}), flush=True)  # noqa: T201 - the handshake with the runner
    if trouble:
        sys.exit(1)
    leave(run(Forge(listener).serve()))  # serve returns in a forked process only


def _compile_schema() -> None:
    """Let nbformat compile its validator once, not once a job."""
    import nbformat

    nbformat.validate(nbformat.v4.new_notebook())


def _quiesce() -> None:
    """Fork once for nothing, so that numerical libraries end their idle thread pools; then set garbage aside.

    What was imported is kept from the collector: it would look at all of it in every fork, and so copy it.
    """
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    gc.collect()
    gc.freeze()


def untouched() -> str:
    """Return why this process may not be forked from, or an empty text.

    Returns
    -------
    str
        Names threads that would be lost in the fork, or a GPU that was opened by an import.
    """
    tasks = Path("/proc/self/task").iterdir()
    threads = [(task / "comm").read_text().strip() for task in tasks if int(task.name) != os.getpid()]
    unsafe = sorted(set(threads) - set(_FORK_SAFE_THREADS))
    if unsafe:
        return f"imports left threads running ({', '.join(unsafe)})"
    opened = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    devices = sorted(name for name in opened if name.startswith("/dev/nvidia"))
    return f"imports opened a GPU ({', '.join(devices)})" if devices else ""


class Forge:
    """The serving loop: one thread, no timer, asleep unless asked.

    Parameters
    ----------
    listener : socket.socket
        Bound and listening, of type ``SOCK_SEQPACKET``: a message is whole or not there.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._pid = os.getpid()
        self._listener = listener
        self._events = selectors.DefaultSelector()
        self._events.register(listener, selectors.EVENT_READ, "listener")
        self._children: dict[int, tuple[int, socket.socket]] = {}  # pidfd -> process id, client

    def serve(self) -> Order:
        """Answer until killed; returns in a forked process, with its order."""
        while True:
            for key, _ in self._events.select():
                if key.data == "listener":
                    order = self._accept()
                    if order is not None:
                        return order
                elif key.data == "client" and key.fileobj.fileno() >= 0:
                    self._hang_up(key.fileobj)
                elif key.fd in self._children:
                    self._reap(key.fd)

    def _accept(self) -> Order | None:
        client, _ = self._listener.accept()
        message, descriptors, _, _ = socket.recv_fds(client, 1 << 20, 1)
        if not message:
            client.close()
            return None
        child = os.fork()
        if child == 0:
            self._become(descriptors[0])
            return Order(**json.loads(message))
        os.close(descriptors[0])
        ends = os.pidfd_open(child)
        self._children[ends] = (child, client)
        self._events.register(ends, selectors.EVENT_READ, "child")
        self._events.register(client, selectors.EVENT_READ, "client")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # gone already: its hang-up is the next event
            client.send(json.dumps({"pid": child}).encode())
        return None

    def _become(self, log: int) -> None:
        """Cut every tie of a fresh fork to the forge."""
        os.setsid()
        die_with_parent(self._pid)
        for ends, (_, client) in self._children.items():
            os.close(ends)
            client.detach()
        self._events.close()
        self._listener.close()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(null)
        os.close(log)

    def _hang_up(self, client: Any) -> None:
        """Kill the process of a client that went away; its end is seen by `_reap`."""
        for child, owner in self._children.values():
            if owner is client:
                kill_group(child)
        self._events.unregister(client)

    def _reap(self, ends: int) -> None:
        """Take note of a process that ended, and tell its client once nothing it had leased is left."""
        client, status = self._bury(ends)
        for other in [ends for ends, (_, owner) in self._children.items() if _hung_up(owner)]:
            kill_group(self._children[other][0])
            self._bury(other)[0].close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody is left to be told
            client.send(json.dumps({"status": status}).encode())
        client.close()

    def _bury(self, ends: int) -> tuple[socket.socket, int]:
        """Wait for a process, and end what it started in its own session."""
        child, client = self._children.pop(ends)
        _, status = os.waitpid(child, 0)
        kill_group(child)
        self._events.unregister(ends)
        os.close(ends)
        with contextlib.suppress(KeyError):  # already unregistered by a hang-up
            self._events.unregister(client)
        return client, os.waitstatus_to_exitcode(status)


def _hung_up(client: socket.socket) -> bool:
    """Say whether the other end of a lease is closed; clients send nothing after their order."""
    return bool(select.select([client], [], [], 0)[0])


def run(order: Order) -> int:
    """Take on the order's environment and folder, and do what it says, as a fresh process would."""
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.folder)
    Path("/proc/self/comm").write_text(order.name)
    _reseed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module, _, function = order.target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)(order.arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - the last frame of a process: as the interpreter would, print and fail
        traceback.print_exc()
        return 1


def leave(status: int) -> NoReturn:
    """End a fork as ``multiprocessing`` ends one: exit handlers and buffers, but no teardown of every module.

    Tearing down what was inherited copies its memory page by page first: seconds a process.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _reseed() -> None:
    """Give the fork random states of its own: those of numpy would be the same in every fork."""
    import numpy as np

    random.seed()
    np.random.seed()  # noqa: NPY002 - the legacy global state is what must be renewed


def kernel(arguments: list[str]) -> int:
    """Be an IPython kernel: what ``python -m ipykernel_launcher`` does."""
    from ipykernel.kernelapp import IPKernelApp

    sys.argv = ["ipykernel_launcher", *arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    IPKernelApp.launch_instance(sys.argv[1:])
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
