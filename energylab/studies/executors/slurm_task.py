"""What runs on the node: one job, in a process of its own, with a word left whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

from energylab.studies.executors.base import Work, died, overdue
from energylab.studies.folder import Attempt, Kind, Outcome
from energylab.studies.policy import RETRIES, due
from energylab.studies.processes import MARKER, kill_marked


@dataclass
class SlurmTask:
    """A job as Slurm starts it, and starts it again after a preemption, a time limit or a lost node."""

    work: Work
    environment: dict[str, str] = field(default_factory=dict)
    attempt: Attempt | None = field(default=None, repr=False)

    def __call__(self) -> str:
        """Run the attempt that is due; return how it ended."""
        slurm_job = slurm_id()
        earlier = self._close_earlier(slurm_job)
        kind = self._due()
        if kind is None:
            return "nothing is due"
        if earlier > RETRIES:
            return f"given up after {earlier} attempts"
        self.work.kind = kind
        self.work.record = self.work.folder.state().record_path
        devices = tuple(filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")))
        self.attempt = self.work.begin("slurm", devices, self.environment, slurm_job)
        try:
            otherwise = self._run()
        finally:
            kill_marked(self.attempt.path)
        if self.attempt.outcome is None and otherwise is not None:
            self.attempt.close(otherwise)
        return self.attempt.outcome.end if self.attempt.outcome else "ended by Slurm"

    def checkpoint(self) -> object:
        """Leave a word before Slurm takes the node away; called by submitit on the warning signal."""
        from submitit.helpers import DelayedSubmission

        if self.attempt is not None:
            kill_marked(self.attempt.path)
            if self.attempt.outcome is None:
                self.attempt.close(Outcome.now("infrastructure", "Slurm took the node: preemption or time limit"))
        return DelayedSubmission(SlurmTask(self.work, self.environment))

    def _close_earlier(self, slurm_job: str) -> int:
        """Close attempts that this job's earlier starts left open; return how many attempts it has had."""
        mine = [a for a in self.work.folder.attempts() if (r := a.request) is not None and r.slurm_job == slurm_job]
        for attempt in mine:
            if attempt.outcome is None:
                attempt.close(Outcome.now("infrastructure", "Slurm started it again: preempted, or its node was lost"))
        return len(mine)

    def _due(self) -> Kind | None:
        """Return what is due now: a record that an earlier start left is not measured again."""
        state = self.work.folder.state()
        if state.record is not None and self.work.kind == "measure" and state.measured:
            return due(state)
        return self.work.kind

    def _run(self) -> Outcome | None:
        """Run the job's process; return the outcome for it, should it have left none of its own.

        None when it was asked to end: that was Slurm, which knows who wanted it.
        """
        limit_s = self.work.time_limit_s
        with self.attempt.log.open("wb") as log:
            try:
                done = subprocess.run(
                    [sys.executable, "-m", "energylab.studies.job", str(self.attempt.path), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self.environment, MARKER: str(self.attempt.path.resolve())},
                    timeout=limit_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return overdue(limit_s)
        return None if done.returncode == -signal.SIGTERM else died(done.returncode, self.attempt)


def slurm_id() -> str:
    """Return this job's id as submitit writes it: ``12`` or ``12_3``."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
