"""The files of a study on disk, and the states of its jobs.

``results/NAME/study.yaml``, ``lock.yaml``, and per job ``JOB_ID/attempt-N/`` with ``request.json`` (the request),
``record.json`` (written by the measuring cell), ``notebook.ipynb``, ``log.txt``, ``figures/`` and ``outcome.json``
(how it ended). States are always derived from these files and stored nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, SoftFileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from energylab import store
from energylab.errors import RecordError, StudyError
from energylab.files import cannot_write, write_whole
from energylab.record import Record
from energylab.studies import plan as planning
from energylab.studies.plan import Job, Lock, Plan

Kind = Literal["measure", "render"]
End = Literal["finished", "cell_error", "kernel_died", "infrastructure", "time_limit", "interrupted"]
Status = Literal["done", "measured", "running", "failed", "invalid", "left"]

#: How often a job is tried again in one run after a failure of the machine (not of the notebook).
RETRIES = 2

#: Ends caused by the machine or the user, after which the job is run again.
RESUMABLE = ("interrupted", "infrastructure")

#: Errors of file systems without ``flock``; a lock file is used there instead.
_NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class Request(BaseModel):
    """The request of one attempt, written before its process starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    kind: Kind
    notebook: str
    parameters: dict[str, Any]  # as given to papermill
    environment: dict[str, str] = {}  # added to the process's own
    executor: str = "local"
    host: str = ""
    devices: tuple[str, ...] = ()
    slurm_job: str | None = None
    started_utc: datetime


class Outcome(BaseModel):
    """How one attempt ended; the last file written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    end: End
    reason: str = ""
    duration_s: float | None = None
    ended_utc: datetime

    @classmethod
    def now(cls, end: End, reason: str = "", duration_s: float | None = None) -> Outcome:
        """Return an outcome that ends at this moment."""
        return cls(end=end, reason=reason, duration_s=duration_s, ended_utc=datetime.now(UTC))


class Attempt:
    """One try of one job: a folder."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.number = int(self.path.name.removeprefix("attempt-"))
        self.notebook = self.path / "notebook.ipynb"
        self.record = self.path / store.FILE_NAME
        self.log = self.path / "log.txt"
        self.figures = self.path / "figures"

    @property
    def request(self) -> Request | None:
        """The request, or None if the machine stopped before it was written."""
        return _read(Request, self.path / "request.json")

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, or None while it runs or after it was killed."""
        return _read(Outcome, self.path / "outcome.json")

    def start(self, request: Request) -> None:
        """Write the request, before the process starts."""
        write_whole(self.path / "request.json", request.model_dump_json(indent=1))

    def close(self, outcome: Outcome) -> Outcome:
        """Write how it ended, unless the attempt has written it; return the stored outcome."""
        if self.outcome is None:
            write_whole(self.path / "outcome.json", outcome.model_dump_json(indent=1))
        return self.outcome or outcome


def _read(model: type[BaseModel], path: Path) -> Any:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StudyError(f"{path} is unreadable ({error}); delete its attempt folder to run the job again") from error


@dataclass(frozen=True)
class JobState:
    """State of one job, from its files.

    ``done``: measured and rendered; ``measured``: with a valid record but no finished notebook; ``invalid``: with a
    record that is not valid.
    """

    status: Status
    reason: str = ""
    record: Record | None = field(default=None, repr=False)  # valid or not
    record_path: Path | None = None
    notebook_path: Path | None = None  # the newest finished one
    attempts: int = 0
    last: Outcome | None = None
    last_kind: Kind | None = None

    @property
    def measured(self) -> bool:
        """Whether a valid record exists; such a job is not measured again."""
        return self.record is not None and self.record.valid

    def due(self, again: Sequence[str] = ()) -> Kind | None:
        """Return what the job still needs: to be measured, only to be rendered, or nothing.

        A job with an error in a cell is not repeated unless `again` contains ``failed``, since the error would recur.
        """
        if self.status == "measured":
            gave_up = self.last_kind == "render" and self.last is not None and self.last.end not in RESUMABLE
            return None if gave_up and "failed" not in again else "render"
        killed = self.status == "failed" and self.last is not None and self.last.end == "kernel_died"
        return "measure" if self.status in ("left", *again) or killed else None


class JobFolder:
    """The attempts of one job."""

    def __init__(self, path: Path, job: Job) -> None:
        self.path = path
        self.job = job

    def attempts(self) -> list[Attempt]:
        """Return every attempt, oldest first."""
        found = [Attempt(path) for path in self.path.glob("attempt-*") if path.is_dir()]
        return sorted(found, key=lambda attempt: attempt.number)

    def new_attempt(self) -> Attempt:
        """Make the folder of the next attempt; two simultaneous callers get two folders."""
        number = max((attempt.number for attempt in self.attempts()), default=-1) + 1
        while True:
            path = self.path / f"attempt-{number}"
            try:
                path.mkdir(parents=True)
                return Attempt(path)
            except FileExistsError:
                number += 1
            except OSError as error:
                raise cannot_write(path, error) from error

    def state(self) -> JobState:
        """Return the state of the job, from its files.

        An attempt without an outcome counts as running; a new runner closes attempts that a killed runner left open.
        """
        attempts = self.attempts()
        record, path, problems = self._record(attempts)
        outcomes = [attempt.outcome for attempt in attempts]
        finished = [a for a, o in zip(attempts, outcomes, strict=True) if o is not None and o.end == "finished"]
        request = attempts[-1].request if attempts else None
        status, reason = _judge(record, bool(problems), bool(finished), outcomes)
        return JobState(
            status,
            "; ".join(filter(None, [reason, *problems])),
            record=record,
            record_path=path,
            notebook_path=finished[-1].notebook if finished and finished[-1].notebook.is_file() else None,
            attempts=len(attempts),
            last=outcomes[-1] if outcomes else None,
            last_kind=request.kind if request else None,
        )

    def _record(self, attempts: list[Attempt]) -> tuple[Record | None, Path | None, list[str]]:
        """Return the first valid record, else the newest invalid one, and the problems of others."""
        best, path, problems = None, None, []
        for attempt in attempts:
            if not attempt.record.exists():
                continue
            try:
                record = store.read_record(attempt.record)
            except RecordError as error:
                problems.append(str(error))
                continue
            if not self.job.owns(record):
                problems.append(f"{attempt.record} belongs to job {record.job_id}; move it to that job's folder")
            elif record.valid:
                return record, attempt.record, problems
            else:
                best, path = record, attempt.record
        return best, path, problems


def _judge(record: Record | None, lost: bool, finished: bool, outcomes: list[Outcome | None]) -> tuple[Status, str]:
    last = outcomes[-1] if outcomes else None
    if outcomes and last is None:
        return "running", ""
    if record is not None and not record.valid:
        return "invalid", ", ".join(record.reasons)
    if record is not None:
        return ("done", "") if finished else ("measured", f"notebook not finished: {last.reason or last.end}")
    if last is None:
        return "left", ""
    if last.end in ("cell_error", "time_limit", "kernel_died"):
        return "failed", last.reason
    if last.end == "finished" and lost:
        return "left", "its record is lost"
    if last.end == "finished":
        return "failed", "the notebook finished without a readable record; it must write one to output_folder"
    return "left", f"{last.end}: {last.reason}" if last.reason else last.end


class StudyFolder:
    """``results/NAME/``."""

    def __init__(self, name: str, results: str | Path = "results") -> None:
        self.name = name
        self.path = Path(results) / name
        self.study_file = self.path / "study.yaml"
        self.lock_file = self.path / "lock.yaml"
        self._source_file = self.path / ".source"
        self._runner_file = self.path / ".runner"

    @property
    def lock(self) -> Lock | None:
        """The frozen revisions, or None if nothing was fetched."""
        return Lock.read(self.lock_file)

    def job(self, job: Job) -> JobFolder:
        """Return the folder of one job, whether or not it exists yet."""
        return JobFolder(self.path / job.id, job)

    def check_source(self, plan: Plan) -> None:
        """Refuse a study if its folder belongs to another file of the same name."""
        known = self._source_file.read_text(encoding="utf-8") if self._source_file.is_file() else ""
        here = str(plan.source.resolve()) if plan.source else ""
        mine = plan.source is None or here in (known, str(self.study_file.resolve()))
        other = Path(known)
        if known and not mine and other.is_file() and other.read_text(encoding="utf-8") != plan.text:
            raise StudyError(
                f"{self.path} holds the study {known}, and {here} has the same name; rename one of the two files, or "
                "choose another folder with --results"
            )

    def prepare(self, plan: Plan) -> None:
        """Make the folder and copy the study's file to it."""
        self.check_source(plan)
        if not self.study_file.is_file() or self.study_file.read_text(encoding="utf-8") != plan.text:
            write_whole(self.study_file, plan.text)
        if plan.source and plan.source.resolve() != self.study_file.resolve():
            write_whole(self._source_file, str(plan.source.resolve()))

    def states(self, plan: Plan) -> dict[Job, JobState]:
        """Return the state of every planned job, in the plan's order."""
        return {job: self.job(job).state() for job in plan.jobs}

    def unplanned(self, plan: Plan) -> list[str]:
        """Return the names of job folders that are no longer planned, for example after an edit of the study."""
        planned = {job.id for job in plan.jobs}
        return sorted({path.parent.name for path in self.path.glob("*/attempt-*")} - planned)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the study's lock, so that only one runner works on it; the operating system releases it at the end."""
        held = self._acquire(timeout_s=1.0)
        if held is None:
            who = self._runner_file.read_text(encoding="utf-8") if self._runner_file.is_file() else "another process"
            raise StudyError(
                f"study {self.name!r} is already being run by {who}; wait for it, or see "
                f"`energylab study status {self.name}`"
            )
        try:
            write_whole(self._runner_file, f"process {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            held.release()

    def is_running(self) -> bool:
        """Whether a runner holds the study's lock."""
        if not self._runner_file.is_file():
            return False
        try:
            held = self._acquire(timeout_s=0.0)
        except StudyError:  # a read-only folder, in which no study can run
            return False
        if held is not None:
            held.release()
        return held is None

    def _acquire(self, timeout_s: float) -> FileLock | SoftFileLock | None:
        """Acquire and return the lock; None while another process holds it."""
        path = self.path / ".runner.lock"
        for kind in (FileLock, SoftFileLock):
            lock = kind(path if kind is FileLock else f"{path}.soft", timeout=timeout_s)
            try:
                lock.acquire()
                return lock
            except Timeout:
                return None
            except OSError as error:
                if kind is SoftFileLock or error.errno not in _NO_FLOCK:
                    raise cannot_write(path, error) from error
        return None


def planned_roots(roots: Sequence[str | os.PathLike]) -> list[str | os.PathLike]:
    """Return the paths to read below some roots, without jobs that their studies no longer plan."""
    found: list[str | os.PathLike] = []
    for root in roots:
        strays = set(_strays(Path(root)))
        folders = [path.parent for path in store.find([root])] if strays else []
        found += [folder for folder in folders if not strays & set(folder.resolve().parents)] if strays else [root]
    return found


def _strays(root: Path) -> Iterator[Path]:
    """Yield the folders of jobs under a root that its studies do not plan."""
    for file in sorted(root.rglob("study.yaml")) if root.is_dir() else ():
        folder = StudyFolder(file.parent.name, file.parent.parent)
        plan = planning.freeze(planning.load(file), folder.lock)
        yield from ((folder.path / name).resolve() for name in folder.unplanned(plan))
