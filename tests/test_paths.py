"""Where parameter files and results are: one rule."""

from __future__ import annotations

import pytest

from energylab.errors import ParameterError
from energylab.paths import params_root, results_root


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
