"""A worker: checks open models, measures queued ones on its device, one at a time, and stores the results."""

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

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import OperationalError

from energylab.errors import EnergylabError, MeasurementError, PortalError, StudyError, unknown_name
from energylab.files import read_yaml, write_whole
from energylab.record import Record
from energylab.studies import commands as studies
from energylab.studies import devices as device_names
from energylab.studies import pack, plan
from energylab.studies.plan import GIVEN_BY_STUDY, Plan, SlurmSettings
from energylab.studies.run import Executor, run
from energylab.studies.state import JobState, StudyFolder
from energylab_portal import child, tables
from energylab_portal.database import Database
from energylab_portal.inspection import Finding, in_the_portal, inspect_apart, is_passing
from energylab_portal.leases import FREE, Interrupted, Leases, Refused
from energylab_portal.settings import Settings
from energylab_portal.tables import Submission

_LOG = logging.getLogger("energylab_portal")

#: How often an idle worker looks for work, in seconds.
LOOK_S = 1.0
#: Parameters set by the portal.
_GIVEN = (*GIVEN_BY_STUDY, "task", "model", "model_source", "revision", "trust_remote_code", "device", "protocol")
#: Log texts for a model that was checked, and then queued.
_WORDS = ("the model exists, and fits task and device", "waits for a free device")

Inspect = Callable[[Mapping[str, Any], Mapping[str, str]], Finding]
#: Makes the executor that runs a study.
MakeExecutor = Callable[[Plan], Executor]


class Measuring(BaseModel):
    """How submitted models are measured, the content of ``measuring/NAME.yaml``: a study without its models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    repeats: int = Field(3, ge=1, description="sessions per model; 3 give an interval between sessions")
    parameters: dict[str, Any] = {}
    largest_gb: float = Field(400.0, gt=0, description="largest download of one model")
    time_limit_s: float = Field(24 * 3600.0, gt=0, description="time limit of one session")
    slurm: SlurmSettings = SlurmSettings()

    def study(self, name: str, model: str, commit: str | None, tasks: tuple[str, ...]) -> dict[str, Any]:
        """Return the study that measures a submission at the checked commit, without code from its repository."""
        named = {"model": model, "model_source": "hub", "revision": commit, "trust_remote_code": False}
        return {
            "title": f"Submission {name}: {model}",
            "repeats": self.repeats,
            "parameters": {**self.parameters, **named},
            "sweeps": [{"task": list(tasks)}],
            "time_limit_s": self.time_limit_s,
            "slurm": self.slurm.model_dump(mode="json"),
        }


def load_measuring(name: str) -> Measuring:
    """Read the measuring settings: a file, or the name of one that is part of the portal."""
    path, ours = Path(name), Path(__file__).parent / "measuring"
    if not path.is_file():
        path = ours / f"{name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        raise unknown_name("measuring file", name, [file.stem for file in ours.glob("*.yaml")], "or name a file")
    try:
        measuring = Measuring.model_validate(read_yaml(path.read_text(encoding="utf-8"), path, PortalError))
    except ValidationError as error:
        raise PortalError(f"{path} is not a valid measuring file: {error}") from error
    given = [key for key in measuring.parameters if key in _GIVEN]
    if given:
        raise PortalError(f"{path}: parameter {given[0]!r} is set by the portal; remove it")
    return measuring


@dataclass(frozen=True)
class Bench:
    """Folder, settings and executor of a worker's measurements."""

    work: Path  # folder of all studies, one per submission
    measuring: Measuring
    executor: MakeExecutor
    params: str | None = None  # folder with the layout of ``params/``

    def measure(self, submission: Submission) -> list[Record]:
        """Measure a submission; complete records of an earlier worker are kept."""
        one, folder = submission, StudyFolder(submission.name, self.work)
        study = self.measuring.study(one.name, one.model, one.commit, one.task_names)
        text = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
        planned = plan.load(write_whole(folder.path / "submission.yaml", text), name=one.name, params=self.params)
        plan.check(planned, self.params)
        planned = plan.freeze(planned, folder.lock or pack.fetch(planned, folder, self.params))
        summary = run(planned, folder, self.executor(planned), params=self.params)
        if summary.interrupted:
            raise Interrupted("the worker was stopped; the submission goes back to the queue.")
        return [_valid(job.label, state, summary.refused.get(job, "")) for job, state in summary.states.items()]


def _valid(label: str, state: JobState, refused: str) -> Record:
    if state.record is not None and state.record.valid:
        return state.record
    raise MeasurementError(f"{label}: {refused or state.reason or state.status}")


class Unreachable(EnergylabError):
    """The hub did not answer; nothing is wrong with the model."""


@dataclass
class Worker:
    """One worker; `elsewhere`: jobs run on another machine, whose devices cannot be checked from here."""

    database: Database
    bench: Bench  # folder, settings and executor
    device: str  # its name in `energylab.studies.devices.available`, or the executor's name
    inspect: Inspect = inspect_apart
    leases: Leases = field(default=None)  # type: ignore[assignment]
    name: str = ""  # name in the log
    elsewhere: bool = False
    sleep: Callable[[float], None] = time.sleep
    _measured_last: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.leases = self.leases or Leases(self.database)
        self.name = self.name or f"worker {socket.gethostname()}/{os.getpid()} on {self.device}"[:200]

    def run(self, once: bool = False) -> None:
        """Work until interrupted; with `once`, until no submission is left.

        If the database does not answer, the worker waits; a lease may expire, and another worker then continues.
        """
        _LOG.info("%s started", self.name)
        while True:
            try:
                while self.step():
                    pass
                rest_s = LOOK_S
            except OperationalError as error:
                if once:
                    raise
                _LOG.warning("the database does not answer (%s); trying again", type(error.orig).__name__)
                rest_s = 10 * LOOK_S
            if once:
                return
            self.sleep(rest_s)

    def step(self) -> bool:
        """Check or measure one model, in turns; return whether there was one.

        Checks thus wait for at most one measurement, and measurements for at most one check.
        """
        kinds = [(lambda: self.leases.take_check("open", self.name), self._check),
                 (lambda: self.leases.take_measurement(self.name), self._measure)]  # fmt: skip
        for take, do in kinds if self._measured_last else kinds[::-1]:
            lease = take()
            if lease is not None:
                self._measured_last = do == self._measure
                _LOG.info("%s: %s", lease.name, do.__name__.strip("_"))
                # a check that died is no fault of the model: memory, a library, a signal
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
            tables.move(session, held, "checked", self.name, _WORDS[0], tries=0, **facts)
            tables.move(session, held, "queued", self.name, _WORDS[1], **FREE)

    def _measure(self, lease: Submission) -> None:
        try:
            records = self.bench.measure(lease)
        except (Interrupted, StudyError):
            raise  # no fault of the model: it is tried again
        except EnergylabError as error:
            if is_passing(str(error)):
                raise Unreachable(in_the_portal(str(error))) from error
            raise Refused(f"the measurement failed: {error}") from error
        with self.database.writing() as session:
            held = self.leases.held(session, lease)
            tables.attach(session, held.id, records)
            tables.move(session, held, "measured", self.name, _summary(records), **FREE)


def _summary(records: list[Record]) -> str:
    kinds = ", ".join(sorted({record.energy_kind for record in records}))
    return f"{len(records)} sessions, all valid; energy is {kinds}"


def start(
    folder: Path, database: str = "", measuring: str = "published", executor: str = "local", devices: str = "auto",
    once: bool = False, params: str | None = None,
) -> None:  # fmt: skip
    """Work until interrupted, or with `once` until no submission is left. One process per device."""
    local = executor == "local"
    names = device_names.available(devices) if local else [executor]
    if len(names) > 1:
        raise PortalError(f"{len(names)} devices, but a worker uses one: start one per device, --devices {names[0]} …")
    if not database and not (folder / "portal.db").is_file():
        raise PortalError(f"{folder} has no portal; start one with `energylab-portal serve --folder {folder}`")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # treat SIGTERM as an interrupt: the study is cancelled, and its submission returns to the queue
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if executor not in studies.EXECUTORS:
        raise unknown_name("executor", executor, studies.EXECUTORS)
    make_executor = lambda planned: studies.executor_for(planned, executor, names[0] if local else devices)[0]  # noqa: E731
    bench = Bench(folder / "work", load_measuring(measuring), make_executor, params)
    opened = Database(Settings(folder, database).database_url).open()
    with contextlib.suppress(KeyboardInterrupt):
        Worker(opened, bench, names[0], elsewhere=not local).run(once)
