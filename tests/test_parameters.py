"""Parameters: one clear error for each wrong value, and the same names in the notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import builders
import nbformat
import papermill
import pytest

from energylab.errors import ParameterError
from energylab.parameters import PROTOCOLS, Parameters

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "01-benchmark.ipynb"


def parameters_cell() -> str:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return next(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))


def test_the_notebook_has_every_parameter_with_its_default_and_a_comment():
    namespace: dict = {}
    exec(parameters_cell(), namespace)
    assert Parameters.from_notebook(namespace) == Parameters()
    assert set(papermill.inspect_notebook(NOTEBOOK)) == set(Parameters.model_fields)
    for line in parameters_cell().splitlines():
        name, annotation, comment = re.fullmatch(r"(\w+): (\w+) = .+?  # (.+)", line).groups()
        field = Parameters.model_fields[name]
        assert comment == field.description
        kind = (typing.get_args(field.annotation) or (field.annotation,))[0]
        word = "str" if isinstance(kind, str) or typing.get_origin(kind) is typing.Literal else kind.__name__
        assert annotation == word  # papermill reads one word: text for a choice


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"smaples": 3}, "did you mean 'samples'"),
        ({"samples": "3"}, "parameter samples='3' (str)"),
        ({"samples": 0, "runs": 0}, "at least 1. Meaning: queries of one run; published: 1000\nparameter runs=0"),
        ({"samples": True}, "parameter samples=True (bool)"),
        ({"revision": 5607e12}, "-r revision VALUE"),
        ({"model": 7}, "-r model VALUE"),
        ({"model_source": "hubb"}, "did you mean 'hub'"),
        ({"window_s": float("nan")}, "window_s"),
        ({"model": "  "}, "must not be empty"),
        ({"dtype": "fp16"}, "did you mean 'float16'? Meaning"),
        ({"revision": "main"}, "needs model_source='hub'"),
        ({"warm_up_max_s": 0.1}, "must be at least warm_up_min_s"),
        ({"protocol": "published-2025-02", "window_s": 10.0, "warm_up_max_s": 300.0},
         "protocol='published-2025-02' does not use window_s=10.0, warm_up_max_s=300.0: leave it out, or"),
        ({"protocol": "published-2025-12", "precision_target": 0.1}, "does not use precision_target=0.1"),
        ({"model_source": "endpoint"}, "needs endpoint="),
        ({"concurrency": 2}, "concurrency=2 needs model_source='endpoint', not 'random'"),
        ({"endpoint": "http://127.0.0.1:1/v1"}, "needs model_source='endpoint'"),
        ({"model_source": "endpoint", "endpoint": "http://127.0.0.1:1/v1", "batch_size": 4},
         "batch_size=4 cannot be set for a running server"),
        ({"star_probability": 0.95}, "star_probability needs peers="),
        ({"peers": "results/x"}, "peers= needs star_probability or precision_target"),
        ({"star_probability": 0.95, "peers": "results/x", "precision_target": 0.02}, "exclude each other"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named_with_what_is_allowed(values, said):
    with pytest.raises(ParameterError, match=re.escape(said)):
        Parameters.check(values)


CELLS = ["", "import re", "# Parameters\nsamples = 3\nsampels = 4\nPAPERMILL_INPUT_PATH = 'x'", "sample = 3\ntmp = 7"]


def test_only_papermills_names_and_misspelt_ones_are_judged_in_a_notebook():
    ours = {"samples": 3, "re": re, "_private": 1, "In": CELLS, "Out": {}, "PAPERMILL_INPUT_PATH": "x"}
    assert Parameters.from_notebook({**ours, "tmp": 7, "of_a_startup_file": [1]}).samples == 3
    for name, said in [
        ("sampels", "unknown parameter 'sampels' (given to papermill); did you mean 'samples'?"),
        ("sample", "unknown parameter 'sample' (set in cell [3]); did you mean 'samples'?"),
        ("Samples", "(set outside the notebook's cells, for example by an IPython startup file)"),
    ]:
        with pytest.raises(ParameterError, match=re.escape(said)):
            Parameters.from_notebook({**ours, name: 4})
    with pytest.raises(ParameterError, match=r"parameter model=<.*> \(object\): must be a valid string"):
        Parameters.from_notebook({"In": CELLS, "model": object()})  # no silent default


@pytest.mark.slow
def test_papermill_with_injected_paths_a_startup_file_and_a_wrong_name(tmp_path):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-mine.py").write_text("colours = ['red']\n")
    notebook = builders.write_notebook(
        tmp_path / "in.ipynb",
        "scratch = 3",
        "from energylab.parameters import Parameters\nprint(Parameters.from_notebook(globals()).samples)",
    )
    command = [sys.executable, "-m", "papermill", str(notebook), str(tmp_path / "out.ipynb"), "--inject-paths"]
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    for given, said in (("samples", "7"), ("smaples", "(given to papermill); did you mean 'samples'?")):
        done = subprocess.run([*command, "-p", given, "7"], env=environment, capture_output=True, text=True)
        printed = (tmp_path / "out.ipynb").read_text() + done.stderr
        assert said in printed
        assert (done.returncode == 0) is (given == "samples")


STEADY = {"model_source": "path", "model": "/home/a/tiny"}
SERVED = {"task": "text_generation", "model_source": "endpoint", "endpoint": "http://127.0.0.1:1/v1"}
METERS = {"meter": "plug.py:Plug", "extra_meters": "a/b.py:B,estimate"}
STAR = {"star_probability": 0.9, "peers": "a"}


@pytest.mark.parametrize(
    ("base", "same", "others"),
    [
        (STEADY, {"model": "/mnt/b/tiny", "output_folder": "x", "device": "cuda:1", "params": "p", "attempt": 2,
                  "record": "r.json"},
         [{"repeat": 1}, {"samples": 17}, {"seed": 1}, {"task": "text_generation"}, {"dtype": "float16"},
          {"cache": "static"}, *({"protocol": name} for name in PROTOCOLS if name != "steady")]),
        (SERVED, {"server_pid": 7}, [{"concurrency": 2}, {"endpoint_api": "chat"}]),
        (METERS, {"meter": "/elsewhere/plug.py:Plug", "extra_meters": "b.py:B,estimate"}, [{"meter": "plug.py:Other"}]),
        (STAR, {"peers": "b"}, [{"star_probability": None, "peers": None}]),
    ],
    ids=["where it lies and runs", "the load, not the process", "a meter's file by its name", "where the peers lie"],
)  # fmt: skip
def test_the_job_id_follows_what_is_measured_and_nothing_else(base, same, others):
    """That it stays from version to version is tested with the records of earlier ones: test_old_records.py."""
    job_id, moved, *changed = (Parameters.check({**base, **change}).job_id for change in ({}, same, *others))
    assert job_id == moved
    assert len({job_id, *changed}) == 1 + len(others)
