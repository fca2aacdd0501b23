"""Queries: the samples and what is made up, texts of published lengths, pictures of known content, rows refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from task_builders import PARAMS, json_lines, params_with, wav

from energylab.errors import DataError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.data import digest
from energylab.tasks.drawing import draw_scene, drawable_objects
from energylab.tasks.speech import decode_audio

#: Task -> the published mean of tokens a query, special tokens left out.
TEXT_TASKS = {
    "text_generation": 369,
    "reasoning": 369,
    "summarization": 384,
    "sentence_similarity": 22.9 - 3,
    "text_classification": 157,
    "question_answering": None,
}
PICTURE = (PARAMS / "samples" / "image_classification" / "01.png").read_bytes()
CLIP = wav(np.zeros(16_000))
PAIR = {"sentence1": "a", "sentence2": "b"}


def load(task, **values):
    return load_task(Parameters(task=task, **values)).load_rows()


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_every_text_task_has_a_licensed_sample_and_synthetic_rows_of_the_published_length(name):
    rows, facts = load(name, samples=16)
    assert (facts.licence, facts.queries, len(rows)) == ("CC0-1.0", 16, 16)
    rows, facts = load(name, data_source="synthetic", samples=400, seed=5)
    words = [sum(len(re.findall(r"\w+|\.", text)) for text in row.values()) for row in rows]
    assert facts.source == "synthetic"
    assert np.mean(words) == pytest.approx(TEXT_TASKS[name] or np.mean(words), rel=0.04)
    assert np.std(words) > 0.3 * np.mean(words)  # lengths vary


def pair(lines):
    return "sentence_similarity", lines, {}


def picture(content):
    return "image_classification", [{"image": "a"}, {"image": "b"}], {"a": PICTURE, "b": content}


def clip(content):
    rows = [{"audio": name, "text": "words"} for name in "ab"]
    return "speech_recognition", rows, {"a": CLIP, "b": content}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pair([PAIR]), r"has 1 row\(s\); lower samples"),
        (pair([PAIR, {**PAIR, "sentence2": ""}]), r"has 1 row\(s\); lower samples"),  # empty rows do not count
        (pair([{"sentence1": "a", "sentence_2": "b"}] * 2), "no column 'sentence2'; did you mean 'sentence_2'?"),
        (pair([{**PAIR, "sentence2": None}] * 2), "holds NoneType, not text"),
        (pair(json_lines(PAIR) + b'{"sentence1": "\xe9", "sentence2": "b"}'), "rows.jsonl line 2 is not JSON"),
        (pair(json_lines(PAIR) + b'{"sentence1": "a"'), "line 2 is not JSON"),
        (pair([PAIR, [1, 2]]), "line 2 is not a JSON object"),
        (pair([PAIR, None]), "line 2 is not a JSON object"),
        (("sentence_similarity", [PAIR] * 2, {"about.yaml": b"origin: a book"}), "with a licence is missing"),
        (picture(b""), "row 1: .*cannot be decoded"),
        (picture(b"not a picture"), "row 1: .*cannot be decoded"),
        (picture(PICTURE[: len(PICTURE) // 2]), "row 1: .*cannot be decoded"),
        (("image_classification", [{"image": "absent.png"}] * 2, {}), r"absent\.png"),
        (
            ("object_detection", [{"image": "a", "objects": [{"label": "car"}]}] * 2, {"a": PICTURE}),
            "row 0: objects must be",
        ),
        (clip(wav(np.zeros(100))), r"row 1: .*lasts 0\.006 s"),
        (clip(wav(np.full(16_000, np.nan), subtype="FLOAT")), "row 1: .*not finite numbers"),
        (clip(CLIP[:9_000]), "row 1: .*shorter than its header"),
        (clip(b"RIFF and nothing else"), "row 1: .*cannot be decoded"),
        (clip(b""), "row 1: .*cannot be decoded"),
    ],
)
def test_an_unusable_row_is_refused_before_anything_is_measured(tmp_path, given, message):
    task, rows, files = given
    with pytest.raises(DataError, match=message):
        load(task, samples=2, params=params_with(tmp_path, task, rows, **files))


def test_a_text_may_hold_any_end_of_line_and_a_file_empty_lines(tmp_path):
    odd = {"sentence1": "a\u2028b\x85c", "sentence2": " "}
    params = params_with(tmp_path, "sentence_similarity", json_lines(odd) + b"\n" + json_lines(PAIR))
    assert load("sentence_similarity", samples=2, params=params)[0] == [odd, PAIR]


def test_the_digest_knows_content_and_order():
    rows = [{"a": "x", "b": np.arange(4)}, {"a": "y", "b": b"bytes"}]
    assert digest(rows) == digest([{"b": np.arange(4), "a": "x"}, {"a": "y", "b": b"bytes"}])
    assert digest(rows) != digest(rows[::-1])
    assert digest(rows[:1]) != digest([{"a": "x", "b": np.arange(4).reshape(2, 2)}])
    assert digest(rows[:1]) != digest([{"a": "x", "b": np.arange(4).astype("int32")}])


@pytest.mark.parametrize("drawable", drawable_objects(), ids=lambda drawable: drawable.coco)
def test_the_box_is_the_extent_of_what_was_drawn(drawable):
    picture, placed, _ = draw_scene(np.random.default_rng(0), (640, 480), [drawable])
    empty, _, _ = draw_scene(np.random.default_rng(0), (640, 480), [replace(drawable, shapes=())])
    changed = np.argwhere((np.asarray(picture) != np.asarray(empty)).any(axis=-1))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    x, y, width, height = placed[0].box
    extent = np.array([left, top, right, bottom])
    assert np.abs(extent - [x, y, x + width, y + height]).max() <= 0.06 * max(width, height)


def test_sound_is_mixed_to_one_channel_and_resampled():
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    samples = decode_audio(wav(np.stack([tone, np.zeros_like(tone)], axis=1), 44_100))
    assert (samples.dtype, len(samples)) == (np.float32, 16_000)
    middle = slice(1000, 15_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(samples[middle] - expected[middle]).max() < 1e-3
