"""What a study leaves on disk, and what state each of its jobs is in.

``results/NAME/study.yaml``, ``lock.yaml``, and per job ``JOB_ID/attempt-N/`` with ``request.json`` (what was asked),
``record.json`` (written by the measuring cell), ``notebook.ipynb``, ``log.txt``, ``figures/`` and ``outcome.json``
(how it ended). State is always derived from these files; nothing else remembers anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from energylab import store
from energylab.errors import RecordError, StudyError
from energylab.record import Record
from energylab.studies.files import cannot_write, write_whole
from energylab.studies.plan import Job, Plan

Kind = Literal["measure", "render"]
End = Literal["finished", "cell_error", "kernel_died", "infrastructure", "time_limit", "interrupted"]
Status = Literal["done", "measured", "running", "failed", "invalid", "left"]


class Request(BaseModel):
    """What one attempt is asked to do; written before its process starts."""

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
    """How one attempt ended; written last."""

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
        """What was asked, or None when the machine stopped before that was written."""
        return _read(Request, self.path / "request.json")

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, or None while it runs and after a sudden death."""
        return _read(Outcome, self.path / "outcome.json")

    def start(self, request: Request) -> None:
        """Write down what is asked, before the process starts."""
        write_whole(self.path / "request.json", request.model_dump_json(indent=1))

    def close(self, outcome: Outcome) -> None:
        """Write down how it ended."""
        write_whole(self.path / "outcome.json", outcome.model_dump_json(indent=1))


def _read(model: type[BaseModel], path: Path) -> Any:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StudyError(f"{path} is unreadable ({error}); delete its attempt folder to run the job again") from error


@dataclass(frozen=True)
class JobState:
    """What the files of one job say.

    Attributes
    ----------
    status : str
        ``done`` (measured and rendered), ``measured`` (record whole, notebook not finished), ``running``,
        ``failed``, ``invalid`` (the record says that it may not be used) or ``left``.
    reason : str
        Why, where there is something to say.
    record : Record or None
        The job's record, valid or not.
    record_path, notebook_path : pathlib.Path or None
        Where it lies, and the newest finished notebook.
    attempts : int
        Tries so far.
    last : Outcome or None
        How the newest attempt ended.
    """

    status: Status
    reason: str = ""
    record: Record | None = field(default=None, repr=False)
    record_path: Path | None = None
    notebook_path: Path | None = None
    attempts: int = 0
    last: Outcome | None = None
    last_kind: Kind | None = None

    @property
    def measured(self) -> bool:
        """Whether a valid record exists: such a job is never measured again."""
        return self.record is not None and self.record.valid


class JobFolder:
    """The attempts of one job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job_id = path.name

    def attempts(self) -> list[Attempt]:
        """Return every attempt, oldest first."""
        found = [Attempt(path) for path in self.path.glob("attempt-*") if path.is_dir()]
        return sorted(found, key=lambda attempt: attempt.number)

    def new_attempt(self) -> Attempt:
        """Make the next attempt's folder; two callers at once get two folders.

        Raises
        ------
        StudyError
            If the folder cannot be made.
        """
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
        """Read the job's files and say what state it is in.

        An attempt without an outcome counts as running; a runner that starts closes those that a dead one left.
        """
        attempts = self.attempts()
        record, path, problems = self._record(attempts)
        outcomes = [attempt.outcome for attempt in attempts]
        finished = [a for a, o in zip(attempts, outcomes, strict=True) if o is not None and o.end == "finished"]
        request = attempts[-1].request if attempts else None
        facts = {
            "record": record,
            "record_path": path,
            "notebook_path": finished[-1].notebook if finished else None,
            "attempts": len(attempts),
            "last": outcomes[-1] if outcomes else None,
            "last_kind": request.kind if request else None,
        }
        status, reason = _judge(record, bool(problems), bool(finished), attempts, outcomes)
        return JobState(status, "; ".join(filter(None, [reason, *problems])), **facts)

    def _record(self, attempts: list[Attempt]) -> tuple[Record | None, Path | None, list[str]]:
        """Return the first valid record, else the newest invalid one, and what is wrong with others."""
        best, path, problems = None, None, []
        for attempt in attempts:
            if not attempt.record.exists():
                continue
            try:
                record = store.read_record(attempt.record)
            except RecordError as error:
                problems.append(str(error))
                continue
            if record.job_id != self.job_id:
                problems.append(f"{attempt.record} belongs to job {record.job_id}; move it there")
            elif record.valid:
                return record, attempt.record, problems
            else:
                best, path = record, attempt.record
        return best, path, problems


def _judge(
    record: Record | None, lost: bool, finished: bool, attempts: list[Attempt], outcomes: list[Outcome | None]
) -> tuple[Status, str]:
    last = outcomes[-1] if outcomes else None
    if attempts and last is None:
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
    """``results/NAME/``.

    Parameters
    ----------
    name : str
        Name of the study.
    results : path
        The folder of all studies.
    """

    def __init__(self, name: str, results: str | Path = "results") -> None:
        self.name = name
        self.path = Path(results) / name
        self.study_file = self.path / "study.yaml"
        self.lock_file = self.path / "lock.yaml"

    def job(self, job_id: str) -> JobFolder:
        """Return the folder of one job, whether or not it exists yet."""
        return JobFolder(self.path / job_id)

    def prepare(self, plan: Plan) -> None:
        """Make the folder and keep the study's file in it."""
        if not self.study_file.is_file() or self.study_file.read_text(encoding="utf-8") != plan.text:
            write_whole(self.study_file, plan.text)

    def states(self, plan: Plan) -> dict[Job, JobState]:
        """Return the state of every planned job, in the plan's order."""
        return {job: self.job(job.id).state() for job in plan.jobs}

    def unplanned(self, plan: Plan) -> list[str]:
        """Return ids of jobs that have a folder here but are not planned: an edited study leaves such."""
        planned = {job.id for job in plan.jobs}
        found = {path.parent.name for path in self.path.glob("*/attempt-*")}
        return sorted(found - planned)
