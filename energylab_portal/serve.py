"""Start the portal: one process that answers requests, and checks bundles in child processes."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable

from energylab.errors import PortalError
from energylab_portal.checker import BundleChecker
from energylab_portal.database import Database
from energylab_portal.settings import Settings, Vault
from energylab_portal.web import Portal, create

#: Maximal number of simultaneous connections; further ones get status 503.
_CONNECTIONS = 512


def run(settings: Settings, host: str, port: int, say: Callable[[str], None], new_token: bool = False) -> None:
    import uvicorn

    try:
        settings.prepare()
    except OSError as error:
        raise PortalError(f"cannot use {settings.folder}: {error.strerror}; name another --folder") from error
    listener = listen(host, port)
    served = f"http://{host if ':' not in host else f'[{host}]'}:{listener.getsockname()[1]}"
    settings = settings if settings.address else dataclasses.replace(settings, address=served)
    vault, token = Vault.open(settings.folder, new_token)
    database = Database(settings.database_url).open()
    say(f"portal      {settings.address}" + (f", listening on {served}" if settings.address != served else ""))
    say(f"folder      {settings.folder.resolve()}")
    if token is not None:
        say(f"operator    {token}\n            shown only once and not stored; log in at {settings.address}/operator")
    portal, stop = Portal(settings, database, vault), threading.Event()
    checking = (stop, portal.queue)
    checker = threading.Thread(target=BundleChecker(database, settings).run, args=checking, name="checker", daemon=True)
    checker.start()
    config = uvicorn.Config(
        create(portal),
        access_log=False,  # paths contain private links
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
        stop.set()
        checker.join(timeout=5)
        database.close()


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortalError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from error
    listener.set_inheritable(True)
    return listener
