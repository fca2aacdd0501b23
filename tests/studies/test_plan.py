"""Studies are expanded, checked and ordered before anything starts."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path

import builders
import pytest

from energylab.errors import ParameterError, StudyError, UnknownNameError
from energylab.parameters import Parameters
from energylab.studies import plan as planning

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = {"task": "sentence_similarity", "model_source": "hub"}


def plan(folder, **content):
    return planning.load(builders.write_study(folder, **content))


def test_sweep_is_every_combination_times_repeats(tmp_path):
    planned = plan(
        tmp_path, parameters=TASK, repeats=3, sweeps=[{"model": ["a", "b"], "dtype": ["float32", "float16"]}]
    )
    got = sorted((j.parameters.model, j.parameters.dtype, j.parameters.repeat) for j in planned.jobs)
    assert got == sorted(itertools.product("ab", ["float16", "float32"], range(3)))
    assert len({job.id for job in planned.jobs}) == 12


def test_a_mapping_in_a_list_sets_parameters_together(tmp_path):
    settings = [{"batch_size": 1, "dtype": "float32"}, {"batch_size": 8, "dtype": "float16"}]
    planned = plan(tmp_path, parameters=TASK, sweeps=[{"model": "a", "settings": settings}])
    assert sorted((j.parameters.batch_size, j.parameters.dtype) for j in planned.jobs) == [
        (1, "float32"),
        (8, "float16"),
    ]


def test_exclude_needs_all_of_its_values_and_include_adds(tmp_path):
    planned = plan(
        tmp_path,
        parameters=TASK,
        sweeps=[{"model": ["a", "b"], "batch_size": [1, 2]}],
        exclude=[{"model": "a", "batch_size": 2}],
        include=[{"model": "c"}],
    )
    got = sorted((j.parameters.model, j.parameters.batch_size) for j in planned.jobs if j.parameters.model != "c")
    assert got == [("a", 1), ("b", 1), ("b", 2)]
    assert [j.parameters.batch_size for j in planned.jobs if j.parameters.model == "c"] == [None]


def test_the_id_is_that_of_the_notebook_run_by_hand(tmp_path):
    (job,) = plan(tmp_path, parameters=TASK, sweeps=[{"model": "a"}]).jobs
    by_hand = Parameters(
        task="sentence_similarity", model_source="hub", model="a", output_folder="elsewhere", device="cpu"
    )
    assert job.id == by_hand.job_id


def test_order_is_random_within_each_repeat_and_follows_the_seed_alone(tmp_path):
    models = [f"m{n}" for n in range(12)]
    first = plan(tmp_path, name="a", parameters=TASK, seed=4, repeats=2, sweeps=[{"model": models}])
    again = plan(tmp_path, name="b", parameters=TASK, seed=4, repeats=2, sweeps=[{"model": models[::-1]}])
    other = plan(tmp_path, name="c", parameters=TASK, seed=5, repeats=2, sweeps=[{"model": models}])
    ids = [job.id for job in first.jobs]
    assert ids == [job.id for job in again.jobs]
    assert ids != [job.id for job in other.jobs]
    assert [job.parameters.repeat for job in first.jobs] == [0] * 12 + [1] * 12
    blocks = [[j.parameters.model for j in first.jobs if j.parameters.repeat == r] for r in (0, 1)]
    assert sorted(blocks[0]) == sorted(blocks[1])
    assert blocks[0] != blocks[1]


def test_a_job_that_two_rows_name_is_planned_once_and_said(tmp_path):
    planned = plan(tmp_path, parameters=TASK, sweeps=[{"model": ["a", "b", "a"]}])
    assert len(planned.jobs) == 2
    assert [job.parameters.model for job in planned.duplicates] == ["a"]


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ({"sweeps": [{"model": "a", "sampels": 3}]}, ParameterError, ["sampels", "samples", "· a"]),
        ({"sweeps": [{"model": "a", "samples": "3"}]}, ParameterError, ["samples='3'", "str"]),
        ({"sweeps": [{"model": "a", "samples": 0}]}, ParameterError, ["samples=0"]),
        ({"sweeps": [{"model": "a", "model_source": "hub", "revision": 5607e12}]}, ParameterError, ["revision", "-r"]),
        (
            {"sweeps": [{"model": "a", "protocol": "published-2025-02", "window_s": 10.0}]},
            ParameterError,
            ["· a", "does not use window_s=10.0", "take it out"],
        ),
        ({"sweeps": [{"model": "a", "repeat": 3}]}, ParameterError, ["repeat=3", "given by the study"]),
        ({"sweeps": [{"model": []}]}, StudyError, ["model", "empty list"]),
        ({"sweeps": [{"model": "a"}], "exclude": [{"modle": "a"}]}, StudyError, ["modle", "'model'"]),
        ({"sweps": [{"model": "a"}]}, StudyError, ["sweps", "'sweeps'"]),
        ({"repeats": 0, "sweeps": [{"model": "a"}]}, StudyError, ["repeats", "1"]),
        ({}, StudyError, ["no jobs", "sweeps"]),
    ],
)
def test_bad_studies_are_refused_by_name(tmp_path, content, error, words):
    with pytest.raises(error) as caught:
        plan(tmp_path, **content)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_parameter_that_the_notebook_lacks_is_refused(tmp_path):
    path = builders.write_study(tmp_path, parameters=TASK, sweeps=[{"model": "a", "batch_size": 2}])
    notebook = tmp_path / "fake.ipynb"
    notebook.write_text(notebook.read_text().replace("batch_size: int = None", "batchsize: int = None"))
    with pytest.raises(UnknownNameError, match=r"'batch_size'; did you mean 'batchsize'"):
        planning.check(planning.load(path))


def test_a_notebook_without_parameters_is_refused(tmp_path):
    path = builders.write_study(tmp_path, parameters=TASK, sweeps=[{"model": "a"}])
    notebook = tmp_path / "fake.ipynb"
    notebook.write_text(notebook.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(StudyError, match="no cell is tagged 'parameters'"):
        planning.check(planning.load(path))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "sentence_similarty", "model": "a"}, ["sentence_similarty", "did you mean 'sentence_similarity'"]),
        ({"model": "google/bert_uncased_L-2_H-128_A-3", "model_source": "random"}, ["did you mean 'google/bert_unc"]),
    ],
)
def test_an_unknown_task_or_architecture_is_refused_before_anything_starts(tmp_path, values, words):
    planned = plan(tmp_path, parameters=TASK, sweeps=[values])
    with pytest.raises(UnknownNameError) as caught:
        planning.check(planned)
    assert all(word in str(caught.value) for word in words), caught.value


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


@pytest.mark.parametrize("missing", ["task", "model"])
def test_a_row_names_its_task_and_its_model(missing, tmp_path):
    """The notebook has defaults of its own, and would measure them."""
    row = {"task": "text_generation", "model": "EleutherAI/pythia-14m", "model_source": "random"}
    del row[missing]
    with pytest.raises(StudyError, match=f"without {missing}"):
        planning.load(builders.write_study(tmp_path, "x", sweeps=[row]))


def test_a_sweep_that_is_one_mapping_is_told_to_be_a_list():
    with pytest.raises(StudyError, match="a list of mappings, each under a dash"):
        planning.parse("sweeps: {task: text_generation}")
    with pytest.raises(StudyError, match="repeats='three'"):
        planning.parse("repeats: three\nsweeps: [{task: text_generation}]")


def test_jobs_of_one_model_say_what_tells_them_apart(tmp_path):
    models = {"task": "text_generation", "model": ["EleutherAI/pythia-14m", "EleutherAI/pythia-31m"]}
    shared = {"model_source": "random"}
    swept = plan(tmp_path, parameters=shared, sweeps=[{**models, "batch_size": [1, 8]}], repeats=2)
    labels = {job.label for job in swept.jobs}
    assert "text_generation · EleutherAI/pythia-31m · batch_size=8 · repeat 1" in labels
    assert len(labels) == 8
    plain = plan(tmp_path, parameters=shared, sweeps=[models])
    assert "text_generation · EleutherAI/pythia-14m" in {job.label for job in plain.jobs}


def test_merging_a_mapping_is_not_doubling_its_keys():
    with pytest.raises(StudyError, match="unknown key 'base'"):
        planning.parse("base: &base {task: a}\nsweeps: [{<<: *base, task: b, model: m}]")
