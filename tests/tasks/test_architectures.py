"""Architectures as data: true counts, enough of them, and clear errors."""

import csv
from collections import Counter
from importlib.resources import files

import pytest
import transformers

from energylab.errors import ModelError, UnknownNameError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.architectures import architectures, find_architecture
from energylab.tasks.models import Origin, build_skeleton

TEXT_TASKS = (
    "text_generation",
    "reasoning",
    "summarization",
    "question_answering",
    "text_classification",
    "sentence_similarity",
)
ROWS = [row for row in architectures().values() if set(row.tasks) & set(TEXT_TASKS)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.model)
def test_the_count_on_the_meta_device_is_the_published_one(row):
    """Published counts leave out what is not trained; sinusoidal positions of Pegasus make 0.4 % of its weights."""
    task = load_task(Parameters(task=row.tasks[0]))
    config = row.build_config()
    skeleton = build_skeleton(config, getattr(transformers, task.auto_class(config)), Origin(row.model, None))
    assert all(weight.is_meta for weight in skeleton.parameters())
    assert skeleton.num_parameters() == pytest.approx(row.parameters, rel=0.01)


def test_most_of_the_published_text_models_are_there():
    table = files("energylab.published") / "ai_energy_score_2025-02.csv"
    published = Counter()
    found = Counter()
    for line in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        if line["task"] in TEXT_TASKS:
            published[line["task"]] += 1
            found[line["task"]] += (
                line["task"] in architectures()[line["model"]].tasks if line["model"] in architectures() else 0
            )
    assert sum(found.values()) >= 0.95 * sum(published.values())


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'meta-llama/Meta-Llama-3-8B'"):
        find_architecture("meta-llama/Meta-Llama3-8B")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("family: mine\nmodel: []\n", "not a family"),
        ("family: mine\nmodels: [{model: a, parameters: 1}, {model: a, parameters: 1}]\n", "already in mine.yaml"),
        ("a: [", "not a family"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, said):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "architectures").mkdir()
    (tmp_path / "architectures" / "mine.yaml").write_text(text)
    with pytest.raises(ModelError, match=said):
        architectures(tmp_path)
