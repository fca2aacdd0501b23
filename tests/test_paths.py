"""Where parameter files and results are: one rule."""

from __future__ import annotations

import pytest

from energylab.errors import ParameterError, TaskError
from energylab.paths import named_file, params_root, results_root


def test_params_are_found_upward_and_results_beside_them(tmp_path, monkeypatch):
    (tmp_path / "params" / "tasks").mkdir(parents=True)
    deep = tmp_path / "notebooks" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert params_root() == tmp_path / "params"
    assert results_root() == tmp_path / "results"


def test_an_explicit_folder_wins_and_must_be_laid_out_like_params(tmp_path):
    with pytest.raises(ParameterError, match="no tasks/ folder"):
        params_root(tmp_path)
    (tmp_path / "tasks").mkdir()
    assert params_root(tmp_path) == tmp_path


def test_outside_a_project_the_package_has_its_own(tmp_path):
    assert (params_root(start=tmp_path) / "tasks" / "sentence_similarity.yaml").is_file()


def test_a_named_file_is_found_upward_and_at_last_in_the_repository(tmp_path, monkeypatch):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "mine.yaml").write_text("")
    monkeypatch.chdir(deep)
    assert named_file("mine.yaml", "task") == tmp_path / "mine.yaml"
    assert named_file(tmp_path / "mine.yaml", "task") == tmp_path / "mine.yaml"
    assert named_file("params/tasks/reasoning.yaml", "task").is_file()
    (tmp_path / "a" / "mine.yaml").write_text("")
    assert named_file("mine.yaml", "task") == tmp_path / "a" / "mine.yaml"  # the nearest


def test_a_file_that_is_not_there_is_named_with_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match=rf"task 'none.yaml': there is no such file in {tmp_path} or a folder above"):
        named_file("none.yaml", "task", TaskError)
