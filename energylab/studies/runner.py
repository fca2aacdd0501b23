"""Run what a study still lacks: decide, hand out, judge, retry what the machine failed, go on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from energylab.errors import StudyError
from energylab.studies import lock
from energylab.studies.executors.base import Ended, Executor, Work
from energylab.studies.executors.slurm import living
from energylab.studies.files import cannot_write
from energylab.studies.folder import JobState, Outcome, StudyFolder
from energylab.studies.plan import Job, Plan
from energylab.studies.policy import RETRIES, due
from energylab.studies.processes import kill_marked

#: Free space without which no job is started, in bytes: a record and its notebook must fit, or a measurement is lost.
LEAST_FREE_BYTES = 20_000_000

#: Called with ``"start"``, ``"end"`` or ``"retry"``, the job and its state.
OnEvent = Callable[[str, Job, JobState], None]


def _silent(event: str, job: Job, state: JobState) -> None:
    """Take no note of an event."""


@dataclass
class Summary:
    """What one call of `run` did.

    Attributes
    ----------
    states : dict of Job to JobState
        Every planned job, afterwards.
    attempts : int
        Attempts that were started.
    refused : dict of Job to str
        Jobs that this executor cannot run, and why; they stay left.
    interrupted : bool
        Whether it was stopped before the end.
    """

    states: dict[Job, JobState] = field(default_factory=dict)
    attempts: int = 0
    refused: dict[Job, str] = field(default_factory=dict)
    interrupted: bool = False


def run(
    plan: Plan,
    folder: StudyFolder,
    executor: Executor,
    *,
    again: tuple[str, ...] = (),
    limit: int | None = None,
    params: str | None = None,
    detach: bool = False,
    on_event: OnEvent = _silent,
) -> Summary:
    """Run every job that the study still lacks.

    Parameters
    ----------
    plan : Plan
    folder : StudyFolder
        Where results are, and are left.
    executor : Executor
    again : tuple of str
        ``failed``, ``invalid``: also these.
    limit : int, optional
        Start at most so many jobs.
    params : str, optional
        Folder laid out like ``params/``, passed on to the notebook.
    detach : bool
        Return once every job is handed over, and leave them running; for executors that outlive this process.
    on_event : callable
        See `OnEvent`.

    Returns
    -------
    Summary

    Raises
    ------
    StudyError
        If another runner works on this study, or the folder cannot be written to.
    """
    folder.prepare(plan)
    with exclusive(folder):
        elsewhere = set(living(folder).values())
        close_abandoned(plan, folder, elsewhere)
        summary = Summary(states=folder.states(plan))
        works = list(_works(plan, folder, summary.states, again, params))
        queue = [work for work in works if work.job.id not in elsewhere and due(summary.states[work.job], again)]
        summary.refused = {work.job: why for work in queue if (why := executor.refuses(work.job))}
        queue = [work for work in queue if work.job not in summary.refused][:limit]
        with contextlib.closing(executor):
            executor.open(folder, lock.environment(lock.read(folder)))
            executor.adopt([work for work in works if work.job.id in elsewhere])
            _Loop(executor, summary, on_event).run(deque(queue), detach)
        return summary


def _works(
    plan: Plan, folder: StudyFolder, states: dict[Job, JobState], again: tuple[str, ...], params: str | None
) -> Iterator[Work]:
    for job, state in states.items():
        kind = due(state, again) or "measure"
        yield Work(job, folder.job(job.id), kind, plan.notebook, state.record_path, params, plan.study.time_limit_s)


class _Loop:
    """One run: hands work out and judges what comes back, until nothing is due."""

    def __init__(self, executor: Executor, summary: Summary, on_event: OnEvent) -> None:
        self.executor = executor
        self.summary = summary
        self.on_event = on_event
        self._tries: Counter[tuple[str, str]] = Counter()

    def run(self, queue: deque[Work], detach: bool = False) -> None:
        reason = "the runner stopped"
        try:
            while queue or (self.executor.running() and not detach):
                self._hand_out(queue)
                for ended in self.executor.wait(timeout_s=1.0) if not detach else ():
                    queue.extend(self._judge(ended))
        except KeyboardInterrupt:
            self.summary.interrupted = True
            reason = "stopped by the user"
        except StudyError as error:
            reason = str(error)
            raise
        finally:
            for ended in self.executor.cancel(reason) if not detach or self.summary.interrupted else ():
                self.summary.states[ended.work.job] = ended.work.folder.state()

    def _hand_out(self, queue: deque[Work]) -> None:
        if queue:
            check_space(queue[0].folder.path.parent)
        for _ in range(self.executor.offer(queue)):
            work = queue.popleft()
            self.summary.attempts += 1
            self.on_event("start", work.job, self.summary.states[work.job])

    def _judge(self, ended: Ended) -> list[Work]:
        """Note how a piece of work ended; return what this run tries next for the same job, if anything."""
        work = ended.work
        state = work.folder.state()
        self.summary.states[work.job] = state
        self._tries[work.job.id, work.kind] += ended.tries
        kind = due(state)
        wanted = kind == "render" or (kind == "measure" and ended.outcome.end == "infrastructure")
        if wanted and ended.outcome.end != "interrupted" and self._tries[work.job.id, kind] <= RETRIES:
            self.on_event("retry", work.job, state)
            return [Work(work.job, work.folder, kind, work.notebook, state.record_path, work.params, work.time_limit_s)]
        self.on_event("end", work.job, state)
        return []


def check_space(folder: Path) -> None:
    """Refuse to start a job whose record might not fit on the disk any more.

    Raises
    ------
    StudyError
        Says how much is free.
    """
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise StudyError(
            f"only {free / 1e6:.0f} MB are free in {folder}, a job may need {LEAST_FREE_BYTES / 1e6:.0f}; "
            "free space or choose another folder with --results"
        )


def close_abandoned(plan: Plan, folder: StudyFolder, elsewhere: Collection[str] = ()) -> None:
    """Close attempts that a dead runner left open, and end what still runs of them.

    Called by the one runner that holds the study's lock: whatever is open then has no owner, unless its job's id is
    in `elsewhere`.
    """
    kill_marked(folder.path, spare=[folder.path / job_id for job_id in elsewhere])
    for job in plan.jobs:
        for attempt in folder.job(job.id).attempts() if job.id not in elsewhere else ():
            if attempt.outcome is None:
                for temporary in attempt.path.glob(".*.tmp"):  # cut off while it was written
                    temporary.unlink()
                attempt.close(Outcome.now("interrupted", "its runner was killed"))


@contextlib.contextmanager
def exclusive(folder: StudyFolder) -> Iterator[None]:
    """Hold the study's lock: one runner at a time. The operating system lets go of it however the runner ends.

    Raises
    ------
    StudyError
        If another runner holds it; names the process.
    """
    path = folder.path / ".runner"
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StudyError(
                f"study {folder.name!r} is already being run by {file.read().strip() or 'another process'}; "
                f"wait for it, or look with: energylab study status {folder.name}"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def is_running(folder: StudyFolder) -> bool:
    """Say whether a runner holds the study's lock."""
    path = folder.path / ".runner"
    if not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
