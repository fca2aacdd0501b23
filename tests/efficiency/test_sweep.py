"""The settings of a sweep, its study, and the optimised track."""

from __future__ import annotations

import pytest

import energylab
from energylab.efficiency import notebook, sweep
from energylab.efficiency.sweep import listed, settings
from energylab.errors import ParameterError
from energylab.table import cohort

BASE = {"task": "text_generation", "model": "tiny-llama", "batch_size": 1, "dtype": "float32", "new_tokens": 16}


def test_one_knob_is_turned_at_a_time_and_the_optimised_track_follows():
    found = settings(BASE, {"batch_size": [1, 4], "dtype": ["float32", "bfloat16"], "new_tokens": [8]})
    assert [one.label for one in found] == [
        "base", "batch 4", "bfloat16", "8 new tokens", "static cache", "static cache, batch 4",
    ]  # fmt: skip
    assert [one.track for one in found] == ["as loaded"] * 4 + ["optimised"] * 2
    assert settings(BASE, {}, compiled=True)[-1].values == {"cache": "static", "compile": True}


def test_the_sweep_is_a_study_of_the_benchmark_notebook():
    tried = settings(BASE, {"batch_size": [4]})
    planned = sweep.plan("try", BASE, tried, repeats=2)
    assert planned.notebook.name == "01-benchmark.ipynb"
    assert len(planned.jobs) == 2 * len(tried)
    assert {job.parameters.batch_size for job in planned.jobs} == {1, 4}
    assert not planned.duplicates


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_sizes": "1,x"}, "batch_sizes"),
        ({"batch_sizes": "0"}, "must be 1 or more"),
        ({"dtypes": "float13"}, "dtype='float13'"),
        ({"modle": "x"}, "did you mean 'model'"),
        ({"runs": 1}, "greater than or equal to 2"),
    ],
)
def test_a_wrong_parameter_ends_before_anything_is_measured(values, said):
    with pytest.raises(ParameterError, match=said):
        notebook.check(values)


def test_lists_are_text():
    assert listed(" 1, 4,") == ["1", "4"]
    assert listed("1,4", int) == [1, 4]
    with pytest.raises(ParameterError, match="int values separated by commas"):
        listed("one", int)


def test_the_notebook_has_every_parameter_with_its_default():
    import json
    from pathlib import Path

    cells = json.loads((Path(__file__).parents[2] / "notebooks/07-efficiency.ipynb").read_text())["cells"]
    (source,) = ("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    namespace: dict = {}
    exec(source, namespace)
    assert notebook.EfficiencyParameters.from_notebook(namespace) == notebook.EfficiencyParameters()
    assert all(not cell.get("outputs") for cell in cells)


def test_a_static_cache_answers_alike_in_a_cohort_of_its_own():
    from energylab.errors import TaskError
    from energylab.tasks import load_task

    quick = {"samples": 4, "runs": 1, "window_s": 0.02, "idle_s": 0.02, "warm_up_min_s": 0.02, "warm_up_max_s": 0.05}
    plain, fixed = (
        energylab.measure(**{**BASE, **quick, "cache": cache, "batch_size": 2}) for cache in (None, "static")
    )
    assert plain.valid
    assert fixed.valid
    first, second = cohort(plain), cohort(fixed)
    assert {name for name in first if first[name] != second[name]} == {"settings"}
    assert "cache=static" in second["settings"]
    answers = []
    for cache in (None, "static"):
        task = load_task(energylab.Parameters.check({**BASE, "cache": cache, "samples": 4}))
        task.load("cpu")
        rows, _ = task.load_rows()
        task.warm_up_longest(rows)
        kept = getattr(task.model, "_previous_max_cache_length", None)
        inputs = task.prepare(rows[:1])
        answers.append(task.answers(inputs, task.run("generate", inputs)))
        assert (kept is not None) == (cache == "static")
        assert (
            getattr(task.model, "_previous_max_cache_length", None) == kept
        )  # the memory of the longest prompt serves all
    assert answers[0] == answers[1]
    with pytest.raises(TaskError, match="cache='static'"):
        load_task(energylab.Parameters(cache="static"))
