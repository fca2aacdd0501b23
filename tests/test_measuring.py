"""From parameters to a record, and any function by one call."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy
import pytest
import torch
from plug import Plug

import energylab
from energylab import measuring, store
from energylab.clock import ManualClock
from energylab.energy import totals
from energylab.errors import EnergylabError, MeasurementError, MeterError, ParameterError, RecordError, UnknownNameError
from energylab.measuring import FunctionSubject
from energylab.meters import Reading
from energylab.meters.estimate import EstimateMeter
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.parameters import Parameters
from energylab.record import Quality
from energylab.tasks.similarity import SentenceSimilarity

QUICK = {"samples": 4, "runs": 2, "window_s": 0.02, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.5}
TINY = {**QUICK, "task": "sentence_similarity", "model": "tiny-bert"}


def simulated(power_w: float = 300.0, query_s: float = 0.31):
    clock = ManualClock()
    board = SimulatedBoard(clock, 50.0)
    return clock, ReplayMeter(board, clock, power_limit_w=700.0), lambda query: board.work(query_s, power_w)


def test_any_function_is_measured_by_one_call(tmp_path):
    clock, meter, work = simulated()
    record = energylab.measure(
        fn=work, queries=range(30), meters=[meter], clock=clock, window_s=5.0, runs=3, warm_up_max_s=60.0,
        output_folder=tmp_path,
    )  # fmt: skip
    assert record.valid
    assert record.energy_kind == "simulated"
    assert [total.energy_j for total in totals(record)] == pytest.approx([30 * 0.31 * 300.0] * 3, rel=0.02)
    assert store.read_record(tmp_path) == record


def test_a_session_ends_when_its_figure_is_precise_enough():
    clock, meter, work = simulated()
    record = energylab.measure(
        fn=work, queries=range(400), meters=[meter], clock=clock, window_s=5.0, runs=3, warm_up_max_s=60.0,
        precision_target=0.05,
    )  # fmt: skip
    found = record.stop
    assert record.valid
    assert found.reached
    assert len(record.windows) < 3 * 400 * 0.31 / 5.0
    assert found.low_j <= 0.31 * 300.0 <= found.high_j
    spent = sum(w.energy_j for w in record.windows) + record.warm_up.energy_j + sum(i.energy_j for i in record.idle)
    assert found.spent_j == pytest.approx(spent)


def test_a_tiny_model_leaves_a_record_with_everything_needed_to_judge_it(tmp_path):
    record = energylab.measure(**TINY, output_folder=tmp_path)
    assert str(tmp_path) not in (tmp_path / "record.json").read_text()  # others read it: no folder of this machine
    assert record.valid, record.reasons
    assert record.energy_kind in ("measured", "estimated")
    assert {total.phase for total in totals(record)} == {"preprocess", "forward"}
    assert [level.level for level in record.idle] == ["no_context", "weights_resident", "after_load"]
    assert record.quality[0].value is None  # random weights
    assert "random" in record.quality[0].meaningless
    assert len(record.data.covariates["input_tokens"]) == 4
    assert set(record.task.overridden) >= {"samples", "runs"}
    assert Parameters.check(record.parameters).job_id == record.job_id
    assert set(energylab.read(tmp_path).energy_kind) == {record.energy_kind}


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"smaples": 3}, ParameterError, "smaples"),
        ({"task": "sentence_similarty"}, UnknownNameError, "sentence_similarity"),
        ({"model": "tiny-brt"}, UnknownNameError, "tiny-bert"),
        ({"model_source": "path", "model": "nowhere"}, EnergylabError, "nowhere"),
        ({"meter": "estimat"}, EnergylabError, "estimate"),
        ({"record": "nowhere"}, RecordError, "nowhere"),
        ({"task": "reasoning", "model": "tiny-qwen3", "thinking": "onn"}, ParameterError, "Allowed: on, off"),
        ({**TINY, "output_folder": "/dev/null/out"}, RecordError, "choose another output_folder"),
    ],
)
def test_what_can_be_refused_is_refused_before_anything_loads(given, error, said):
    with pytest.raises(error, match=said):
        measuring.check(given)


def fail(self, *_):
    raise RuntimeError("no scores today")


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"score": fail}, "no scores today"),
        ({"extra": fail}, "no scores today"),
        ({"answers": fail}, "answers cannot be read.*no scores today"),
        ({"extra": lambda self, answers: {"kept": object()}}, "serialize"),
        (
            {"score": lambda self, answers, rows: (Quality(metric="m", value=float("nan"), queries=1),)},
            "finite number",
        ),
    ],
    ids=["score", "extra", "answers", "not writable", "no number"],
)
def test_a_fault_in_scoring_costs_no_measurement(tmp_path, monkeypatch, methods, said):
    for name, method in methods.items():
        monkeypatch.setattr(SentenceSimilarity, name, method)
    with pytest.warns(UserWarning, match="quality is unknown"):
        energylab.measure(**TINY, device="cpu", output_folder=tmp_path)
    record = measuring.run(Parameters.check({"record": str(tmp_path)}))  # an existing one is shown, nothing measured
    assert record.valid
    (quality,) = record.quality
    assert quality.value is None
    assert re.search(said, quality.meaningless)
    assert record.extra["unscored"] == quality.meaningless


def test_outputs_that_are_not_finite_keep_the_energy_and_lose_the_quality(monkeypatch):
    monkeypatch.setattr(SentenceSimilarity, "finite", lambda self, inputs, outputs: False)
    record = energylab.measure(**TINY, device="cpu")
    assert record.valid
    assert "not_finite" in record.marks
    assert {(one.value, one.meaningless[:24]) for one in record.quality} == {(None, "outputs of the model are")}


def test_a_notebook_has_a_folder_for_each_job():
    folders = [measuring.output_folder(Parameters(repeat=repeat)) for repeat in range(3)]
    assert [folder.name for folder in folders] == [Parameters(repeat=repeat).job_id for repeat in range(3)]
    assert {folder.parent.name for folder in folders} == {"notebook"}


def test_queries_that_differ_have_other_digests():
    long = numpy.arange(5000.0)
    other = long.copy()
    other[2500] = -1.0  # where the text of an array says ...
    queries = [["a"], ["b"], [1], [long], [other], [torch.tensor(long)], [torch.tensor(other)], [{"x": long}], [{1, 2}]]
    digests = [FunctionSubject(Parameters(), len, some).data.digest for some in queries]
    assert len(set(digests)) == len(queries) - 2  # a tensor has the content of its array
    assert digests[3] == FunctionSubject(Parameters(), len, [long.copy()]).data.digest


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"fn": len}, ParameterError, "fn and queries must be given together"),
        ({"fn": 3, "queries": [1]}, ParameterError, "fn=3 is not callable"),
        ({"fn": len, "queries": []}, MeasurementError, "queries is empty"),
        ({"fn": len, "queries": ["a"], "task": "text_generation"}, ParameterError, "leave task and model out"),
        ({"fn": len, "queries": ["a"], "meters": []}, MeasurementError, "at least one rated meter"),
        (
            {"fn": len, "queries": ["a"], "meters": [EstimateMeter()], "device": "cpu", "gpus": 2},
            ParameterError,
            "gpus=2",
        ),
        ({"fn": len, "queries": ["a"], "output_folder": "/dev/null/out"}, RecordError, "choose another output_folder"),
        ({"parameters": Parameters(), "samples": 3}, ParameterError, "parameters and samples exclude each other"),
        ({"task": "text_generation"}, ParameterError, "task='text_generation' needs a model"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(given, error, said):
    with pytest.raises(error, match=said):
        energylab.measure(**given)


def test_meters_of_different_kinds_are_refused_before_anything_is_asked():
    clock, meter, _ = simulated()
    asked = []
    with pytest.raises(MeasurementError, match="estimated, simulated"):
        energylab.measure(fn=asked.append, queries=[1], meters=[meter, EstimateMeter(clock=clock)], clock=clock)
    assert asked == []


@pytest.mark.parametrize(
    ("given", "first", "spins"),
    [
        ({}, "", "20000"),
        ({"GOMP_SPINCOUNT": "7"}, "", "7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "", None),
        ({}, "torch, ", None),
    ],
    ids=["by itself", "as asked", "another policy", "torch was loaded before"],
)
def test_threads_that_wait_do_not_spin_for_long(given, first, spins):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_WAIT"))}
    code = f"import {first}energylab.devices as devices; print(devices.cpu_facts().settings['GOMP_SPINCOUNT'])"
    done = subprocess.run([sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(spins)


def test_a_function_is_a_job_of_its_own():
    """Neither the task and model that a notebook starts with, nor another function's job."""
    quick = {name: value for name, value in QUICK.items() if name != "samples"}
    one, two = (energylab.measure(fn=fn, queries=[[1]], meter="estimate", **quick) for fn in (sum, len))
    assert (one.parameters["task"], one.parameters["model"]) == ("function", "sum")
    assert one.job_id != two.job_id


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (lambda now_s: 40.0, r"read\(\) returned 40.0; it must return energylab.meters.Reading"),
        (
            lambda now_s: Reading(40.0, 1000 * (now_s + 100)),
            r"time_s=\d.*its clock shows .* self.clock.now",
        ),
    ],
)
def test_a_reading_that_is_none_or_of_another_clock_is_refused(reading, message):
    with pytest.raises(MeterError, match=message):
        energylab.measure(fn=sorted, queries=[[2, 1]], meters=[Plug(reading=reading)])
