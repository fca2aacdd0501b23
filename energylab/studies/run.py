"""Run the missing jobs of a study, and retry jobs after failures of the machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path

import psutil

from energylab.errors import StudyError
from energylab.studies import devices as device_names
from energylab.studies.job import RUNTIME, describe_exit
from energylab.studies.plan import Job, Plan
from energylab.studies.state import RETRIES, Attempt, JobFolder, JobState, Kind, Outcome, Request, StudyFolder

#: Environment variable of every process of an attempt; its value is the attempt's folder.
MARKER = "ENERGYLAB_ATTEMPT"

#: Environment of jobs in a study with frozen revisions, which do not use the hub.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

#: Free space needed to start a job, in bytes, so that its record and notebook can be written.
LEAST_FREE_BYTES = 20_000_000

#: Called with ``"start"``, ``"end"`` or ``"retry"``, the job and its state.
OnEvent = Callable[[str, Job, JobState], None]


@dataclass
class Work:
    """One attempt to make: a job to measure, or a record to render."""

    job: Job
    folder: JobFolder
    kind: Kind
    notebook: Path
    record: Path | None = None  # to render
    params: str | None = None
    time_limit_s: float | None = None

    def begin(self, executor: str, devices: tuple[str, ...] = (), environment: Mapping[str, str] | None = None,
              slurm_job: str | None = None) -> Attempt:  # fmt: skip
        """Make the next attempt's folder and write its request."""
        attempt = self.folder.new_attempt()
        parameters = {**self.job.values, "attempt": attempt.number, "output_folder": str(attempt.path)}
        if self.kind == "render":
            parameters["record"] = str(self.record)
        if self.params is not None:
            parameters["params"] = self.params
        attempt.start(
            Request(
                job_id=self.job.id, kind=self.kind, notebook=str(self.notebook), parameters=parameters,
                environment=dict(environment or {}), executor=executor, host=socket.gethostname(), devices=devices,
                slurm_job=slurm_job, started_utc=datetime.now(UTC),
            )
        )  # fmt: skip
        return attempt

    def command(self, attempt: Attempt) -> list[str]:
        """Return the command of an attempt's process, which ends when this one does."""
        return [sys.executable, "-m", "energylab.studies.job", str(attempt.path), str(os.getpid())]


@dataclass
class Summary:
    """Result of one call of `run`."""

    states: dict[Job, JobState] = field(default_factory=dict)
    attempts: int = 0
    refused: dict[Job, str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass
class Book:
    """The work of one run: an executor takes work from it and reports how it ended."""

    folder: StudyFolder
    queue: deque[Work]
    adopted: list[Work]
    environment: dict[str, str]
    summary: Summary
    on_event: OnEvent
    tries: Counter[tuple[str, str]] = field(default_factory=Counter)

    def refuse(self, reason: Callable[[Job], str]) -> None:
        """Remove jobs from the queue that cannot run here: those for which `reason` returns a text."""
        self.summary.refused = {work.job: why for work in self.queue if (why := reason(work.job))}
        self.queue = deque(work for work in self.queue if work.job not in self.summary.refused)

    def take(self) -> Work:
        """Return the next piece of work, and record its start."""
        check_space(self.folder.path)
        work = self.queue.popleft()
        self.announce(work)
        return work

    def announce(self, work: Work) -> None:
        """Record the start of a piece of work."""
        self.summary.attempts += 1
        self.on_event("start", work.job, self.summary.states[work.job])

    def ended(self, work: Work, outcome: Outcome, tries: int = 1) -> None:
        """Record how a piece of work ended, and queue the next attempt at the same job, if any."""
        state = work.folder.state()
        self.summary.states[work.job] = state
        self.tries[work.job.id, work.kind] += tries
        kind = state.due()
        wanted = kind == "render" or (kind == "measure" and outcome.end == "infrastructure")
        if wanted and outcome.end != "interrupted" and self.tries[work.job.id, kind] <= RETRIES:
            self.on_event("retry", work.job, state)
            self.queue.append(replace(work, kind=kind, record=state.record_path))
        else:
            self.on_event("end", work.job, state)


Executor = Callable[[Book], None]  # returns when nothing is left that it waits for


def run(
    plan: Plan,
    folder: StudyFolder,
    executor: Executor,
    *,
    again: Sequence[str] = (),
    limit: int | None = None,
    params: str | None = None,
    on_event: OnEvent = lambda event, job, state: None,
) -> Summary:
    """Run all missing jobs of the study, and those whose state is in `again`; start at most `limit`.

    The executor is `local` or `energylab.studies.slurm.slurm`, with further arguments by ``functools.partial``;
    `params`, a folder with the layout of ``params/``, is passed to the notebook.
    """
    from energylab.studies.slurm import living

    folder.prepare(plan)
    with folder.exclusive(), _ended_by_sigterm():
        elsewhere = set(living(folder).values())
        close_abandoned(plan, folder, elsewhere)
        summary = Summary(states=folder.states(plan))
        works = [
            Work(job, folder.job(job), state.due(again) or "measure", plan.notebook, state.record_path, params,
                 plan.study.time_limit_s)
            for job, state in summary.states.items()
        ]  # fmt: skip
        due = [work for work in works if work.job.id not in elsewhere and summary.states[work.job].due(again)]
        adopted = [work for work in works if work.job.id in elsewhere]
        environment = dict(OFFLINE) if folder.lock else {}
        book = Book(folder, deque(due[:limit]), adopted, environment, summary, on_event)
        try:
            executor(book)
        except KeyboardInterrupt:
            summary.interrupted = True
            summary.states = folder.states(plan)
        return summary


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a run like an interrupt, so that jobs are stopped and closed."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt("stopped by SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_space(folder: Path) -> None:
    """Refuse to start a job if the disk may be too full for its record."""
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise StudyError(
            f"only {free / 1e6:.0f} MB are free in {folder}, a job may need {LEAST_FREE_BYTES / 1e6:.0f}; "
            "free space or choose another folder with --results"
        )


def close_abandoned(plan: Plan, folder: StudyFolder, elsewhere: Collection[str] = ()) -> None:
    """Close attempts that a killed runner left open, and end their processes.

    Called by the runner that holds the study's lock: open attempts have no owner then, unless their job's id is in
    `elsewhere`.
    """
    kill_marked(folder.path, spare=[folder.path / job_id for job_id in elsewhere])
    for job in plan.jobs:
        for attempt in folder.job(job).attempts() if job.id not in elsewhere else ():
            if attempt.outcome is None:
                for temporary in attempt.path.glob(".*.tmp"):  # incomplete files
                    temporary.unlink()
                attempt.close(Outcome.now("interrupted", "its runner was killed"))


def marked(folder: Path) -> dict[int, Path]:
    """Return the processes of one study, job or attempt: process id to the folder in its environment.

    Only processes whose environment this user may read are found.
    """
    folder, found = folder.resolve(), {}
    for process in psutil.process_iter():
        try:
            marker = process.environ().get(MARKER)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or it is another user's
        if marker and process.pid != os.getpid() and Path(marker).is_relative_to(folder):
            found[process.pid] = Path(marker)
    return found


def kill_marked(folder: Path, spare: Sequence[Path] = (), timeout_s: float = 10.0) -> None:
    """Kill all processes of one study, job or attempt, except those of the folders in `spare`; wait for their end."""
    spared = [path.resolve() for path in spare]
    deadline = time.monotonic() + timeout_s
    while alive := [pid for pid, at in marked(folder).items() if not any(at.is_relative_to(path) for path in spared)]:
        for pid in alive:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                psutil.Process(pid).kill()
        if time.monotonic() > deadline:
            raise StudyError(f"processes {alive} of {folder} do not end; end them, then run again")
        time.sleep(0.01)


def died(status: int | None, attempt: Attempt) -> Outcome:
    """Return the outcome of a job's process that ended without writing one: a failure of the machine or the runner."""
    return Outcome.now("infrastructure", f"the job's process ended early ({describe_exit(status)}); see {attempt.log}")


def overdue(limit_s: float) -> Outcome:
    """Return the outcome of a job that was stopped after its time limit."""
    reason = f"stopped after its time limit of {limit_s:g} s; raise time_limit_s in the study"
    return Outcome.now("time_limit", reason, limit_s)


@contextlib.contextmanager
def runtime_folder(study: Path) -> Iterator[Path]:
    """Yield an empty folder for the sockets of a study's runner, which holds the study's lock; remove it afterwards.

    Its path is always short, since paths of Unix sockets are limited to 107 bytes. It is the same in every run, so that
    the next run removes files of a killed one.
    """
    digest = hashlib.sha256(str(study.resolve()).encode()).hexdigest()[:12]
    base = tempfile.gettempdir() if len(tempfile.gettempdir()) <= 40 else "/tmp"
    folder = Path(base) / f"energylab-{os.getuid()}-{digest}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StudyError(f"cannot make {folder} for the sockets of this run: {error.strerror}; remove it") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Running:
    """A job's process on this machine."""

    work: Work
    attempt: Attempt
    devices: tuple[str, ...]
    process: subprocess.Popen
    ends: int  # a descriptor that becomes readable when the process ends
    started_s: float = field(default_factory=time.monotonic)

    def outcome(self) -> Outcome | None:
        """Return how it ended if it has not written an outcome; None while it may run."""
        limit_s = self.work.time_limit_s
        if self.process.poll() is not None:
            return died(self.process.returncode, self.attempt)
        late = limit_s is not None and time.monotonic() - self.started_s > limit_s
        return overdue(limit_s) if late else None

    def finish(self, otherwise: Outcome) -> Outcome:
        """End all processes of the attempt, and close it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        kill_marked(self.attempt.path)
        os.close(self.ends)
        return self.attempt.close(otherwise)


def local(book: Book, devices: str = "auto") -> None:
    """Run jobs on this machine: one per device, each in its own process.

    `devices` is as in `energylab.studies.devices.available`.
    """
    names = device_names.available(devices)
    shown = f"{len(names)} here ({', '.join(names)})"
    book.refuse(lambda job: f"needs {n} devices, {shown}" if (n := job.parameters.gpus) > len(names) else "")
    running: list[_Running] = []
    with runtime_folder(book.folder.path) as runtime:
        variables = {**book.environment, RUNTIME: str(runtime)}
        try:
            while book.queue or running:
                free = [name for name in names if not any(name in item.devices for item in running)]
                # in order, so that a job that needs several devices is not overtaken again and again
                while book.queue and (count := book.queue[0].job.parameters.gpus) <= len(free):
                    running.append(_start(book.take(), tuple(free[:count]), variables))
                    free = free[count:]
                wait_for_any([item.ends for item in running], timeout=1.0)
                for item in [item for item in running if item.outcome()]:
                    running.remove(item)
                    book.ended(item.work, item.finish(item.outcome()))
        except BaseException as error:
            for item in running:
                seconds = time.monotonic() - item.started_s
                item.finish(Outcome.now("interrupted", str(error) or "stopped by the user", seconds))
            raise


def _start(work: Work, devices: tuple[str, ...], environment: Mapping[str, str]) -> _Running:
    shown = {**environment, **device_names.environment(devices)}
    attempt = work.begin("local", devices, shown)
    with attempt.log.open("wb") as log:
        process = subprocess.Popen(
            work.command(attempt),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **shown, MARKER: str(attempt.path.resolve())},
            start_new_session=True,
        )
    return _Running(work, attempt, devices, process, os.pidfd_open(process.pid))
