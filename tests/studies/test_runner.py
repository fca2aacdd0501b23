"""A study is run to its end, through real papermill and real kernels."""

from __future__ import annotations

import builders

from energylab import store
from energylab.studies import plan as planning
from energylab.studies import runner
from energylab.studies.executors.local import LocalExecutor
from energylab.studies.folder import StudyFolder

TASK = {"task": "sentence_similarity", "model_source": "random"}


def start(workplace, executor=None, **content):
    planned = planning.load(builders.write_study(workplace, parameters=TASK, **content))
    folder = StudyFolder(planned.name, workplace / "results")
    return planned, folder, executor or LocalExecutor("cpu")


def by_model(summary):
    return {job.parameters.model: state for job, state in summary.states.items()}


def test_one_failure_does_not_cancel_the_rest_and_nothing_is_measured_twice(workplace, ledger):
    planned, folder, executor = start(workplace, sweeps=[{"model": ["a", "raise"]}])
    states = by_model(runner.run(planned, folder, executor))
    assert (states["a"].status, states["raise"].status) == ("done", "failed")
    assert "ValueError: as asked" in states["raise"].reason
    before = ledger()
    again = runner.run(planned, folder, LocalExecutor("cpu"))
    assert again.attempts == 0
    assert ledger() == before
    table = store.read(folder.path)
    assert set(table.model) == {"a"}
    assert set(table.job_id) == {planning_id(planned, "a")}


def planning_id(planned, model):
    return next(job.id for job in planned.jobs if job.parameters.model == model)
