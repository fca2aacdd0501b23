"""The reference study: all tasks, enough architectures that exist, and nothing that has to be downloaded."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from energylab.parameters import Parameters
from energylab.tasks import load_task, task_names
from energylab.tasks.architectures import architectures

FILE = Path(__file__).parents[2] / "params" / "studies" / "reference.yaml"
STUDY = yaml.safe_load(FILE.read_text(encoding="utf-8"))
ROWS = [{**STUDY["parameters"], **sweep, "model": model} for sweep in STUDY["sweeps"] for model in sweep["model"]]
JOBS = [Parameters.check(row) for row in ROWS]
PUBLISHED = set(task_names()) - {"summarization_generated"}


def test_every_task_has_five_models_or_more_from_small_to_large():
    assert {job.task for job in JOBS} == PUBLISHED
    assert min(Counter(job.task for job in JOBS).values()) >= 5
    for task in PUBLISHED:
        sizes = [architectures()[job.model].parameters for job in JOBS if job.task == task]
        assert max(sizes) / min(sizes) > 2


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.task} {job.model}")
def test_every_job_is_of_an_architecture_of_its_task_that_one_board_holds(job):
    row = architectures()[job.model]
    assert job.task in row.tasks
    assert (job.model_source, job.data_source, job.gpus) == ("random", "synthetic", 1)
    bytes_each = 4 if load_task(job).given("dtype")["dtype"] == "float32" else 2
    assert row.parameters * bytes_each < 75e9
