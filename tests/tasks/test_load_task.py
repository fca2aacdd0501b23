"""Finding tasks and their settings."""

import pytest

from energylab.errors import EnergylabError, TaskError, UnknownNameError
from energylab.parameters import Parameters
from energylab.tasks import load_settings, load_task, task_names


def write(folder, name, text):
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    (folder / "tasks" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


WHOLE = """
title: A task
version: "1"
family: energylab.tasks.text_generation:TextGeneration
dataset: {id: someone/texts, columns: {text: text}}
samples: 10
new_tokens: 3
synthetic: {text: {mean_tokens: 5}}
"""


def test_every_task_of_the_repository_loads():
    for name in task_names():
        task = load_task(Parameters(task=name))
        assert task.settings.name == name
        assert task.settings.samples == 1000
        assert task.settings.batch_size == 1


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'text_generation'"):
        load_task(Parameters(task="text_generatoin"))


def test_a_variant_is_its_sibling_with_a_few_values_replaced(tmp_path):
    write(tmp_path, "mother", WHOLE)
    write(tmp_path, "child", "include: mother\nnew_tokens: 7\n")
    _, settings = load_settings("child", tmp_path)
    assert (settings.name, settings.new_tokens, settings.samples) == ("child", 7, 10)


def test_an_include_that_goes_round_is_refused(tmp_path):
    write(tmp_path, "one", "include: two\n")
    write(tmp_path, "two", "include: one\n")
    with pytest.raises(TaskError, match="goes round"):
        load_settings("one", tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sampels: 3", "sampels"),
        ("samples: many", "samples = 'many'"),
        ("family: text_generation", "names no class; write module:Class"),
        ("family: energylab.tasks.nothing:Nothing", "cannot be imported"),
        ("family: energylab.errors:TaskError", "not a subclass of Task"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, line, said):
    write(tmp_path, "mother", WHOLE)
    write(tmp_path, "mine", f"include: mother\n{line}\n")
    with pytest.raises(EnergylabError, match=said):
        load_settings("mine", tmp_path)


def test_the_yaml_of_an_outside_task_lies_beside_its_class(tmp_path, monkeypatch):
    package = tmp_path / "outside_tasks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "haiku.py").write_text(
        "from energylab.tasks.text import TextGeneration\nclass Haiku(TextGeneration):\n    pass\n"
    )
    (package / "haiku.yaml").write_text(
        WHOLE.replace("family: energylab.tasks.text_generation:TextGeneration", "family: haiku.py:Haiku")
    )
    facts = tmp_path / "outside_tasks-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-tasks\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[energylab.tasks]\nhaiku = outside_tasks.haiku:Haiku\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "haiku" in task_names()
    task = load_task(Parameters(task="haiku"))
    assert type(task).__name__ == "Haiku"
    assert task.settings.new_tokens == 3


def test_what_differs_from_the_published_settings_is_named():
    task = load_task(Parameters(task="text_generation", samples=1000, runs=10, attention="eager", new_tokens=20))
    assert task.overridden() == ("attention", "new_tokens")
    assert load_task(Parameters(task="text_generation", samples=1000, runs=10)).overridden() == ()


@pytest.mark.parametrize(
    ("task", "given", "meant"),
    [
        ("sentence_similarity", {"new_tokens": 5}, "tasks that generate text"),
        ("text_generation", {"diffusion_steps": 3}, "image_generation"),
        ("text_generation", {"thinking": "on"}, "reasoning"),
        ("image_captioning", {"quality_model": "clip"}, "image_generation"),
    ],
)
def test_a_parameter_the_task_has_no_use_for_is_refused_not_left_out(task, given, meant):
    with pytest.raises(TaskError, match=f"{next(iter(given))}=.*is for .*{meant}.*leave it out"):
        load_task(Parameters(task=task, **given))


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("text_classification", {"new_tokens": 5}),  # an encoder-decoder answers it in words
        ("image_generation", {"diffusion_steps": 3, "quality_model": "clip"}),
        ("reasoning", {"thinking": "on", "new_tokens": 5}),
    ],
)
def test_a_parameter_the_task_has_a_use_for_is_taken(task, given):
    load_task(Parameters(task=task, **given))
