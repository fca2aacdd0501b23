"""A task from outside the package: by the path of its file and by entry point, from its class to its record."""

import hashlib
import importlib
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

import energylab
from energylab.errors import DataError, EnergylabError, ModelError, TaskError, UnknownNameError
from energylab.parameters import Parameters
from energylab.protocol.workload import checked_phases
from energylab.tasks import load_settings, load_task, task_names

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fill_mask"
TASK = "examples/fill_mask/fill_mask.yaml"
QUICK = {"samples": 4, "runs": 2, "window_s": 0.05, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.3}


def test_a_task_is_found_by_its_path_from_any_folder(monkeypatch, tmp_path):
    for folder in (ROOT, ROOT / "notebooks", tmp_path):
        monkeypatch.chdir(folder)
        assert load_task(Parameters(task=TASK)).settings.name == "fill_mask"


def test_a_path_that_leads_nowhere_is_refused():
    with pytest.raises(TaskError, match="no such file"):
        load_task(Parameters(task="examples/fill_mask/fil_mask.yaml"))


def test_a_job_is_the_same_wherever_the_file_lies(tmp_path):
    here, there = Parameters(task=TASK), Parameters(task=str(tmp_path / "fill_mask.yaml"))
    assert here.job_id == there.job_id == Parameters(task="fill_mask").job_id
    assert here.job_id != Parameters(task="text_generation").job_id


def test_measured_its_record_holds_its_files_and_is_never_official():
    record = energylab.measure(TASK, "tiny-bert", **QUICK)
    assert record.valid, record.reasons
    assert record.task.name == "fill_mask"
    assert record.phases == ("preprocess", "forward")
    expected = {name: hashlib.sha256((EXAMPLE / name).read_bytes()).hexdigest() for name in record.task.files}
    assert record.task.files == expected
    assert set(expected) == {"fill_mask.yaml", "fill_mask.py"}
    assert "the task is not one of energylab's: fill_mask.yaml, fill_mask.py" in record.not_official()


def test_a_task_of_this_package_has_no_foreign_files():
    assert energylab.measure("sentence_similarity", "tiny-bert", **QUICK).task.files == {}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Lay the example out as its wheel does, and put it on the path."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    for source, target in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items():
        place = tmp_path / target
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (EXAMPLE / source).is_dir() else shutil.copyfile)(EXAMPLE / source, place)
    facts = tmp_path / "energylab_fill_mask-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: energylab-fill-mask\nVersion: 1\n")
    points = project["project"]["entry-points"]["energylab.tasks"]
    lines = [f"{name} = {value}" for name, value in points.items()]
    (facts / "entry_points.txt").write_text("\n".join(["[energylab.tasks]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()


def test_installed_it_has_a_name(installed):
    assert "fill_mask" in task_names()
    record = energylab.measure("fill_mask", "tiny-roberta", **QUICK)
    assert record.valid, record.reasons
    assert set(record.task.files) == {"fill_mask.yaml", "fill_mask.py"}


def variant(folder, **values):
    """Write a task that is the example with other values."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    (folder / "mine.yaml").write_text(yaml.safe_dump({"include": "fill_mask", **values}))
    return str(folder / "mine.yaml")


def test_a_variant_includes_a_sibling_in_its_folder(tmp_path):
    _, settings = load_settings(variant(tmp_path, samples=7))
    assert (settings.name, settings.samples, settings.sample) == ("mine", 7, tmp_path / "sample")


def test_architectures_of_ones_own_lie_beside_the_task(tmp_path):
    (tmp_path / "shapes").mkdir()
    config = {"vocab_size": 2000, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    row = {"model": "my-bert", "parameters": 1, "config": {**config, "intermediate_size": 16}}
    family = {"family": "mine", "model_type": "bert", "tokenizer": "wordpiece", "models": [row]}
    (tmp_path / "shapes" / "mine.yaml").write_text(yaml.safe_dump(family))
    task = load_task(Parameters(task=variant(tmp_path, architectures="shapes"), model="my-bert", samples=2))
    assert task.load("cpu").name == "my-bert"
    task.load_rows()
    with pytest.raises(UnknownNameError, match="did you mean 'my-bert'"):
        load_task(Parameters(task=task.parameters.task, model="my-bertt")).load("cpu")


def test_a_folder_of_architectures_that_is_not_there_is_named(tmp_path):
    task = load_task(Parameters(task=variant(tmp_path, architectures="nowhere"), model="tiny-bert"))
    with pytest.raises(ModelError, match="nowhere is not a folder"):
        task.load("cpu")


def test_without_a_published_data_set_hub_data_is_refused():
    with pytest.raises(DataError, match="has no published data set"):
        load_task(Parameters(task=TASK, data_source="hub")).load_rows()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"family": "fill_mask.py:FilMask"}, "cannot be imported"),
        ({"family": "none.py:FillMask"}, "no such file"),
        ({"family": "first_draft.py:BLANK"}, "not a subclass of Task"),
        ({"model_classes": {"small": 1.0, "large": None}}, "model_classes"),
        ({"model_classes": {"A": 1.0}}, "the last class must have no limit"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, values, said):
    with pytest.raises(EnergylabError, match=said):
        load_settings(variant(tmp_path, **values))


@pytest.mark.parametrize(
    ("phases", "said"),
    [((), "phases is empty"), (("forwrd",), "did you mean 'forward'"), (("call",), "no method call")],
)
def test_a_phase_that_the_protocol_does_not_know_is_refused_before_anything_is_measured(phases, said):
    task = load_task(Parameters(task=TASK))
    task.phases = phases
    with pytest.raises(EnergylabError, match=said):
        checked_phases(task)


def test_a_model_without_a_mask_token_is_refused():
    with pytest.raises(EnergylabError):
        load_task(Parameters(task=TASK, model="tiny-gpt2")).load("cpu")


def test_a_made_up_text_has_one_blank_and_a_cut_one_no_answer():
    task = load_task(Parameters(task=TASK, model="tiny-bert", data_source="synthetic", samples=5))
    rows, _ = task.load_rows()
    task.load("cpu")
    assert all(row["text"].count("___") == 1 for row in rows)
    task.max_input_tokens = 4
    long = [{"text": "One two three four five six seven eight ___."}]
    inputs = task.prepare(long)
    assert task.answers(inputs, task.run("forward", inputs)) == [""]
