"""Studies are expanded, checked and ordered before anything starts."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import builders
import pytest

from energylab.errors import ParameterError, StudyError, UnknownNameError
from energylab.parameters import Parameters
from energylab.studies import plan as planning

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = {"task": "sentence_similarity", "model_source": "hub"}
SETTINGS = [{"batch_size": 1, "dtype": "float32"}, {"batch_size": 8, "dtype": "float16"}]


def plan(folder, **content):
    return planning.load(builders.write_study(folder, **{"parameters": TASK, **content}))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"repeats": 2, "sweeps": [{"model": ["a", "b"], "dtype": ["float32", "float16"]}]},
         [(model, None, dtype, repeat) for model in "ab" for dtype in ("float16", "float32") for repeat in (0, 1)]),
        ({"sweeps": [{"model": "a", "settings": SETTINGS}]}, [("a", 1, "float32", 0), ("a", 8, "float16", 0)]),
        ({"sweeps": [{"model": ["a", "b"], "batch_size": [1, 2]}], "exclude": [{"model": "a", "batch_size": 2}],
          "include": [{"model": "c"}]},
         [("a", 1, None, 0), ("b", 1, None, 0), ("b", 2, None, 0), ("c", None, None, 0)]),
    ],
    ids=["every combination times repeats", "a mapping sets parameters together", "exclude and include"],
)  # fmt: skip
def test_a_sweep_is_expanded(content, expected, tmp_path):
    jobs = plan(tmp_path, **content).jobs
    assert sorted((p.model, p.batch_size, p.dtype, p.repeat) for p in (job.parameters for job in jobs)) == expected
    for job in jobs:  # the id is that of the notebook run by hand, wherever it is written
        assert job.id == Parameters(**{**job.values, "output_folder": "elsewhere", "device": "cpu"}).job_id
    assert len({job.id for job in jobs}) == len(jobs)


def test_order_is_random_within_each_repeat_and_follows_the_seed_alone(tmp_path):
    models = [f"m{n}" for n in range(12)]
    first, again, other = (
        plan(tmp_path, name=name, seed=seed, repeats=2, sweeps=[{"model": order}])
        for name, seed, order in (("a", 4, models), ("b", 4, models[::-1]), ("c", 5, models))
    )
    assert first.jobs == again.jobs != other.jobs
    assert [job.parameters.repeat for job in first.jobs] == [0] * 12 + [1] * 12
    blocks = [[j.parameters.model for j in first.jobs if j.parameters.repeat == r] for r in (0, 1)]
    assert sorted(blocks[0]) == sorted(blocks[1])
    assert blocks[0] != blocks[1]


def test_a_job_that_two_rows_name_is_planned_once_and_said(tmp_path):
    planned = plan(tmp_path, sweeps=[{"model": ["a", "b", "a"]}])
    assert len(planned.jobs) == 2
    assert [job.parameters.model for job in planned.duplicates] == ["a"]


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ({"sweeps": [{"model": "a", "sampels": 3}]}, ParameterError, ["sampels", "samples", "· a"]),
        ({"sweeps": [{"model": "a", "samples": "3"}]}, ParameterError, ["samples='3'", "str"]),
        ({"sweeps": [{"model": "a", "samples": 0}]}, ParameterError, ["samples=0"]),
        ({"sweeps": [{"model": "a", "model_source": "hub", "revision": 5607e12}]}, ParameterError, ["revision", "-r"]),
        ({"sweeps": [{"model": "a", "protocol": "published-2025-02", "window_s": 10.0}]}, ParameterError,
         ["· a", "does not use window_s=10.0", "leave it out"]),
        ({"sweeps": [{"model": "a", "repeat": 3}]}, ParameterError, ["repeat=3", "set by the study"]),
        ({"sweeps": [{"model": []}]}, StudyError, ["model", "empty list"]),
        ({"sweeps": [{"model": "a"}], "exclude": [{"modle": "a"}]}, StudyError, ["modle", "'model'"]),
        ({"sweps": [{"model": "a"}]}, StudyError, ["sweps", "'sweeps'"]),
        ({"repeats": 0, "sweeps": [{"model": "a"}]}, StudyError, ["repeats", "1"]),
        ({}, StudyError, ["no jobs", "sweeps"]),
        ({"parameters": {}, "sweeps": [{"model": "a", "model_source": "random"}]}, StudyError, ["without task"]),
        ({"sweeps": [{"samples": 4}]}, StudyError, ["without model"]),  # the notebook has one
    ],
)  # fmt: skip
def test_bad_studies_are_refused_by_name(tmp_path, content, error, words):
    with pytest.raises(error) as caught:
        plan(tmp_path, **content)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("row", "notebook", "error", "words"),
    [
        ({"model": "a", "batch_size": 2}, ("batch_size: int = None", "batchsize: int = None"), UnknownNameError,
         "'batch_size'; did you mean 'batchsize'"),
        ({"model": "a"}, ('"parameters"', '"other"'), StudyError, "no cell has the tag 'parameters'"),
        ({"task": "sentence_similarty", "model": "a"}, ("", ""), UnknownNameError, "did you mean 'sentence_sim"),
        ({"model": "google/bert_uncased_L-2_H-128_A-3", "model_source": "random"}, ("", ""), UnknownNameError,
         "did you mean 'google/bert_unc"),
    ],
    ids=["parameter the notebook lacks", "no parameters cell", "unknown task", "unknown architecture"],
)  # fmt: skip
def test_what_could_not_be_measured_is_refused_before_anything_starts(row, notebook, error, words, tmp_path):
    path = builders.write_study(tmp_path, parameters=TASK, sweeps=[row])
    file = tmp_path / "fake.ipynb"
    file.write_text(file.read_text().replace(*notebook))
    with pytest.raises(error, match=words):
        planning.check(planning.load(path))


def test_an_unknown_study_names_the_nearest(tmp_path):
    (tmp_path / "params/tasks").mkdir(parents=True)
    (tmp_path / "params/studies").mkdir()
    (tmp_path / "params/studies/quickstart.yaml").write_text("{}")
    with pytest.raises(UnknownNameError, match="did you mean 'quickstart'"):
        planning.find("quikstart", params=tmp_path / "params")


def expand(name: str):
    return planning.expand(planning.parse((REPOSITORY / "params/studies" / name).read_text()))


def test_the_published_study_has_its_166_rows():
    table = REPOSITORY / "energylab/published/ai_energy_score_2025-02.csv"
    jobs, duplicates = expand("published-2025-02.yaml")
    planned = [(job.parameters.task, job.parameters.model) for job in [*jobs, *duplicates]]
    assert (len(planned), len(duplicates)) == (166, 2)
    rows = [(row["task"], row["model"]) for row in csv.DictReader(table.open())]
    with_ids = sorted(row for row in rows if row[0] != "image_captioning")
    assert sorted(row for row in planned if row[0] != "image_captioning") == with_ids
    assert sum(task == "image_captioning" for task, _ in planned) == 10
    assert {job.parameters.gpus for job in jobs} == {1, 4}


def test_the_second_published_study_has_the_40_rows_that_joined():
    table = REPOSITORY / "energylab/published/ai_energy_score_2025-12.csv"
    joined = [row for row in csv.DictReader(table.open()) if row["first_release"] == "2025-12"]
    jobs, duplicates = expand("published-2025-12.yaml")
    tasks = Counter(job.parameters.task for job in jobs)
    assert tasks == Counter(row["task"] for row in joined) == {"text_generation": 22, "reasoning": 18}
    assert not duplicates
    large = {p.model for job in jobs if (p := job.parameters).task == "text_generation" and p.gpus > 1}
    assert len(large) == sum(row["model_class"] == "C" for row in joined)


@pytest.mark.parametrize("name", ["published-2025-02", "published-2025-12"])
def test_a_published_study_follows_its_protocol(name):
    for p in (job.parameters for job in expand(f"{name}.yaml")[0]):
        assert (p.protocol, p.model_source, p.data_source) == (name, "hub", "hub")
        assert (p.samples, p.runs) == (1000, 10)
        assert (p.batch_size, p.dtype, p.new_tokens, p.diffusion_steps) == (None,) * 4  # the task's published ones


@pytest.mark.parametrize("content", [b"\xff\xfe", b"title: \xe9"])
def test_a_file_that_is_no_text_is_one_clear_error(tmp_path, content):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(StudyError, match=r"x.yaml is not a text in UTF-8"):
        planning.load(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sweeps: {task: text_generation}", "must be a list of mappings, each with a dash"),
        ("repeats: three\nsweeps: [{task: text_generation}]", "repeats='three'"),
        ("base: &base {task: a}\nsweeps: [{<<: *base, task: b, model: m}]", "unknown key 'base'"),
    ],
    ids=["a sweep that is one mapping", "a number in words", "merging a mapping is not doubling its keys"],
)
def test_a_slip_in_yaml_is_told(text, words):
    with pytest.raises(StudyError, match=words):
        planning.parse(text)


def test_jobs_of_one_model_say_what_tells_them_apart(tmp_path):
    swept = plan(tmp_path, sweeps=[{"model": ["a", "b"], "batch_size": [1, 8]}], repeats=2)
    labels = {job.label for job in swept.jobs}
    assert "sentence_similarity · b · batch_size=8 · repeat 1" in labels
    assert len(labels) == 8
    assert [job.label for job in plan(tmp_path, sweeps=[{"model": "a"}]).jobs] == ["sentence_similarity · a"]
