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

from energylab.errors import ConflictError, EnergylabError, PortalError, StudyError
from energylab.publish.text import visible
from energylab.record import Record
from energylab.studies import devices as device_names
from energylab_portal import child, log
from energylab_portal.database import Database
from energylab_portal.inspection import Finding, in_the_portal, inspect_apart, is_passing
from energylab_portal.leases import FREE, Heartbeat, Lease, LeaseLost, Leases
from energylab_portal.measuring import Bench, Interrupted, executor_maker
from energylab_portal.settings import Settings, load_measuring
from energylab_portal.tables import Submission

_LOG = logging.getLogger("energylab_portal")

#: How often an idle worker looks for work, in seconds.
LOOK_S = 1.0


class Unreachable(EnergylabError):
    """The hub did not answer: nothing is wrong with the model."""


#: What is said of a model that was checked, and then queued.
_WORDS = ("it exists, and fits task and device", "waits for a free device")

Inspect = Callable[[Mapping[str, Any], Mapping[str, str]], Finding]


def worker_name(device: str) -> str:
    """Return a name by which people know this worker: machine, process, device."""
    return f"worker {socket.gethostname()}/{os.getpid()} on {device}"[:200]


@dataclass
class Worker:
    """One worker."""

    database: Database
    bench: Bench  # where and how it measures
    device: str  # as `energylab.studies.devices.available` names it, or the executor's name
    inspect: Inspect = inspect_apart  # looks at a model before it is queued
    leases: Leases = field(default=None)  # type: ignore[assignment]
    name: str = ""  # as the log calls it
    elsewhere: bool = False  # whether jobs run on another machine, whose devices cannot be looked at from here
    sleep: Callable[[float], None] = time.sleep  # waits so many seconds
    _measured_last: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.leases = self.leases or Leases(self.database)
        self.name = self.name or worker_name(self.device)

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
        kinds = (self._take_check, self._take_measurement)
        for take in kinds if self._measured_last else kinds[::-1]:
            if take():
                self._measured_last = take == self._take_measurement
                return True
        return False

    def _take_check(self) -> bool:
        lease = self.leases.take_check("open", self.name)
        if lease is not None:
            self._guarded(lease, self._check)
        return lease is not None

    def _take_measurement(self) -> bool:
        lease = self.leases.take_measurement(self.name)
        if lease is not None:
            self._guarded(lease, self._measure)
        return lease is not None

    def _guarded(self, lease: Lease, work: Callable[[Lease], None]) -> None:
        """Do a piece of work under a heartbeat. Its troubles are the submission's or this try's, never the worker's."""
        _LOG.info("%s: %s", lease.submission.name, work.__name__.strip("_"))
        heartbeat = Heartbeat(self.leases, lease, on_lost=_thread.interrupt_main)
        try:
            with heartbeat:
                work(lease)
        except LeaseLost as error:
            _LOG.warning("%s", error)
        except Unreachable as error:
            self._let_go(lease, f"{visible(str(error))}.", heartbeat)
        except Interrupted as error:
            self._let_go(lease, str(error), heartbeat, count=False)
        except KeyboardInterrupt:
            self._let_go(
                lease, "the worker was stopped; the submission goes back to the queue.", heartbeat, count=False
            )
        except Exception as error:  # noqa: BLE001 - the next submission must not suffer for this one
            _LOG.exception("%s: could not be finished", lease.submission.name)
            self._let_go(lease, f"{type(error).__name__}: {visible(str(error))[:500]}.", heartbeat)

    def _let_go(self, lease: Lease, words: str, heartbeat: Heartbeat, count: bool = True) -> None:
        """Give the lease back; where it was lost, only say so. A worker that was told to stop then stops."""
        try:
            self.leases.give_back(lease, words, count)
        except LeaseLost as error:
            _LOG.warning("%s", error)
        if not count and not heartbeat.lost:
            raise KeyboardInterrupt

    # ---- checking

    def _check(self, lease: Lease) -> None:
        submission, measuring = lease.submission, self.bench.measuring
        question = {
            "model": submission.model, "revision": submission.revision, "tasks": submission.task_names,
            "parameters": measuring.parameters, "largest_gb": measuring.largest_gb, "params": self.bench.params,
            "elsewhere": self.elsewhere,
        }  # fmt: skip
        try:
            shown = {} if self.elsewhere else device_names.environment((self.device,))
            found = self.inspect(question, shown)
        except child.ChildDied as error:  # ours: memory, a library, a signal; nothing was learnt of the model
            return self.leases.give_back(lease, f"its check ended without an answer ({error}); again later", ours=True)
        if found.again:
            raise Unreachable(found.refusal)
        if found.refusal:
            return self._reject(lease, found.refusal, found)
        self._queue(lease, found)
        return None

    def _reject(self, lease: Lease, reason: str, found: Finding | None) -> None:
        facts = {} if found is None else {"facts": "\n".join(found.words), "commit": found.commit}
        reason = visible(reason)
        self.leases.finish(lease, "rejected", reason, reason=reason, **facts)

    def _queue(self, lease: Lease, found: Finding) -> None:
        with self.database.writing() as session:
            held = self.leases.held(session, lease)
            facts = {"facts": "\n".join(found.words), "commit": found.commit, "tries": 0}
            log.move(session, self.database, held, "checked", self.name, _WORDS[0], **facts)
            log.move(session, self.database, held, "queued", self.name, _WORDS[1], **FREE)

    # ---- measuring

    def _measure(self, lease: Lease) -> None:
        try:
            records = self.bench.measure(lease.submission)
        except (Interrupted, StudyError):
            raise  # the machine's, not the model's: it is tried again
        except EnergylabError as error:
            if is_passing(str(error)):
                raise Unreachable(in_the_portal(str(error))) from error
            return self._reject(lease, f"the measurement failed: {error}", None)
        self._attach(lease, records)
        return None

    def _attach(self, lease: Lease, records: list[Record]) -> None:
        try:
            with self.database.writing() as session:
                held: Submission = self.leases.held(session, lease)
                log.attach(session, held.id, records)
                log.move(session, self.database, held, "measured", self.name, _summary(records), **FREE)
        except LeaseLost:
            raise
        except ConflictError as error:
            self._reject(lease, str(error), None)


def _summary(records: list[Record]) -> str:
    kinds = ", ".join(sorted({record.energy_kind for record in records}))
    return f"{len(records)} sessions, all valid; energy is {kinds}"


def stop_on_signals() -> None:
    """Let a request to end be an interrupt, so that a study is cancelled and its submission goes back at once."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@dataclass(frozen=True)
class Options:
    """The options of ``energylab-portal worker``, as the command line has them."""

    folder: Path
    database: str = ""
    measuring: str = "published"
    executor: str = "local"
    devices: str = "auto"
    once: bool = False
    lease_s: float = 60.0
    work: Path | None = None
    params: str | None = None


def start(options: Options) -> None:
    """Work until interrupted, or with `once` until nothing is left. One process serves one device."""
    local = options.executor == "local"
    devices = device_names.available(options.devices) if local else [options.executor]
    if len(devices) > 1:
        raise PortalError(
            f"{len(devices)} devices, and one worker serves one: start one a device, --devices {devices[0]} …, by "
            "systemd or compose, which restart them too"
        )
    if not options.database and not (options.folder / "portal.db").is_file():
        raise PortalError(
            f"{options.folder} holds no portal; start one with `energylab-portal serve --folder {options.folder}`, "
            "or name its database with --database"
        )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    stop_on_signals()
    database = Database(Settings(options.folder, options.database).database_url).open()
    bench = Bench(
        work=options.work or options.folder / "work",
        measuring=load_measuring(options.measuring, options.params),
        executor=executor_maker(options.executor, devices[0] if local else options.devices),
        params=options.params,
    )
    leases = Leases(database, options.lease_s)
    with contextlib.suppress(KeyboardInterrupt):
        Worker(database, bench, devices[0], leases=leases, elsewhere=not local).run(options.once)
