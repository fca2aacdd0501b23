"""Quality beside energy: the right figure where there is one, and a reason where there is none."""

import math

import pytest
import torch
import transformers

from energylab.parameters import Parameters
from energylab.record import ModelFacts
from energylab.tasks import load_task
from energylab.tasks.text import GENERATED


def task_with_model(name, **more):
    """Return a task as if a real model had been loaded."""
    task = load_task(Parameters(task=name, model="x", model_source="path", **more))
    task.facts = ModelFacts(name="x", source="path")
    return task


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
        {"question": "q", "context": context, "answers": {"text": [t], "answer_start": [0]}}
        for t in ("rapeseed oil",) * 3
    ]
    rows.append({"question": "q", "context": context, "answers": {"text": [], "answer_start": []}})
    start = context.index("rapeseed oil")
    answers = ["the Rapeseed oil!", (start, start + 8), "paraffin", "whatever"]
    exact, f1 = task.score(answers, rows)
    assert exact.value == pytest.approx(1 / 3)
    assert f1.value == pytest.approx((1 + 2 * 1 * 0.5 / 1.5 + 0) / 3)
    assert exact.queries == 3
    assert exact.details == {"without_an_answer": 1}


def test_accuracy_takes_models_own_names_for_the_labels():
    task = task_with_model("text_classification")
    task.model = type("Model", (), {"config": transformers.PretrainedConfig(id2label={0: "NEGATIVE", 1: "POSITIVE"})})
    rows = [{"text": "t", "label": label} for label in (0, 1, 1, 0)]
    (quality,) = task.score(["NEGATIVE", "POSITIVE", "NEGATIVE", "NEGATIVE"], rows)
    assert quality.value == 0.75
    task.model.config = transformers.PretrainedConfig(id2label={0: "1 star", 1: "3 stars", 2: "5 stars"})
    (stars,) = task.score(["1 star", "5 stars", "3 stars", "3 stars"], rows)
    assert stars.value == 0.5
    assert stars.details == {"no_class": 2}
    task.model.config = transformers.PretrainedConfig(id2label={0: "joy", 1: "anger"})
    (other,) = task.score(["joy"] * 4, rows)
    assert other.value is None
    assert "joy, anger" in other.meaningless


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
    answers = [{"text": text} for text in ("12 and 12 and 12 make 36.", "It is 1,234.50 in all", "I do not know")]
    assert task.score(answers, rows)[0].value == pytest.approx(2 / 3)


def test_bits_per_byte_of_a_uniform_model_is_the_entropy_of_its_tokens():
    task = load_task(Parameters(task="text_generation", model="tiny-gpt2", dtype="float32", samples=4))
    rows, _ = task.load_rows()
    task.load("cpu")
    task.facts = task.facts.model_copy(update={"real_weights": True})
    with torch.no_grad():
        task.model.lm_head.weight.zero_()  # every token equally likely
    tokens = sum(task.covariates(rows)["input_tokens"]) - len(rows)
    (quality,) = task.score([""] * 4, rows)
    assert quality.value == pytest.approx(tokens * math.log2(2000) / quality.details["bytes"], rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"real_weights": False}, "random weights"),
        ({"data_source": "synthetic"}, "synthetic queries"),
        ({"missing": True}, "no reference column summary"),
    ],
)
def test_meaningless_quality_says_why(changes, said):
    task = task_with_model("summarization", data_source=changes.get("data_source", "sample"))
    task.facts = task.facts.model_copy(update={"real_weights": changes.get("real_weights", True)})
    rows = [{"text": "t"} if changes.get("missing") else {"text": "t", "summary": "s"}]
    (quality,) = task.score(["x"], rows)
    assert quality.value is None
    assert said in quality.meaningless
