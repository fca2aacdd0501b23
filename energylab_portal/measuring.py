"""One submission as a study of its own: planned at the commit that was checked, run, and read back as records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from energylab.errors import MeasurementError, unknown_name
from energylab.files import write_whole
from energylab.record import Record
from energylab.studies import commands as studies
from energylab.studies import pack, plan
from energylab.studies.plan import Plan
from energylab.studies.run import Executor, run
from energylab.studies.state import JobState, StudyFolder
from energylab_portal.leases import Interrupted
from energylab_portal.settings import Measuring
from energylab_portal.tables import Submission

#: Makes the executor that runs a study.
MakeExecutor = Callable[[Plan], Executor]


@dataclass(frozen=True)
class Bench:
    """Where a worker measures, and how."""

    work: Path  # folder of all studies, one a submission
    measuring: Measuring
    executor: MakeExecutor
    params: str | None = None  # folder laid out like ``params/``

    def measure(self, submission: Submission) -> list[Record]:
        """Measure a submission; what an earlier worker left whole is not measured again."""
        one, folder = submission, StudyFolder(submission.name, self.work)
        study = self.measuring.study(one.name, one.model, one.commit, one.task_names)
        text = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
        planned = plan.load(write_whole(folder.path / "submission.yaml", text), name=one.name, params=self.params)
        plan.check(planned, self.params)
        planned = plan.freeze(planned, folder.lock or pack.fetch(planned, folder, self.params))
        summary = run(planned, folder, self.executor(planned), params=self.params)
        if summary.interrupted:
            raise Interrupted("the worker was stopped; the submission goes back to the queue.")
        return [_valid(job.label, state, summary.refused.get(job, "")) for job, state in summary.states.items()]


def _valid(label: str, state: JobState, refused: str) -> Record:
    if state.record is not None and state.record.valid:
        return state.record
    raise MeasurementError(f"{label}: {refused or state.reason or state.status}")


def executor_maker(name: str, devices: str) -> MakeExecutor:
    if name not in studies.EXECUTORS:
        raise unknown_name("executor", name, studies.EXECUTORS)
    return lambda planned: studies.executor_for(planned, name, devices)[0]
