"""Jobs on a Slurm cluster, submitted as arrays by submitit; each task runs the same job process as elsewhere."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from energylab.errors import MissingExtraError, StudyError, problem_text
from energylab.files import write_whole
from energylab.publish.text import plural
from energylab.studies.plan import SlurmSettings
from energylab.studies.run import MARKER, Book, Work, check_space, died, kill_marked, overdue
from energylab.studies.state import RESUMABLE, RETRIES, Attempt, Kind, Outcome, StudyFolder

#: Slurm's states of jobs that have not ended.
_ALIVE = (
    "PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "CONFIGURING", "COMPLETING", "STOPPED", "RESIZING", "SIGNALING",
)  # fmt: skip

#: State of a submitted job on a machine without squeue.
UNKNOWN = "UNKNOWN"

#: Slurm's default of MaxArraySize.
_ARRAY_SIZE = 1001


def slurm(
    book: Book, settings: SlurmSettings, detach: bool = False, poll_s: float = 5.0, patience_s: float = 20.0
) -> None:
    """Submit jobs to Slurm and wait for them."""
    ids = {job_id: slurm_id for slurm_id, job_id in living(book.folder).items()}
    submitted = {ids[work.job.id]: work for work in book.adopted}
    try:
        import submitit
    except ImportError as error:
        raise MissingExtraError("the slurm executor needs submitit: pip install 'energylab[slurm]'") from error
    most = array_size()
    gone_since: dict[str, float] = {}
    try:
        while book.queue or (submitted and not detach):
            submitted.update(_submit(book, settings, submitit, most))
            if detach:
                return
            time.sleep(poll_s)
            states = ask_states(book.folder, list(submitted))
            for slurm_id, work in list(submitted.items()):
                state = states.get(slurm_id, "")
                since = gone_since.setdefault(slurm_id, time.monotonic())
                if state in _ALIVE:
                    del gone_since[slurm_id]
                elif (ended := _ended(work, slurm_id, state, time.monotonic() - since > patience_s)) is not None:
                    del submitted[slurm_id]
                    book.ended(work, ended, tries=max(len(_attempts(work, slurm_id)), 1))
    except BaseException as error:
        _cancel(book.folder, submitted, str(error) or "stopped by the user")
        raise


def _ended(work: Work, slurm_id: str, state: str, give_up: bool) -> Outcome | None:
    """Return how a job that is no longer in Slurm ended; None while its outcome may still appear."""
    attempts = _attempts(work, slurm_id)
    if attempts and attempts[-1].outcome is not None:
        return attempts[-1].outcome
    if not give_up:
        return None
    lost = Outcome.now("infrastructure", f"Slurm ended the job without an outcome ({state or 'no longer known'})")
    lost = Outcome.now("interrupted", "cancelled in Slurm") if state.startswith("CANCELLED") else lost
    return attempts[-1].close(lost) if attempts else lost


def _attempts(work: Work, slurm_id: str) -> list[Attempt]:
    return [a for a in work.folder.attempts() if (r := a.request) is not None and r.slurm_job == slurm_id]


def _cancel(folder: StudyFolder, submitted: Mapping[str, Work], reason: str, timeout_s: float = 60.0) -> None:
    """Cancel every job of this run in Slurm, wait until none runs, and close the attempts that were running."""
    if submitted:
        _slurm("scancel", *submitted)
    deadline = time.monotonic() + timeout_s
    while submitted and any(state in _ALIVE for state in ask_states(folder, list(submitted)).values()):
        if time.monotonic() > deadline:
            raise StudyError(f"Slurm did not end {', '.join(submitted)} within {timeout_s:g} s; see squeue")
        time.sleep(0.5)
    for slurm_id, work in submitted.items():
        for attempt in _attempts(work, slurm_id):
            attempt.close(Outcome.now("interrupted", reason))


def _submit(book: Book, settings: SlurmSettings, submitit: Any, most: int) -> dict[str, Work]:
    """Submit all queued work: one array per number of devices, split if it exceeds Slurm's largest array."""
    pieces = list(book.queue)
    if not pieces:
        return {}
    check_space(book.folder.path)
    book.queue.clear()
    pieces.sort(key=lambda work: work.job.parameters.gpus)  # stable: in the planned order
    arrays = []
    for gpus, same in itertools.groupby(pieces, lambda work: work.job.parameters.gpus):
        same = list(same)
        arrays += [(gpus, same[at : at + most]) for at in range(0, len(same), most)]
    settings = settings.model_copy(update={"max_parallel": max(1, settings.max_parallel // len(arrays))})
    submitted: dict[str, Work] = {}
    for gpus, some in arrays:
        name = f"energylab-{book.folder.name}-{secrets.token_hex(4)}"
        executor = submitit.AutoExecutor(folder=book.folder.path.resolve() / "slurm", cluster="slurm")
        executor.update_parameters(**_options(settings, name, gpus))
        executor._executor.max_num_timeout = RETRIES
        try:
            with executor.batch():
                jobs = [executor.submit(SlurmTask(piece, book.environment)) for piece in some]
        except (RuntimeError, subprocess.CalledProcessError) as error:  # submitit: sbatch refused
            _cancel(book.folder, submitted, "Slurm refused the other jobs")
            raise StudyError(f"Slurm refused the jobs: {error}; correct the slurm settings of the study") from error
        handed = {job.job_id: piece for job, piece in zip(jobs, some, strict=True)}
        _note(book.folder, {slurm_id: Handed(job=piece.job.id, name=name) for slurm_id, piece in handed.items()})
        submitted.update(handed)
        for piece in some:
            book.announce(piece)
    return submitted


def array_size() -> int:
    """Return the largest number of tasks in an array on this cluster."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _slurm("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(found[1]) if found else _ARRAY_SIZE)


def _options(settings: SlurmSettings, name: str, gpus: int) -> dict[str, Any]:
    """Return the options of submitit for jobs that need `gpus` devices."""
    given = {
        "name": name,
        "timeout_min": settings.time_limit_min,
        "cpus_per_task": settings.cpus,
        "mem_gb": settings.memory_gb,
        **{f"slurm_{field}": getattr(settings, field) for field in ("partition", "account", "qos", "constraint")},
        "slurm_gres": f"{settings.gres}:{gpus}" if settings.gres else None,
        "slurm_exclusive": settings.exclusive or None,
        "slurm_array_parallelism": settings.max_parallel,
        "slurm_setup": list(settings.setup) or None,
        "slurm_signal_delay_s": settings.signal_delay_s,
        "slurm_additional_parameters": {"requeue": True},
    }
    return {key: value for key, value in given.items() if value is not None}


class Handed(BaseModel):
    """A job that was submitted to Slurm."""

    job: str  # its id in the study
    name: str  # Slurm's name for it


_NOTED = TypeAdapter(dict[str, Handed])  # by Slurm's id: the content of slurm.json


def handed_over(folder: StudyFolder) -> dict[str, Handed]:
    """Return the submitted jobs without a final outcome, by Slurm's id."""
    path = folder.path / "slurm.json"
    try:
        noted = _NOTED.validate_json(path.read_bytes()) if path.is_file() else {}
    except ValidationError as error:
        raise StudyError(
            f"{path} is not a valid list of submitted jobs ({problem_text(error.errors()[0])}); delete it when squeue "
            "shows none of the study's jobs"
        ) from None
    requests = ((a, a.request) for p in folder.path.glob("*/attempt-*") for a in [Attempt(p)])
    over = {r.slurm_job for a, r in requests if r is not None and a.outcome and a.outcome.end not in RESUMABLE}
    return {slurm_id: handed for slurm_id, handed in noted.items() if slurm_id not in over}


def ask_states(folder: StudyFolder, slurm_ids: Sequence[str]) -> dict[str, str]:
    """Return Slurm's state of each job of the study that it still knows, by submitit's id (``12_3``).

    A job with another name does not belong to the study: ids are reused on other clusters and after a reset.
    """
    names = {slurm_id: handed.name for slurm_id, handed in handed_over(folder).items()}
    known: dict[str, str] = {}
    for main in sorted({slurm_id.split("_")[0] for slurm_id in slurm_ids}):
        answer = _slurm("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%j", "--jobs", main)
        lines = [[part.strip() for part in line.split("|", 2)] for line in answer.splitlines() if line.count("|") >= 2]
        known.update({slurm_id: state for slurm_id, state, name in lines if names.get(slurm_id, name) == name})
    return {slurm_id: known[slurm_id] for slurm_id in slurm_ids if slurm_id in known}


def waiting(folder: StudyFolder) -> dict[str, tuple[str, str]]:
    """Return the jobs of a study that have not ended in Slurm: Slurm's id to job id and state.

    Outside the cluster, all submitted jobs without an outcome are `UNKNOWN`.
    """
    noted = handed_over(folder)
    if shutil.which("squeue") is None:
        return {slurm_id: (handed.job, UNKNOWN) for slurm_id, handed in noted.items()}
    states = ask_states(folder, list(noted))
    return {slurm_id: (noted[slurm_id].job, state) for slurm_id, state in states.items() if state in _ALIVE}


def living(folder: StudyFolder) -> dict[str, str]:
    """Return the jobs of a study that wait or run in Slurm: Slurm's id to job id."""
    found = waiting(folder)
    unknown = [slurm_id for slurm_id, (_, state) in found.items() if state == UNKNOWN]
    if unknown:
        raise StudyError(
            f"{plural(len(unknown), 'job')} of this study submitted to Slurm without an outcome, and squeue is not "
            f"installed here; use the cluster's login node, or delete {folder.path / 'slurm.json'} to run them here"
        )
    return {slurm_id: job_id for slurm_id, (job_id, _) in found.items()}


def _note(folder: StudyFolder, submitted: Mapping[str, Handed]) -> None:
    """Store submitted jobs, so that a later runner does not submit them again."""
    write_whole(folder.path / "slurm.json", _NOTED.dump_json({**handed_over(folder), **submitted}, indent=1).decode())


def _slurm(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        raise StudyError(f"{program} is not installed here; use a login node of the Slurm cluster, or --executor local")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode and "Invalid job id" not in done.stderr:  # Slurm forgets jobs some minutes after their end
        raise StudyError(f"{program} failed: {done.stderr.strip()}")
    return done.stdout


@dataclass
class SlurmTask:
    """A job on its node; Slurm starts it again after a preemption, a time limit or a lost node."""

    work: Work
    environment: dict[str, str] = field(default_factory=dict)
    attempt: Attempt | None = field(default=None, repr=False)

    def __call__(self) -> str:
        """Run the next attempt; return how it ended."""
        slurm_job = slurm_id()
        earlier = _attempts(self.work, slurm_job)
        for attempt in earlier:
            attempt.close(Outcome.now("infrastructure", "Slurm started it again: preempted, or its node was lost"))
        kind = self._due()
        if kind is None:
            return "nothing is due"
        if len(earlier) > RETRIES:
            return f"given up after {len(earlier)} attempts"
        self.work.kind, self.work.record = kind, self.work.folder.state().record_path
        devices = tuple(filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")))
        self.attempt = self.work.begin("slurm", devices, self.environment, slurm_job)
        try:
            otherwise = self._run()
        finally:
            kill_marked(self.attempt.path)
        ended = self.attempt.outcome or (self.attempt.close(otherwise) if otherwise else None)
        return ended.end if ended else "ended by Slurm"

    def checkpoint(self) -> object:
        """Write the outcome before Slurm takes the node; called by submitit on the warning signal."""
        from submitit.helpers import DelayedSubmission

        if self.attempt is not None:
            kill_marked(self.attempt.path)
            self.attempt.close(Outcome.now("infrastructure", "Slurm took the node: preemption or time limit"))
        return DelayedSubmission(SlurmTask(self.work, self.environment))

    def _due(self) -> Kind | None:
        """Return what is to do now; a record of an earlier start is not measured again."""
        state = self.work.folder.state()
        return state.due() if state.measured and self.work.kind == "measure" else self.work.kind

    def _run(self) -> Outcome | None:
        """Run the job's process; return its outcome in case it has written none.

        None if it was terminated, which was done by Slurm.
        """
        marked = {**os.environ, **self.environment, MARKER: str(self.attempt.path.resolve())}
        limit_s = self.work.time_limit_s
        with self.attempt.log.open("wb") as log:
            try:
                done = subprocess.run(
                    self.work.command(self.attempt), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    env=marked, timeout=limit_s, check=False, preexec_fn=_ignore_warnings,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return overdue(limit_s)
        asked = done.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
        return None if asked else died(done.returncode, self.attempt)


def _ignore_warnings() -> None:
    """Ignore Slurm's warning signal, which goes to every process of the job, but is handled by one."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def slurm_id() -> str:
    """Return this job's id as submitit writes it: ``12`` or ``12_3``."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
