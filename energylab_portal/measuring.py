"""One submission as a study of its own: planned at the commit that was checked, run, and read back as records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from energylab.errors import MeasurementError, StudyError, unknown_name
from energylab.files import write_whole
from energylab.record import Record
from energylab.studies import commands as studies
from energylab.studies import pack, plan
from energylab.studies.plan import Plan
from energylab.studies.run import Executor, run
from energylab.studies.state import JobState, StudyFolder
from energylab_portal.protocol import Protocol
from energylab_portal.schema import Submission

#: Makes the executor that runs a study.
MakeExecutor = Callable[[Plan], Executor]


class Interrupted(MeasurementError):
    """The run was stopped from outside before its end: nothing is wrong with the model."""


@dataclass(frozen=True)
class Bench:
    """Where a worker measures, and how.

    Attributes
    ----------
    work : pathlib.Path
        Folder of all studies, one a submission.
    protocol : Protocol
    executor : callable
        See `MakeExecutor`.
    params : str or None
        Folder laid out like ``params/``.
    """

    work: Path
    protocol: Protocol
    executor: MakeExecutor
    params: str | None = None

    def measure(self, submission: Submission) -> list[Record]:
        """Measure a submission; what an earlier worker left whole is not measured again.

        Returns
        -------
        list of Record
            Valid ones, one a task and repeat.

        Raises
        ------
        StudyError
            If it may bring its own code: that is measured by `energylab_portal.sealed_bench` alone.
        Interrupted
            If the run was stopped.
        MeasurementError
            If a job left no valid record; says which, and why.
        EnergylabError
            If model or data cannot be fetched.
        """
        if submission.allow_code:
            raise StudyError(f"{submission.name} may bring its own code: it runs in the sealed container alone")
        return self.run(submission)

    def run(self, submission: Submission, executor: Executor | None = None, own_code: bool = False) -> list[Record]:
        """Run a submission's study.

        Parameters
        ----------
        submission : Submission
        executor : Executor, optional
            In place of the one this bench makes. One that fetches for itself: nothing is locked for it.
        own_code : bool
            Whether code of the model's own may run; see `energylab_portal.sealed_bench`, the only caller that says so.
        """
        folder = StudyFolder(submission.name, self.work)
        text = yaml.safe_dump(self.protocol.study(submission, own_code), sort_keys=False, allow_unicode=True)
        planned = plan.load(
            write_whole(folder.path / "submission.yaml", text), name=submission.name, params=self.params
        )
        plan.check(planned, self.params)
        if executor is None:
            planned = plan.freeze(planned, folder.lock or pack.fetch(planned, folder, self.params))
            executor = self.executor(planned)
        summary = run(planned, folder, executor, params=self.params)
        if summary.interrupted:
            raise Interrupted("the worker was stopped; the submission goes back to the queue.")
        return [_valid(job.label, state, summary.refused.get(job, "")) for job, state in summary.states.items()]


def _valid(label: str, state: JobState, refused: str) -> Record:
    if state.record is not None and state.record.valid:
        return state.record
    raise MeasurementError(f"{label}: {refused or state.reason or state.status}")


def executor_maker(name: str, devices: str) -> MakeExecutor:
    """Return what makes the named executor for a study."""
    if name not in studies.EXECUTORS:
        raise unknown_name("executor", name, studies.EXECUTORS)
    return lambda planned: studies.executor_for(planned, name, devices)[0]
