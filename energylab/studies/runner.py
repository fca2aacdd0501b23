"""Run what a study still lacks: decide, hand out, judge, retry what the machine failed, go on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from energylab.errors import StudyError
from energylab.studies.executors.base import Ended, Executor, Work
from energylab.studies.files import cannot_write
from energylab.studies.folder import JobState, Kind, Outcome, StudyFolder
from energylab.studies.plan import Job, Plan
from energylab.studies.processes import kill_marked

#: How often a job is tried again in one run when the machine failed it, not the notebook.
RETRIES = 2

#: Free space without which no job is started, in bytes: a record and its notebook must fit, or a measurement is lost.
LEAST_FREE_BYTES = 20_000_000

#: Ends that are the machine's or the user's doing: the job is taken up again.
RESUMABLE = ("interrupted", "infrastructure")


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


def due(state: JobState, again: tuple[str, ...] = ()) -> Kind | None:
    """Say what a job still needs: to be measured, only to be rendered, or nothing.

    Parameters
    ----------
    state : JobState
        What its files say.
    again : tuple of str
        ``failed`` and ``invalid``: states that the user asks to try once more.

    Returns
    -------
    "measure", "render" or None
        An error in a cell is not repeated unasked: it would come again.
    """
    if state.status == "measured":
        gave_up = state.last_kind == "render" and state.last is not None and state.last.end not in RESUMABLE
        return None if gave_up and "failed" not in again else "render"
    if state.status == "left":
        return "measure"
    if state.status == "failed" and state.last is not None and state.last.end == "kernel_died":
        return "measure"
    return "measure" if state.status in again else None


def run(
    plan: Plan,
    folder: StudyFolder,
    executor: Executor,
    *,
    again: tuple[str, ...] = (),
    limit: int | None = None,
    params: str | None = None,
    on_event: Callable[[str, Job, JobState], None] = lambda event, job, state: None,
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
    on_event : callable
        Called with ``"start"``, ``"end"`` or ``"retry"``, the job and its state.

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
        close_abandoned(plan, folder)
        states = folder.states(plan)
        summary = Summary(states=states)
        queue = deque(_due_work(plan, folder, states, again, params))
        for work in [work for work in queue if executor.refuses(work.job)]:
            summary.refused[work.job] = executor.refuses(work.job)
            queue.remove(work)
        queue = deque(list(queue)[:limit])
        with contextlib.closing(executor):
            executor.open(folder)
            _loop(queue, executor, summary, on_event)
        return summary


def _due_work(plan: Plan, folder: StudyFolder, states: dict[Job, JobState], again, params) -> Iterator[Work]:
    for job, state in states.items():
        kind = due(state, again)
        if kind is not None:
            yield Work(job, folder.job(job.id), kind, plan.notebook, state.record_path, params, plan.study.time_limit_s)


def _loop(queue: deque[Work], executor: Executor, summary: Summary, on_event) -> None:
    tries: Counter[str] = Counter()
    try:
        while queue or executor.running():
            if queue:
                check_space(queue[0].folder.path.parent)
            for _ in range(executor.offer(queue)):
                work = queue.popleft()
                summary.attempts += 1
                tries[work.job.id, work.kind] += 1
                on_event("start", work.job, summary.states[work.job])
            for ended in executor.wait(timeout_s=1.0):
                following = _judge(ended, tries, summary, on_event)
                if following is not None:
                    queue.append(following)
    except KeyboardInterrupt:
        summary.interrupted = True
    finally:
        for ended in executor.cancel("stopped by the user" if summary.interrupted else "the runner stopped"):
            summary.states[ended.work.job] = ended.work.folder.state()


def _judge(ended: Ended, tries: Counter, summary: Summary, on_event) -> Work | None:
    """Note how a piece of work ended; return what this run tries next for the same job, if anything."""
    work = ended.work
    state = work.folder.state()
    summary.states[work.job] = state
    kind = due(state)
    wanted = kind == "render" or (kind == "measure" and ended.outcome.end == "infrastructure")
    if wanted and tries[work.job.id, kind] <= RETRIES and ended.outcome.end != "interrupted":
        on_event("retry", work.job, state)
        return Work(work.job, work.folder, kind, work.notebook, state.record_path, work.params, work.time_limit_s)
    on_event("end", work.job, state)
    return None


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


def close_abandoned(plan: Plan, folder: StudyFolder) -> None:
    """Close attempts that a dead runner left open, and end what still runs of them.

    Called by the one runner that holds the study's lock: whatever is open then has no owner.
    """
    kill_marked(str(folder.path.resolve()))
    for job in plan.jobs:
        for attempt in folder.job(job.id).attempts():
            if attempt.outcome is None:
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
    path = Path(folder.path / ".runner")
    if not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
