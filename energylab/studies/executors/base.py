"""What every executor is: it takes work, starts one process for each piece, and says how each ended."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from energylab.studies.folder import Attempt, JobFolder, Kind, Outcome, Request, StudyFolder
from energylab.studies.plan import Job, StudyFile
from energylab.studies.processes import describe_exit


@dataclass
class Work:
    """One attempt that is due: a job to measure, or a record to render."""

    job: Job
    folder: JobFolder
    kind: Kind
    notebook: Path
    record: Path | None = None  # to render
    params: str | None = None
    time_limit_s: float | None = None

    def begin(self, executor: str, devices: tuple[str, ...] = (), environment: dict[str, str] | None = None,
              slurm_job: str | None = None) -> Attempt:  # fmt: skip
        """Make the next attempt's folder and write down what is asked of it."""
        attempt = self.folder.new_attempt()
        parameters = {**self.job.values, "attempt": attempt.number, "output_folder": str(attempt.path)}
        if self.kind == "render":
            parameters["record"] = str(self.record)
        if self.params is not None:
            parameters["params"] = self.params
        attempt.start(
            Request(
                job_id=self.job.id,
                kind=self.kind,
                notebook=str(self.notebook),
                parameters=parameters,
                environment=environment or {},
                executor=executor,
                host=socket.gethostname(),
                devices=devices,
                slurm_job=slurm_job,
                started_utc=datetime.now(UTC),
            )
        )
        return attempt


@dataclass(frozen=True)
class Ended:
    """A piece of work that has come to its end.

    Attributes
    ----------
    work : Work
    attempt : Attempt or None
        Its last attempt; None when it was lost before it made one.
    outcome : Outcome
        How it ended.
    tries : int
        Attempts it took.
    """

    work: Work
    attempt: Attempt | None
    outcome: Outcome
    tries: int = 1


def died(status: int | None, attempt: Attempt) -> Outcome:
    """Return the outcome of a job's process that ended without a word: its machine or its runner failed it."""
    return Outcome.now("infrastructure", f"the job's process ended early ({describe_exit(status)}); see {attempt.log}")


def overdue(limit_s: float) -> Outcome:
    """Return the outcome of a job that was stopped after its time limit."""
    reason = f"stopped after its time limit of {limit_s:g} s; raise time_limit_s in the study"
    return Outcome.now("time_limit", reason, limit_s)


class Executor(ABC):
    """Base of all executors. Creating one starts nothing.

    Attributes
    ----------
    name : str
        As it is registered.
    parallel : int
        Jobs that may run at once.
    """

    name: str
    parallel: int = 1

    @classmethod
    @abstractmethod
    def from_study(cls, study: StudyFile, devices: str, cold: bool) -> Executor:
        """Make the executor that a study asks for.

        Parameters
        ----------
        study : StudyFile
        devices : str
            As the user names them, or ``auto``.
        cold : bool
            Start every kernel from nothing.
        """

    def adopt(self, work: Sequence[Work]) -> None:  # noqa: B027 - only executors that outlive a run
        """Wait for pieces that an earlier run handed over and that still run."""

    def open(self, folder: StudyFolder, environment: Mapping[str, str]) -> None:  # noqa: B027 - many need nothing
        """Get ready to run jobs of the study in `folder`, with variables for every process; its lock is held."""

    def close(self) -> None:  # noqa: B027 - many took nothing
        """Release what `open` took. Nothing runs any more."""

    @abstractmethod
    def offer(self, work: Sequence[Work]) -> int:
        """Start as many of the first pieces as there is room for; return how many were taken."""

    @abstractmethod
    def wait(self, timeout_s: float) -> list[Ended]:
        """Return what has ended, after at most `timeout_s` seconds; every attempt returned has its outcome."""

    @abstractmethod
    def running(self) -> list[Work]:
        """Return the pieces that were taken and have not ended."""

    @abstractmethod
    def cancel(self, reason: str) -> list[Ended]:
        """Stop everything that runs, with its children, and close it as interrupted; return what was stopped."""

    def refuses(self, job: Job) -> str:
        """Return why this executor can never run `job`, or an empty text."""
        return ""
