"""What saves energy: settings, rows and least work by hand and by the library, the front by brute force, the limits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import builders
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from plug import Plug

import energylab
from energylab import efficiency, published
from energylab.efficiency import Cost, EfficiencyParameters, Limits, Setting, Shape, least_work, shape_of
from energylab.errors import ModelError, ParameterError
from energylab.figures.efficiency import energy_against_wait, paid_for
from energylab.parameters import Parameters
from energylab.record import IdleLevel, ModelFacts, TaskFacts
from energylab.table import cohort
from energylab.tasks import load_task

PLAIN = {"task": "text_generation", "model": "tiny-llama", "batch_size": 1, "dtype": "float32", "new_tokens": 16}

#: 100 weights a token passes, 20 of the output layer; 8 numbers kept a token, 16 operations a pair of tokens.
SHAPE = Shape(body=100, head=20, parameters=150, kv_values=8, attention_flop=16)
LIMITS = Limits(
    device="board", energy_kind="simulated", rest_w=2.0, byte=Cost(per_s=1e3, j=5e-4, above_rest_j=2e-4),
    flop={"float32": Cost(per_s=1e3, j=3e-4, above_rest_j=1e-4)},
)  # fmt: skip


def record(energies_j=(4.0, 4.0), seconds=0.5, batch_size=1, tokens=(6, 8), **changes):
    """Two queries of 3 tokens in and 4 out: each run takes `seconds` and one of `energies_j`."""
    windows = tuple(
        builders.window(
            run=run, energy_j=energy_j, index=run, phase="generate", queries=(0, 1), duration_s=seconds,
            input_tokens=tokens[0], output_tokens=tokens[1],
        )
        for run, energy_j in enumerate(energies_j)
    )  # fmt: skip
    facts = {
        "task": TaskFacts(name="text_generation", version="1", settings={"batch_size": batch_size}),
        "model": ModelFacts(name="m", source="random", dtype="float32", parameters=150, weights_bytes=600),
        "windows": windows,
        "idle": (IdleLevel(level="weights_resident", power_w=2.0, duration_s=1.0, energy_j=2.0),),
    }
    made = builders.record(**{**facts, **changes})
    return made.model_copy(update={"data": made.data.model_copy(update={"queries": 2})})


def base_row(*records, shape=SHAPE):
    return efficiency.table([Setting("base", "as loaded", {}, records)], LIMITS, shape).loc["base"]


def test_one_knob_is_turned_at_a_time_as_a_study_of_the_benchmark_notebook():
    asked = EfficiencyParameters(
        batch_sizes="1,4", dtypes="float32,bfloat16", attentions="", output_lengths="8", concurrencies="2"
    )
    tried = asked.settings
    labels = ["base", "batch 4", "bfloat16", "8 new tokens", "static cache", "static cache, batch 4", "2 at once"]
    assert [one.label for one in tried] == labels
    assert [one.track for one in tried] == ["as loaded"] * 4 + ["optimised"] * 2 + ["served"]
    compiled = EfficiencyParameters(compile=True, batch_sizes="").settings[-1]
    assert (compiled.label, compiled.values) == ("static cache, compiled", {"cache": "static", "compile": True})
    planned = efficiency.plan("try", asked.base, tried[:-1], repeats=2)
    assert planned.notebook.name == "01-benchmark.ipynb"
    assert len(planned.jobs) == 2 * (len(tried) - 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_sizes": "1,x"}, "batch_sizes='1,x'"),
        ({"batch_sizes": "0"}, "whole number of 1 or more"),
        ({"dtypes": "float13"}, "dtype='float13'"),
        ({"modle": "x"}, "did you mean 'model'"),
        ({"runs": 1}, "must be at least 2"),
    ],
)
def test_a_wrong_parameter_ends_before_anything_is_measured(values, said):
    with pytest.raises(ParameterError, match=said):
        efficiency.check(values)


def test_the_notebook_has_every_parameter_with_its_default_and_no_output():
    cells = json.loads((Path(__file__).parents[1] / "notebooks/07-efficiency.ipynb").read_text())["cells"]
    (source,) = ("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    namespace: dict = {}
    exec(source, namespace)
    assert EfficiencyParameters.from_notebook(namespace) == EfficiencyParameters()
    assert not any(cell.get("outputs") for cell in cells)


def test_energy_wait_and_parts_of_a_query():
    base = base_row(record(energies_j=(4.0, 6.0), seconds=0.5))
    assert base["energy_j"] == pytest.approx(2.5)  # 5 J for two queries
    assert base["token_j"] == pytest.approx(2.5 / 4)
    assert base["latency_s"] == pytest.approx(0.25)
    assert base["tokens_per_s"] == pytest.approx(4 / 0.25)
    assert base["half_width_j"] == pytest.approx(12.706 * 0.5, rel=1e-3)  # t of one degree
    flop, read = 2 * 100 * 6 + 2 * 20 * 4 + 16 * 21, 4 * 120 * 4 + 8 * 4 * 15
    assert base["static_j"] == pytest.approx(2.0 * 0.25)
    assert base["memory_j"] == pytest.approx(read * 2e-4)
    assert base["arithmetic_j"] == pytest.approx(flop * 1e-4)
    assert sum(base[f"{name}_j"] for name in efficiency.PARTS) == pytest.approx(base["energy_j"])
    assert base["times_least"] == pytest.approx(2.5 / (read * 5e-4 + flop * 3e-4))
    assert base_row(record(batch_size=2))["latency_s"] == pytest.approx(0.5)  # a batch waits for all of it
    assert base_row(record(extra={"serving": {"latency_s": {"mean": 1.75}}}))["latency_s"] == 1.75
    sessions = base_row(record((4.0, 4.0)), record((6.0, 6.0)), record((5.0, 5.0)))
    assert (sessions["sessions"], sessions["energy_j"]) == (3, pytest.approx(2.5))
    assert sessions["half_width_j"] == pytest.approx(4.3027 * 0.5 / math.sqrt(3), rel=1e-3)


def test_what_is_not_known_is_not_shown_as_a_figure():
    made = efficiency.front(efficiency.table([Setting("base", "as loaded", {}, (record(),))], LIMITS, None))
    assert math.isnan(made.loc["base", "times_least"])
    shown = efficiency.shown(made)
    assert shown.loc["base", "times lower bound"] == ""
    assert shown.loc["base", "quality"] == "unknown"
    assert shown.loc["base", "kind"] == "simulated"
    assert efficiency.limits_table(LIMITS).loc["one byte", "pJ"] == f"{5e8:.4g}"
    lost = [Setting("int8", "as loaded", {"quantisation": "int8"}, missing="needs stored weights")]
    assert efficiency.missing_table(lost).loc["int8", "reason"] == "needs stored weights"
    with pytest.raises(ModelError, match="the base was not measured"):
        efficiency.compare(EfficiencyParameters(), lost, LIMITS)


def test_the_least_work_of_one_query_by_hand():
    with pytest.raises(ModelError, match="mixture of experts"):  # how much of it works depends on the token
        shape_of(Parameters(task="text_generation", model="mistralai/Mixtral-8x7B-v0.1", new_tokens=2))
    flop, read_bytes = least_work(SHAPE, record())
    # 3 tokens in, 4 out: six are fed; token n looks at n tokens: 1 + 2 + … + 6 pairs
    assert flop == 2 * 100 * 6 + 2 * 20 * 4 + 16 * 21
    # four readings of 120 weights of 4 bytes; before the 2nd, 3rd, 4th token 8 numbers of 4, 5, 6 tokens
    assert read_bytes == 4 * 120 * 4 + 8 * 4 * (4 + 5 + 6)
    together = least_work(SHAPE, record(batch_size=2))  # shares the readings, and not the arithmetic
    assert together == (flop, read_bytes - 4 * 120 * 4 / 2)
    assert least_work(SHAPE, record(batch_size=64)) == together  # a batch cannot be larger than its queries


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-qwen3"])
def test_shape_and_operations_are_those_of_the_model_and_the_library(model):
    from torch.utils.flop_counter import FlopCounterMode

    asked = {"task": "text_generation", "model": model, "new_tokens": 4}
    shape = shape_of(Parameters(**asked))
    task = load_task(Parameters(**asked, dtype="float32", attention="eager"))
    task.load("cpu")
    weights = sum(part.weight.numel() for part in task.model.modules() if isinstance(part, torch.nn.Linear))
    assert 0 <= shape.body + shape.head - weights < 0.02 * weights  # the rest is norms
    inputs = task.prepare([{"text": "one two three four five six"}])
    with FlopCounterMode(display=False) as counter:
        task.run("generate", inputs)
    ours, _ = least_work(shape, record(tokens=(2 * inputs["input_ids"].shape[1], 2 * 4)))
    assert 0.9 * counter.get_total_flops() < ours <= 1.02 * counter.get_total_flops()  # the library pads causal pairs


@pytest.mark.parametrize(
    ("model", "low", "high"),
    [("meta-llama/Meta-Llama-3-8B", 0.35, 0.6), ("HuggingFaceTB/SmolLM-135M", 1 / 80, 1 / 45)],
)
def test_published_figures_lie_above_the_least_and_small_models_far_above(model, low, high):
    table = published.load()
    (energy_j,) = table.loc[(table["task"] == "text_generation") & (table["hub_id"] == model), "energy_j"] / 1000
    shape = shape_of(Parameters(task="text_generation", model=model))
    half = record().model.model_copy(update={"dtype": "float16", "weights_bytes": 2 * shape.parameters})
    flop, read_bytes = least_work(shape, record(tokens=(2 * 369, 2 * 10), model=half))
    # of an H100: half a kilowatt at the memory bandwidth and the half-precision rate of its data sheet, assumed
    assert low < (read_bytes * 500 / 3.35e12 + flop * 500 / 989e12) / energy_j < high


def row(setting, energy_j, latency_s=1.0, **changes):
    facts = {
        "setting": setting, "track": "as loaded", "sessions": 3, "new_tokens": 10.0,
        "energy_j": energy_j, "half_width_j": 0.01 * energy_j, "token_j": energy_j / 10, "latency_s": latency_s,
        "tokens_per_s": 10 / latency_s, "quality": float("nan"), "quality_metric": None, "least_j": 0.1 * energy_j,
        "times_least": 10.0, "static_j": 0.6 * energy_j, "memory_j": 0.2 * energy_j, "arithmetic_j": 0.1 * energy_j,
        "rest_j": 0.1 * energy_j, "energy_kind": "measured",
    }  # fmt: skip
    return {**facts, **changes}


def frame(*rows):
    return efficiency.front(pd.DataFrame(rows).set_index("setting"))


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=7)
)
def test_the_front_is_what_nothing_dominates(points):
    rows = [
        row(f"s {n}", float(energy), float(wait), quality=bits, quality_metric="bits_per_byte")
        for n, (energy, wait, bits) in enumerate(points)
    ]
    for mine, marked in zip(points, frame(*rows)["front"].tolist(), strict=True):
        beaten = any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in points)
        assert marked is (not beaten)


def test_advice_and_figures_follow_from_the_table():
    made = frame(
        row("base", 1.0), row("batch 8", 0.25, 2.0), row("eager attention", 1.005),
        row("2 tokens", 0.4, 0.4, new_tokens=2.0),
        row("static cache", 0.6, 0.5, track="optimised"),
        row("1 at once", 2.0, track="served"), row("8 at once", 0.5, 3.0, track="served"),
    )  # fmt: skip
    text = efficiency.advice(made)
    for said in (
        "**10 times** the energy this device needs",
        "The largest part, 60%, is idle power",
        "if answers may take 2 s, use **batch 8** and save 75%",
        "answers may not take longer than now, use **static cache** and save 40%",
    ):
        assert said in text
    large = efficiency.shown(frame(row("base", 12345.6, half_width_j=123.4), row("batch 8", 250.0)))["J per query"]
    assert (large["base"], large["batch 8"]) == ("12,346\u00a0±\u00a0123", "250\u00a0±\u00a02.5")
    changes = efficiency.shown(made)["change from base"]
    assert (changes["batch 8"], changes["eager attention"], changes["8 at once"]) == ("-75%", "no clear change", "-75%")
    legend = [text.get_text() for text in energy_against_wait(made).axes[0].get_legend().get_texts()]
    assert legend[:2] == ["1  base", "2  batch 8"]
    assert "measured" in paid_for(made).axes[0].get_xlabel()
    assert paid_for(made.assign(least_j=float("nan"))) is None
    single = frame(row("base", 1.0, sessions=1, energy_kind="estimated"), row("batch 8", 1.3))
    assert "keep the model as loaded" in efficiency.advice(single)
    assert "**estimated and measured**" in efficiency.advice(single)


def test_a_static_cache_answers_alike_in_a_cohort_of_its_own():
    quick = {"samples": 4, "runs": 1, "window_s": 0.02, "idle_s": 0.02, "warm_up_min_s": 0.02, "warm_up_max_s": 0.05}
    quick |= {"meter": "estimate", "device": "cpu"}
    plain, fixed = (energylab.measure(**{**PLAIN, **quick, "cache": cache}) for cache in (None, "static"))
    first, second = cohort(plain), cohort(fixed)
    assert {name for name in first if first[name] != second[name]} == {"settings"}
    answers = []
    for cache in (None, "static"):
        task = load_task(Parameters.check({**PLAIN, "cache": cache, "samples": 4}))
        task.load("cpu")
        rows, _ = task.load_rows()
        task.warm_up_longest(rows)
        inputs = task.prepare(rows[:1])
        answers.append(task.answers(inputs, task.run("generate", inputs)))
    assert answers[0] == answers[1]


def test_limits_are_energy_over_work_and_above_rest(monkeypatch):
    found = efficiency.cost(record(energies_j=(4.0, 6.0), seconds=0.5), amount=1000, rest_w=2.0)
    assert (found.per_s, found.j) == pytest.approx((4000, 2.5 / 1000))
    assert found.above_rest_j == pytest.approx((2.5 - 2.0 * 0.25) / 1000)
    monkeypatch.setitem(efficiency.SIZES, "cpu", (64, 1 << 20))
    limits = efficiency.measure_limits(
        ["float32"], device="cpu", meters=[Plug(lambda now_s: 10.0 * now_s)], window_s=0.05
    )
    assert limits.rest_w == pytest.approx(10.0, rel=0.01)
    for one in (limits.flop["float32"], limits.byte):
        assert one.j * one.per_s == pytest.approx(10.0, rel=0.05)  # watts
        assert one.above_rest_j < 0.1 * one.j


def test_a_calibration_is_read_from_its_file_and_one_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(efficiency, "results_root", lambda: tmp_path)
    (tmp_path / "efficiency").mkdir()
    (tmp_path / "efficiency" / "limits.json").write_text(LIMITS.model_dump_json())
    asked = EfficiencyParameters(devices="cpu", dtypes="", calibration_s=0.02)
    assert efficiency.calibrate(asked) == LIMITS
    with pytest.raises(AttributeError, match="float13"):
        efficiency.calibrate(asked.model_copy(update={"dtypes": "float13"}))
