"""Rows of a sample, made-up rows, their digest, and what is wrong with unusable ones."""

import json
import re

import numpy as np
import pytest

from energylab.errors import DataError
from energylab.parameters import Parameters
from energylab.tasks import load_task, task_names
from energylab.tasks.data import digest
from energylab.tasks.synthetic import TOKENS_AT_THE_END, TOKENS_PER_WORD, LengthSettings, Lexicon, draw_lengths

TEXT_TASKS = {
    "sentence_similarity": (64, 22.9),
    "text_generation": (16, 369),
    "reasoning": (16, 369),
    "summarization": (16, 384),
    "text_classification": (16, 157),
    "question_answering": (16, None),
}


def sample(folder, rows):
    """Lay out a params folder whose one task has these rows as its sample."""
    (folder / "tasks").mkdir()
    (folder / "samples" / "mine").mkdir(parents=True)
    (folder / "samples" / "mine" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "samples" / "mine" / "about.yaml").write_text("licence: CC0-1.0\n")
    (folder / "tasks" / "mine.yaml").write_text(
        "title: Mine\nversion: '1'\nfamily: energylab.tasks.text:SentenceSimilarity\n"
        "samples: 2\nsample: ../samples/mine\n"
        "dataset: {id: a/b, columns: {}}\nsynthetic: {sentence1: {mean_tokens: 9}, sentence2: {mean_tokens: 9}}\n"
    )
    return load_task(Parameters(task="mine", params=str(folder), samples=2))


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_every_task_has_a_sample_with_references_and_a_licence(name):
    fewest, _ = TEXT_TASKS[name]
    task = load_task(Parameters(task=name, samples=fewest))
    rows, facts = task.load_rows()
    assert facts.licence == "CC0-1.0"
    assert facts.queries == len(rows) == fewest
    for column in task.columns:
        assert column == "text" or name == "text_generation" or all(row[column] is not None for row in rows)


def test_every_text_task_is_there():
    assert set(TEXT_TASKS) <= set(task_names())


def test_the_spans_of_the_answers_lie_in_their_contexts():
    rows, _ = load_task(Parameters(task="question_answering", samples=20)).load_rows()
    for row in rows:
        (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        assert row["context"][start : start + len(text)] == text


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_synthetic_rows_have_the_published_mean_length(name):
    _, tokens = TEXT_TASKS[name]
    task = load_task(Parameters(task=name, data_source="synthetic", samples=400, seed=5))
    rows, facts = task.load_rows()
    words = [sum(len(re.findall(r"\w+|\.", text)) for text in row.values()) for row in rows]
    assert facts.source == "synthetic"
    if tokens is not None:
        special = {"sentence_similarity": 3}.get(name, 0)  # around and between the sentences of a pair
        assert np.mean(words) + special == pytest.approx(tokens, rel=0.04)
    assert np.std(words) > 0.3 * np.mean(words)  # lengths vary
    again, _ = task.load_rows()
    assert again == rows
    other, _ = load_task(Parameters(task=name, data_source="synthetic", samples=400, seed=6)).load_rows()
    assert other != rows


def test_lengths_are_cut_without_losing_their_mean():
    settings = LengthSettings(mean_tokens=100, spread=1.0, longest_tokens=300)
    words = draw_lengths(np.random.default_rng(0), 2000, settings)
    assert max(words) * TOKENS_PER_WORD <= 301
    assert np.mean(words) * TOKENS_PER_WORD + TOKENS_AT_THE_END == pytest.approx(100, rel=0.01)
    assert len(set(words)) > 100


def test_words_have_the_frequencies_of_a_language():
    words = Lexicon.load().text(np.random.default_rng(0), 20_000).lower().replace(".", "").split()
    assert len(words) == 20_000
    counts = {word: words.count(word) for word in ("the", "of", "workshop")}
    assert counts["the"] > counts["of"] > 20 * max(counts["workshop"], 1) / 2
    assert len(set(words)) > 1000


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"sentence1": "a", "sentence2": "b"}], "has 1 row(s), samples=2"),
        ([{"sentence1": "a", "sentence_2": "b"}] * 2, "no column 'sentence2'; did you mean 'sentence_2'?"),
        (
            [{"sentence1": "a", "sentence2": "b"}, {"sentence1": "a", "sentence2": ""}],
            "row 1: column 'sentence2' is empty",
        ),
        ([{"sentence1": "a", "sentence2": None}] * 2, "holds NoneType, not text"),
    ],
)
def test_unusable_rows_are_refused(tmp_path, rows, said):
    with pytest.raises(DataError, match=re.escape(said)):
        sample(tmp_path, rows).load_rows()


def test_a_broken_sample_file_is_named(tmp_path):
    task = sample(tmp_path, [])
    (tmp_path / "samples" / "mine" / "rows.jsonl").write_text("{not json\n")
    with pytest.raises(DataError, match="samples/mine/rows.jsonl line 1"):
        task.load_rows()


def test_without_sample_data_the_other_sources_are_named(tmp_path):
    task = sample(tmp_path, [])
    (tmp_path / "samples" / "mine" / "rows.jsonl").unlink()
    with pytest.raises(DataError, match="use data_source='synthetic' or 'hub'"):
        task.load_rows()


def test_the_digest_knows_content_and_order():
    rows = [{"a": "x", "b": np.arange(4)}, {"a": "y", "b": b"bytes"}]
    assert digest(rows) == digest([{"b": np.arange(4), "a": "x"}, {"a": "y", "b": b"bytes"}])
    assert digest(rows) != digest(rows[::-1])
    assert digest(rows[:1]) != digest([{"a": "x", "b": np.arange(4).reshape(2, 2)}])
    assert digest(rows[:1]) != digest([{"a": "x", "b": np.arange(4).astype("int32")}])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"sentence1": "\xe9", "sentence2": "b"}', "line 2 is no JSON: .*utf-8"),
        (b'{"sentence1": "a"', "line 2 is no JSON"),
        (b"[1, 2]", "line 2 is no object"),
        (b"null", "line 2 is no object"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, said):
    task = sample(tmp_path, [])
    (tmp_path / "samples/mine/rows.jsonl").write_bytes(b'{"sentence1": "a", "sentence2": "b"}\n' + line + b"\n")
    with pytest.raises(DataError, match=said):
        task.load_rows()


def test_a_text_may_hold_any_end_of_line_and_a_file_empty_lines(tmp_path):
    row = {"sentence1": "a\u2028b\x85c", "sentence2": "d"}
    task = sample(tmp_path, [])
    lines = [json.dumps(row, ensure_ascii=False), "", json.dumps({**row, "sentence2": "e"})]
    (tmp_path / "samples/mine/rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert [one["sentence1"] for one in task.load_rows()[0]] == [row["sentence1"]] * 2
