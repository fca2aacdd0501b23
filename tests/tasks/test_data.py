"""Queries: the samples and what is made up, texts of published lengths, pictures of known content, rows refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from energylab.errors import DataError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.data import digest
from energylab.tasks.drawing import draw_scene, drawable_objects

#: Task -> the published mean of tokens a query.
TEXT_TASKS = {
    "text_generation": 369,
    "reasoning": 369,
    "summarization": 384,
    "sentence_similarity": 22.9,
    "text_classification": 157,
    "question_answering": None,
}
OBJECTS = drawable_objects()


def sample(folder, text):
    """Lay out a params folder whose one task has this file as its sample."""
    (folder / "tasks").mkdir()
    (folder / "samples" / "mine").mkdir(parents=True)
    (folder / "samples" / "mine" / "rows.jsonl").write_bytes(text)
    (folder / "samples" / "mine" / "about.yaml").write_text("licence: CC0-1.0\n")
    (folder / "tasks" / "mine.yaml").write_text(
        "title: Mine\nversion: '1'\nfamily: energylab.tasks.similarity:SentenceSimilarity\n"
        "samples: 2\nsample: ../samples/mine\n"
        "dataset: {id: a/b, columns: {}}\nsynthetic: {sentence1: {mean_tokens: 9}, sentence2: {mean_tokens: 9}}\n"
    )
    return load_task(Parameters(task="mine", params=str(folder), samples=2))


def lines(*rows):
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


PAIR = {"sentence1": "a", "sentence2": "b"}


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_every_text_task_has_a_sample_with_references_and_a_licence(name):
    task = load_task(Parameters(task=name, samples=16))
    rows, facts = task.load_rows()
    assert (facts.licence, facts.queries, len(rows)) == ("CC0-1.0", 16, 16)
    assert all(row.get(column) is not None for column in task.references for row in rows)


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_synthetic_rows_have_the_published_mean_length(name):
    tokens = TEXT_TASKS[name]
    task = load_task(Parameters(task=name, data_source="synthetic", samples=400, seed=5))
    rows, facts = task.load_rows()
    words = [sum(len(re.findall(r"\w+|\.", text)) for text in row.values()) for row in rows]
    assert facts.source == "synthetic"
    if tokens is not None:
        special = {"sentence_similarity": 3}.get(name, 0)  # around and between the sentences of a pair
        assert np.mean(words) + special == pytest.approx(tokens, rel=0.04)
    assert np.std(words) > 0.3 * np.mean(words)  # lengths vary
    assert task.load_rows()[0] == rows
    other, _ = load_task(Parameters(task=name, data_source="synthetic", samples=400, seed=6)).load_rows()
    assert other != rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines(PAIR), "has 1 row(s), samples=2"),
        (lines(PAIR, {**PAIR, "sentence2": ""}), "has 1 row(s), samples=2"),  # empty rows do not count
        (lines(*[{"sentence1": "a", "sentence_2": "b"}] * 2), "no column 'sentence2'; did you mean 'sentence_2'?"),
        (lines(*[{**PAIR, "sentence2": None}] * 2), "holds NoneType, not text"),
        (lines(PAIR) + b'{"sentence1": "\xe9", "sentence2": "b"}', "samples/mine/rows.jsonl line 2 is not JSON"),
        (lines(PAIR) + b'{"sentence1": "a"', "line 2 is not JSON"),
        (lines(PAIR) + b"[1, 2]", "line 2 is not a JSON object"),
        (lines(PAIR) + b"null", "line 2 is not a JSON object"),
    ],
)
def test_unusable_rows_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        sample(tmp_path, text).load_rows()


def test_a_text_may_hold_any_end_of_line_and_a_file_empty_lines(tmp_path):
    odd = {"sentence1": "a\u2028b\x85c", "sentence2": " "}
    rows, _ = sample(tmp_path, lines(odd) + b"\n" + lines(PAIR)).load_rows()
    assert rows == [odd, PAIR]


def test_the_digest_knows_content_and_order():
    rows = [{"a": "x", "b": np.arange(4)}, {"a": "y", "b": b"bytes"}]
    assert digest(rows) == digest([{"b": np.arange(4), "a": "x"}, {"a": "y", "b": b"bytes"}])
    assert digest(rows) != digest(rows[::-1])
    assert digest(rows[:1]) != digest([{"a": "x", "b": np.arange(4).reshape(2, 2)}])
    assert digest(rows[:1]) != digest([{"a": "x", "b": np.arange(4).astype("int32")}])


# ---- pictures


@pytest.mark.parametrize("drawable", OBJECTS, ids=lambda drawable: drawable.coco)
def test_the_box_is_the_extent_of_what_was_drawn(drawable):
    picture, placed, _ = draw_scene(np.random.default_rng(0), (640, 480), [drawable])
    empty, _, _ = draw_scene(np.random.default_rng(0), (640, 480), [replace(drawable, shapes=())])
    changed = np.argwhere((np.asarray(picture) != np.asarray(empty)).any(axis=-1))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    x, y, width, height = placed[0].box
    extent = np.array([left, top, right, bottom])
    assert np.abs(extent - [x, y, x + width, y + height]).max() <= 0.06 * max(width, height)
