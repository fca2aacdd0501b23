"""A task by name, by its file and by entry point: found, read, and from its class to its record."""

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
from energylab.registry import Registry
from energylab.tasks import load_settings, load_task, task_names

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fill_mask"
TASK = "examples/fill_mask/fill_mask.yaml"
QUICK = {"samples": 4, "runs": 2, "window_s": 0.05, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.3}


def variant(folder, name="mine", **values):
    """Write a task that is the example with other values."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"include": "fill_mask", **values}))
    return str(folder / f"{name}.yaml")


# ---- names and files


def test_every_task_of_the_repository_loads():
    for name in task_names():
        task = load_task(Parameters(task=name))
        assert task.settings.name == name
        assert (task.settings.samples, task.settings.batch_size) == (1000, 1)


def test_unknown_names_and_paths_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'text_generation'"):
        load_task(Parameters(task="text_generatoin"))
    with pytest.raises(TaskError, match="no such file"):
        load_task(Parameters(task="examples/fill_mask/fil_mask.yaml"))


def test_a_task_is_found_by_its_path_from_any_folder(monkeypatch, tmp_path):
    for folder in (ROOT, ROOT / "notebooks", tmp_path):
        monkeypatch.chdir(folder)
        assert load_task(Parameters(task=TASK)).settings.name == "fill_mask"
    here, there = Parameters(task=TASK), Parameters(task=str(tmp_path / "fill_mask.yaml"))
    assert here.job_id == there.job_id == Parameters(task="fill_mask").job_id


def test_a_variant_is_its_sibling_with_a_few_values_replaced(tmp_path):
    _, settings = load_settings(variant(tmp_path, samples=7))
    assert (settings.name, settings.samples, settings.sample) == ("mine", 7, tmp_path / "sample")
    (tmp_path / "one.yaml").write_text("include: two\n")
    (tmp_path / "two.yaml").write_text("include: one\n")
    with pytest.raises(TaskError, match="is circular"):
        load_settings(str(tmp_path / "one.yaml"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampels": 3}, "sampels"),
        ({"include": "fil_mask"}, "did you mean 'fill_mask'"),
        ({"samples": "many"}, "samples = 'many'"),
        ({"family": "fill_mask"}, "names no class; write module:Class"),
        ({"family": "energylab.tasks.nothing:Nothing"}, "cannot be imported"),
        ({"family": "energylab.errors:TaskError"}, "must be a subclass of"),
        ({"family": "fill_mask.py:FilMask"}, "cannot be imported"),
        ({"family": "none.py:FillMask"}, "no such file"),
        ({"family": "first_draft.py:BLANK"}, "must be a subclass of"),
        ({"model_classes": {"small": 1.0, "large": None}}, "model_classes"),
        ({"model_classes": {"A": 1.0}}, "the last class must have no limit"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, values, message):
    with pytest.raises(EnergylabError, match=message):
        load_settings(variant(tmp_path, **values))


# ---- parameters that a task has a use for


def test_what_differs_from_the_published_settings_is_named():
    task = load_task(Parameters(task="text_generation", samples=1000, runs=10, attention="eager", new_tokens=20))
    assert task.overridden() == ("attention", "new_tokens")
    assert load_task(Parameters(task="text_generation", samples=1000, runs=10)).overridden() == ()


@pytest.mark.parametrize(
    ("task", "given", "meant"),
    [
        ("image_classification", {"new_tokens": 5}, "tasks that generate text"),
        ("text_generation", {"diffusion_steps": 3}, "image_generation"),
        ("text_generation", {"thinking": "on"}, "reasoning"),
        ("image_captioning", {"quality_model": "clip"}, "image_generation"),
        ("text_classification", {"new_tokens": 5}, None),  # an encoder-decoder answers it in words
        ("image_generation", {"diffusion_steps": 3, "quality_model": "clip"}, None),
        ("reasoning", {"thinking": "on", "new_tokens": 5}, None),
    ],
)
def test_a_parameter_the_task_has_no_use_for_is_refused_not_left_out(task, given, meant):
    if meant is None:
        load_task(Parameters(task=task, **given))
        return
    with pytest.raises(TaskError, match=f"{next(iter(given))}=.*is not used by .*{meant}.*leave it out"):
        load_task(Parameters(task=task, **given))


# ---- a task from elsewhere


def test_measured_its_record_holds_its_files_and_is_never_official():
    record = energylab.measure(TASK, "tiny-bert", **QUICK)
    assert record.valid, record.reasons
    assert record.phases == ("preprocess", "forward")
    expected = {name: hashlib.sha256((EXAMPLE / name).read_bytes()).hexdigest() for name in record.task.files}
    assert record.task.files == expected
    assert set(expected) == {"fill_mask.yaml", "fill_mask.py"}
    assert "the task is not one of energylab's: fill_mask.yaml, fill_mask.py" in record.not_official()
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


def test_architectures_of_ones_own_lie_beside_the_task(tmp_path):
    (tmp_path / "shapes").mkdir()
    config = {"vocab_size": 2000, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    row = {"model": "my-bert", "parameters": 1, "config": {**config, "intermediate_size": 16}}
    family = {"family": "mine", "model_type": "bert", "tokenizer": "wordpiece", "models": [row]}
    (tmp_path / "shapes" / "mine.yaml").write_text(yaml.safe_dump(family))
    file = variant(tmp_path, architectures="shapes")
    assert load_task(Parameters(task=file, model="my-bert", samples=2)).load("cpu").name == "my-bert"
    with pytest.raises(UnknownNameError, match="did you mean 'my-bert'"):
        load_task(Parameters(task=file, model="my-bertt")).load("cpu")
    with pytest.raises(ModelError, match="nowhere is not a folder"):
        load_task(Parameters(task=variant(tmp_path, architectures="nowhere"), model="tiny-bert")).load("cpu")


def test_without_a_published_data_set_hub_data_is_refused():
    with pytest.raises(DataError, match="has no published data set"):
        load_task(Parameters(task=TASK, data_source="hub")).load_rows()


@pytest.mark.parametrize(("phases", "message"), [((), "phases is empty"), (("forwrd",), "did you mean 'forward'")])
def test_a_phase_that_the_protocol_does_not_know_is_refused_before_anything_is_measured(phases, message):
    task = load_task(Parameters(task=TASK))
    task.phases = phases
    with pytest.raises(EnergylabError, match=message):
        checked_phases(task)


# ---- objects by name, by dotted path and by file

THINGS = Registry("thing", {"path": "pathlib:Path"})


def test_a_name_a_dotted_path_and_a_file_give_an_object(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    pass\n")
    assert THINGS.get("path").__name__ == "Path"
    assert THINGS.get("fractions:Fraction").__name__ == "Fraction"
    assert THINGS.get(f"{file}:Mine").__name__ == "Mine"
    with pytest.raises(EnergylabError, match="no such file"):
        THINGS.get(f"{tmp_path / 'none.py'}:Mine")
    with pytest.raises(UnknownNameError, match="did you mean 'path'"):
        THINGS.get("pth")


@pytest.mark.parametrize("text", ["import nothing_like_it", "x = ", "raise RuntimeError('no')", "1 + 'a'", "y = z"])
def test_a_file_that_cannot_be_imported_says_why(text, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(EnergylabError, match="cannot be imported"):
        THINGS.get(f"{tmp_path / 'mine.py'}:Mine")
