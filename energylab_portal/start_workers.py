"""Start workers: one here, or one process for each of several devices."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from energylab.errors import PortalError
from energylab.studies import devices as device_names
from energylab_portal import worker_processes
from energylab_portal.database import Database
from energylab_portal.leases import Leases
from energylab_portal.measuring import Bench, executor_maker
from energylab_portal.protocol import load
from energylab_portal.settings import Settings
from energylab_portal.worker import Worker, stop_on_signals

LOCAL = "local"


@dataclass(frozen=True)
class Options:
    """The options of ``energylab-portal worker``, as the command line has them."""

    folder: Path
    database: str = ""
    protocol: str = "published"
    executor: str = LOCAL
    devices: str = "auto"
    once: bool = False
    lease_s: float = 60.0
    work: Path | None = None
    params: str | None = None


def run(options: Options) -> None:
    """Work until interrupted, or with `once` until nothing is left.

    Raises
    ------
    PortalError
        If there is no portal in the folder, or one process cannot serve several devices.
    """
    devices = device_names.available(options.devices) if options.executor == LOCAL else [options.executor]
    if len(devices) > 1:
        if options.once:
            raise PortalError("--once serves one device: name it with --devices")
        stop_on_signals()
        worker_processes.keep(devices, worker_processes.starter(_command(options), options.database))
        return
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    stop_on_signals()
    try:
        worker(options, devices[0]).run(options.once)
    except KeyboardInterrupt:
        return


def worker(options: Options, device: str) -> Worker:
    """Return the worker of one device, its database open.

    Raises
    ------
    PortalError
        If there is no portal in the folder.
    """
    settings = Settings(options.folder, options.database)
    if not options.database and not (options.folder / "portal.db").is_file():
        raise PortalError(
            f"{options.folder} holds no portal; start one with `energylab-portal serve --folder {options.folder}`, "
            "or name its database with --database"
        )
    database = Database(settings.database_url).open()
    named = device if options.executor == LOCAL else options.devices
    bench = Bench(
        work=options.work or options.folder / "work",
        protocol=load(options.protocol, options.params),
        executor=executor_maker(options.executor, named),
        params=options.params,
    )
    elsewhere = options.executor != LOCAL
    return Worker(database, bench, device, leases=Leases(database, options.lease_s), elsewhere=elsewhere)


def _command(options: Options) -> list[str]:
    """Return the same options for a process of one device; the database's URL goes by the environment."""
    given = {
        "--folder": options.folder, "--protocol": options.protocol, "--executor": options.executor,
        "--lease": options.lease_s, "--work": options.work, "--params": options.params,
    }  # fmt: skip
    return [str(word) for name, value in given.items() if value is not None for word in (name, value)]
