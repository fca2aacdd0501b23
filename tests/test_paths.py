"""Where parameter files and results are: one rule."""

from __future__ import annotations

import pytest

from energylab.errors import ParameterError, TaskError
from energylab.paths import named_file, params_root, results_root


def test_params_are_found_upward_and_results_beside_them(tmp_path, monkeypatch):
    deep = tmp_path / "notebooks" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert (params_root() / "tasks" / "sentence_similarity.yaml").is_file()  # outside a project, the package's own
    (tmp_path / "params" / "tasks").mkdir(parents=True)
    assert params_root() == tmp_path / "params"
    assert results_root() == tmp_path / "results"
    assert params_root(tmp_path / "params") == tmp_path / "params"
    with pytest.raises(ParameterError, match="no tasks/ folder"):
        params_root(tmp_path)  # the one that was named is meant, and no other


def test_a_named_file_is_found_upward_and_at_last_in_the_repository(tmp_path, monkeypatch):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    with pytest.raises(TaskError, match=rf"task 'mine.yaml': no such file in {deep} or a folder above"):
        named_file("mine.yaml", "task", TaskError)
    (tmp_path / "mine.yaml").write_text("")
    assert named_file("mine.yaml", "task") == named_file(tmp_path / "mine.yaml", "task") == tmp_path / "mine.yaml"
    (tmp_path / "a" / "mine.yaml").write_text("")
    assert named_file("mine.yaml", "task") == tmp_path / "a" / "mine.yaml"  # the nearest
    assert named_file("params/tasks/reasoning.yaml", "task").is_file()
