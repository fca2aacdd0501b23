"""Start the portal: one process that answers, one that checks bundles."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from energylab.errors import PortalError
from energylab_portal.database import Database
from energylab_portal.request_context import Portal
from energylab_portal.settings import DATABASE, Settings
from energylab_portal.tokens import Vault
from energylab_portal.web import create

_LOG = logging.getLogger("energylab_portal")

#: Connections at once; more are told to come back.
_CONNECTIONS = 512


def run(settings: Settings, host: str, port: int, say: Callable[[str], None], new_token: bool = False) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    settings : Settings
        Without an address, the one that is served.
    host : str
        Address to listen on.
    port : int
        Port to listen on; any free one when 0.
    say : callable
        Prints a line: the address, and once the operator's token.
    new_token : bool
        Replace the operator's token.

    Raises
    ------
    PortalError
        If the port is taken, or folder or database cannot be used.
    """
    import uvicorn

    try:
        settings.prepare()
    except OSError as error:
        raise PortalError(
            f"cannot use the folder {settings.folder}: {error.strerror}; choose another with --folder"
        ) from error
    listener = listen(host, port)
    served = f"http://{host if ':' not in host else f'[{host}]'}:{listener.getsockname()[1]}"
    settings = settings if settings.address else dataclasses.replace(settings, address=served)
    vault, token = Vault.open(settings.folder, new_token)
    database = Database(settings.database_url).open()
    say(f"portal      {settings.address}" + (f", listening on {served}" if settings.address != served else ""))
    say(f"folder      {settings.folder.resolve()}")
    if token is not None:
        say(f"operator    {token}\n            shown once and kept nowhere; enter it at {settings.address}/operator")
    portal = Portal(settings, database, vault)
    portal.desk.rehearse()
    threading.Thread(target=_keep_checker, args=(settings,), name="bundle-checker", daemon=True).start()
    config = uvicorn.Config(
        create(portal),
        access_log=False,  # paths hold private links
        log_level="warning",
        server_header=False,
        proxy_headers=settings.secure,
        forwarded_allow_ips="127.0.0.1,::1",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=15,
        lifespan="off",
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        database.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    PortalError
        If the port is taken or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortalError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from error
    listener.set_inheritable(True)
    return listener


def _keep_checker(settings: Settings) -> None:
    """Keep one bundle checker alive; the operating system ends it when this process ends, however that happens."""
    command = [
        sys.executable,
        "-m",
        "energylab_portal.bundle_checker",
        str(settings.folder),
        settings.params or "",
        str(os.getpid()),
    ]
    told = {**os.environ, DATABASE: settings.database}  # its URL may hold a password, which arguments would show
    while True:
        checker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=told)
        _LOG.info("the bundle checker is process %d", checker.pid)
        _LOG.warning("the bundle checker ended with status %d; starting another", checker.wait())
        time.sleep(1.0)
