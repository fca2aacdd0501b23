"""What a run prints of its results: one row a model and cohort, and what sets the cohorts apart."""

from __future__ import annotations

import io

import builders
import pytest
from rich.console import Console

from energylab import store
from energylab.studies import summary
from energylab.studies.runner import Summary


@pytest.fixture
def printed(study):
    """Return a function that prints the results of a study of simulated sessions."""

    def make(now=None, **sweep):
        """`now`: the models that are left in the study after all were measured."""
        planned, folder = study(sweeps=[{"model": ["a", "b", "c"], **sweep}])
        folder.prepare(planned)
        for number, job in enumerate(planned.jobs):
            attempt = folder.job(job.id).new_attempt()
            store.write(builders.record(job.parameters, 2.0 + number), attempt.path)
        if now is not None:
            planned, folder = study(sweeps=[{"model": now, **sweep}])
        console = Console(file=io.StringIO(), width=300)
        states = folder.states(planned)
        summary.show(console, planned, folder, Summary(states=states))
        return console.file.getvalue()

    return make


def test_cohorts_of_one_task_are_told_apart(printed):
    shown = printed(batch_size=[1, 8])
    assert "setting" in shown
    assert shown.count("batch=1") == shown.count("batch=8") == 3


def test_one_cohort_needs_no_column(printed):
    assert "setting" not in printed()


def test_what_left_the_study_is_no_peer_any_more(printed):
    shown = printed(now=["a", "b"])
    assert "left out: 1 jobs" in shown
    assert "thin group of 2 models" in shown
