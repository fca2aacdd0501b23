"""A worker: checks open models, measures those that are queued one at a time on its device, attaches the result."""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from energylab.errors import EnergylabError, PortalError, StudyError
from energylab.record import Record
from energylab.studies import devices as device_names
from energylab_portal import child, log
from energylab_portal.database import Database
from energylab_portal.inspection import Finding, in_the_portal, inspect_apart, is_passing
from energylab_portal.leases import FREE, Interrupted, Leases, Refused
from energylab_portal.measuring import Bench, executor_maker
from energylab_portal.settings import Settings, load_measuring
from energylab_portal.tables import Submission

_LOG = logging.getLogger("energylab_portal")

#: How often an idle worker looks for work, in seconds.
LOOK_S = 1.0

#: What is said of a model that was checked, and then queued.
_WORDS = ("it exists, and fits task and device", "waits for a free device")

Inspect = Callable[[Mapping[str, Any], Mapping[str, str]], Finding]


class Unreachable(EnergylabError):
    """The hub did not answer: nothing is wrong with the model."""


@dataclass
class Worker:
    """One worker; `elsewhere` says that jobs run on another machine, whose devices cannot be looked at from here."""

    database: Database
    bench: Bench  # where and how it measures
    device: str  # as `energylab.studies.devices.available` names it, or the executor's name
    inspect: Inspect = inspect_apart
    leases: Leases = field(default=None)  # type: ignore[assignment]
    name: str = ""  # as the log calls it
    elsewhere: bool = False
    sleep: Callable[[float], None] = time.sleep
    _measured_last: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.leases = self.leases or Leases(self.database)
        self.name = self.name or f"worker {socket.gethostname()}/{os.getpid()} on {self.device}"[:200]

    def run(self, once: bool = False) -> None:
        """Work until interrupted; with `once`, until nothing is left to do.

        A database that is away for a while is waited for: a lease runs out meanwhile, and another worker goes on.
        """
        _LOG.info("%s works", self.name)
        while True:
            try:
                if self.step():
                    continue
            except OperationalError as error:
                if once:
                    raise
                _LOG.warning("the database does not answer (%s); looking again", type(error.orig).__name__)
                self.sleep(10 * LOOK_S)
            if once:
                return
            self.sleep(LOOK_S)

    def step(self) -> bool:
        """Check one model or measure one, in turns; return whether there was something to do.

        Neither can keep the other waiting for longer than one of them takes.
        """
        kinds = [(lambda: self.leases.take_check("open", self.name), self._check),
                 (lambda: self.leases.take_measurement(self.name), self._measure)]  # fmt: skip
        for take, do in kinds if self._measured_last else kinds[::-1]:
            lease = take()
            if lease is not None:
                self._measured_last = do == self._measure
                _LOG.info("%s: %s", lease.name, do.__name__.strip("_"))
                # a check that died is ours: memory, a library, a signal; nothing was learnt of the model
                self.leases.work(lease, do, ours=child.ChildDied, on_lost=_thread.interrupt_main)
                return True
        return False

    def _check(self, lease: Submission) -> None:
        measuring = self.bench.measuring
        question = {
            "model": lease.model, "revision": lease.revision, "tasks": lease.task_names,
            "parameters": measuring.parameters, "largest_gb": measuring.largest_gb, "params": self.bench.params,
            "elsewhere": self.elsewhere,
        }  # fmt: skip
        found = self.inspect(question, {} if self.elsewhere else device_names.environment((self.device,)))
        if found.again:
            raise Unreachable(found.refusal)
        facts = {"facts": "\n".join(found.words), "commit": found.commit}
        if found.refusal:
            raise Refused(found.refusal, **facts)
        with self.database.writing() as session:
            held = self.leases.held(session, lease)
            log.move(session, self.database, held, "checked", self.name, _WORDS[0], tries=0, **facts)
            log.move(session, self.database, held, "queued", self.name, _WORDS[1], **FREE)

    def _measure(self, lease: Submission) -> None:
        try:
            records = self.bench.measure(lease)
        except (Interrupted, StudyError):
            raise  # the machine's, not the model's: it is tried again
        except EnergylabError as error:
            if is_passing(str(error)):
                raise Unreachable(in_the_portal(str(error))) from error
            raise Refused(f"the measurement failed: {error}") from error
        with self.database.writing() as session:
            held = self.leases.held(session, lease)
            log.attach(session, held.id, records)
            log.move(session, self.database, held, "measured", self.name, _summary(records), **FREE)


def _summary(records: list[Record]) -> str:
    kinds = ", ".join(sorted({record.energy_kind for record in records}))
    return f"{len(records)} sessions, all valid; energy is {kinds}"


def start(
    folder: Path, database: str = "", measuring: str = "published", executor: str = "local", devices: str = "auto",
    once: bool = False, lease_s: float = 60.0, work: Path | None = None, params: str | None = None,
) -> None:  # fmt: skip
    """Work until interrupted, or with `once` until nothing is left. One process serves one device."""
    local = executor == "local"
    names = device_names.available(devices) if local else [executor]
    if len(names) > 1:
        raise PortalError(f"{len(names)} devices, and one worker serves one: start one each, --devices {names[0]} …")
    if not database and not (folder / "portal.db").is_file():
        raise PortalError(f"{folder} holds no portal; start one with `energylab-portal serve --folder {folder}`")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # a request to end is an interrupt: a study is cancelled, and its submission goes back at once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bench = Bench(
        work=work or folder / "work",
        measuring=load_measuring(measuring, params),
        executor=executor_maker(executor, names[0] if local else devices),
        params=params,
    )
    opened = Database(Settings(folder, database).database_url).open()
    with contextlib.suppress(KeyboardInterrupt):
        Worker(opened, bench, names[0], leases=Leases(opened, lease_s), elsewhere=not local).run(once)
