"""Jobs on a Slurm cluster, handed over by submitit as arrays; each task runs the same job process as everywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from energylab.errors import MissingExtraError, StudyError
from energylab.studies.executors.base import Ended, Executor, Work
from energylab.studies.executors.slurm_task import SlurmTask
from energylab.studies.files import write_whole
from energylab.studies.folder import Outcome, StudyFolder
from energylab.studies.plan import SlurmSettings, StudyFile
from energylab.studies.policy import RETRIES

#: What Slurm calls a job that will still do something.
_ALIVE = (
    "PENDING",
    "RUNNING",
    "SUSPENDED",
    "REQUEUED",
    "CONFIGURING",
    "COMPLETING",
    "STOPPED",
    "RESIZING",
    "SIGNALING",
)

#: Ends that are the user's doing; every other end without an outcome is the machine's.
_CANCELLED = ("CANCELLED",)


class SlurmExecutor(Executor):
    """Submit jobs to Slurm and wait for them.

    Parameters
    ----------
    settings : SlurmSettings
        The ``slurm`` part of the study.
    poll_s : float
        Time between two looks at the queue.
    patience_s : float
        How long an outcome may take to appear on a shared file system after Slurm says that the job is over.
    """

    name = "slurm"

    def __init__(self, settings: SlurmSettings | None = None, poll_s: float = 5.0, patience_s: float = 20.0) -> None:
        self.settings = settings or SlurmSettings()
        self.parallel = self.settings.max_parallel
        self.poll_s = poll_s
        self.patience_s = patience_s
        self._folder: StudyFolder | None = None
        self._environment: dict[str, str] = {}
        self._submitted: dict[str, Work] = {}  # Slurm's id -> work
        self._gone_since: dict[str, float] = {}

    @classmethod
    def from_study(cls, study: StudyFile, devices: str, cold: bool) -> SlurmExecutor:
        if devices != "auto":
            raise StudyError(f"--devices {devices}: Slurm hands out devices itself; set gres in the study's slurm part")
        return cls(study.slurm)

    def open(self, folder: StudyFolder, environment: Mapping[str, str]) -> None:
        _submitit()
        self._folder = folder
        self._environment = dict(environment)

    def adopt(self, work: Sequence[Work]) -> None:
        ids = {job_id: slurm_id for slurm_id, job_id in living(self._folder).items()}
        self._submitted.update({ids[piece.job.id]: piece for piece in work if piece.job.id in ids})

    def offer(self, work: Sequence[Work]) -> int:
        by_devices: dict[int, list[Work]] = defaultdict(list)
        for piece in work:
            by_devices[piece.job.parameters.gpus].append(piece)
        for gpus, pieces in by_devices.items():
            submitted = self._submit(pieces, gpus)
            self._submitted.update(submitted)
            _note(self._folder, {slurm_id: piece.job.id for slurm_id, piece in submitted.items()})
        return len(work)

    def _submit(self, pieces: list[Work], gpus: int) -> dict[str, Work]:
        executor = _submitit().AutoExecutor(folder=self._folder.path.resolve() / "slurm", cluster="slurm")
        executor.update_parameters(**options(self.settings, f"energylab-{self._folder.name}", gpus))
        executor._executor.max_num_timeout = RETRIES
        try:
            with executor.batch():
                jobs = [executor.submit(SlurmTask(piece, self._environment)) for piece in pieces]
        except (RuntimeError, subprocess.CalledProcessError) as error:  # submitit: sbatch refused
            raise StudyError(f"Slurm refused the jobs: {error}; look at the study's slurm settings") from error
        return {job.job_id: piece for job, piece in zip(jobs, pieces, strict=True)}

    def wait(self, timeout_s: float) -> list[Ended]:
        time.sleep(self.poll_s)
        states = ask_states(list(self._submitted))
        ended = []
        for slurm_id, work in list(self._submitted.items()):
            state = states.get(slurm_id, "")
            if state in _ALIVE:
                self._gone_since.pop(slurm_id, None)
                continue
            over = self._over(slurm_id, work, state)
            if over is not None:
                del self._submitted[slurm_id]
                ended.append(over)
        return ended

    def _over(self, slurm_id: str, work: Work, state: str) -> Ended | None:
        """Return how a job that Slurm has done with ended; None while its outcome may still appear."""
        attempts = [a for a in work.folder.attempts() if (r := a.request) is not None and r.slurm_job == slurm_id]
        last = attempts[-1] if attempts else None
        if last is not None and last.outcome is not None:
            return Ended(work, last, last.outcome, tries=len(attempts))
        since = self._gone_since.setdefault(slurm_id, time.monotonic())
        if time.monotonic() - since < self.patience_s:
            return None
        outcome = _lost(state)
        if last is not None:
            last.close(outcome)
        return Ended(work, last, outcome, tries=max(len(attempts), 1))

    def running(self) -> list[Work]:
        return list(self._submitted.values())

    def cancel(self, reason: str) -> list[Ended]:
        """Cancel every job of this run in Slurm, and close the attempts that were running."""
        if not self._submitted:
            return []
        cancel_jobs(list(self._submitted))
        ended = []
        for slurm_id, work in self._submitted.items():
            mine = [a for a in work.folder.attempts() if (r := a.request) is not None and r.slurm_job == slurm_id]
            outcome = Outcome.now("interrupted", reason)
            for attempt in mine:
                if attempt.outcome is None:
                    attempt.close(outcome)
            ended.append(Ended(work, mine[-1] if mine else None, outcome))
        self._submitted.clear()
        return ended


def _lost(state: str) -> Outcome:
    if state.startswith(_CANCELLED):
        return Outcome.now("interrupted", "cancelled in Slurm")
    return Outcome.now("infrastructure", f"Slurm ended it without a word from the job ({state or 'no longer known'})")


def options(settings: SlurmSettings, name: str, gpus: int) -> dict[str, Any]:
    """Return what submitit is told for jobs that need `gpus` devices."""
    given = {
        "name": name,
        "timeout_min": settings.time_limit_min,
        "cpus_per_task": settings.cpus,
        "mem_gb": settings.memory_gb,
        "slurm_partition": settings.partition,
        "slurm_account": settings.account,
        "slurm_qos": settings.qos,
        "slurm_constraint": settings.constraint,
        "slurm_gres": f"{settings.gres}:{gpus}" if settings.gres else None,
        "slurm_exclusive": settings.exclusive or None,
        "slurm_array_parallelism": settings.max_parallel,
        "slurm_setup": list(settings.setup) or None,
        "slurm_signal_delay_s": settings.signal_delay_s,
        "slurm_additional_parameters": {"requeue": True},
    }
    return {key: value for key, value in given.items() if value is not None}


def ask_states(slurm_ids: Sequence[str]) -> dict[str, str]:
    """Return Slurm's word for each job that it still knows, by id as submitit writes it (``12`` or ``12_3``).

    Raises
    ------
    StudyError
        If Slurm cannot be asked: its answer decides what is measured again.
    """
    known: dict[str, str] = {}
    for main in sorted({slurm_id.split("_")[0] for slurm_id in slurm_ids}):
        answer = _slurm("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", "--jobs", main)
        lines = [line.split("|") for line in answer.splitlines() if "|" in line]
        known.update({slurm_id.strip(): state.strip() for slurm_id, state in lines})
    return {slurm_id: known[slurm_id] for slurm_id in slurm_ids if slurm_id in known}


def cancel_jobs(slurm_ids: Sequence[str], timeout_s: float = 60.0) -> None:
    """Cancel jobs and wait until none of them runs any more."""
    _slurm("scancel", *slurm_ids)
    deadline = time.monotonic() + timeout_s
    while any(state in _ALIVE for state in ask_states(slurm_ids).values()):
        if time.monotonic() > deadline:
            raise StudyError(
                f"Slurm did not end the jobs {', '.join(slurm_ids)} within {timeout_s:g} s; look at squeue"
            )
        time.sleep(0.5)


def living(folder: StudyFolder) -> dict[str, str]:
    """Return the jobs of a study that wait or run in Slurm: Slurm's id to job id."""
    noted = _noted(folder)
    states = ask_states(list(noted)) if noted else {}
    return {slurm_id: noted[slurm_id] for slurm_id, state in states.items() if state in _ALIVE}


def log_path(folder: StudyFolder, slurm_id: str) -> Path:
    """Return the log that Slurm writes for a job; the job's own is ``log.txt`` of its attempt."""
    return folder.path / "slurm" / f"{slurm_id}_0_log.out"


def _noted(folder: StudyFolder) -> dict[str, str]:
    path = folder.path / "slurm.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _note(folder: StudyFolder, submitted: dict[str, str]) -> None:
    """Remember submitted jobs, so that a later runner does not submit them again."""
    write_whole(folder.path / "slurm.json", json.dumps({**_noted(folder), **submitted}, indent=1))


def _slurm(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        raise StudyError(f"{program} is not here: this study has jobs in Slurm; work on the cluster's login node")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode and "Invalid job id" not in done.stderr:  # Slurm forgets jobs some minutes after their end
        raise StudyError(f"{program} failed: {done.stderr.strip()}")
    return done.stdout


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise MissingExtraError("the slurm executor needs submitit: pip install 'energylab[slurm]'") from error
    return submitit
