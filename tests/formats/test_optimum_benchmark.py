"""optimum-benchmark's reports: genuine ones, repeats and failed meters."""

from __future__ import annotations

import json

import pytest
from format_builders import energy, mean

import energylab
from energylab.energy import totals
from energylab.errors import FormatError

J_PER_KWH = 3.6e6
TEXT = {"task": "text_generation", "model": "org/m", "queries": 1000}
STAR = "optimum_energy_star/benchmark_report.json"
INFERENCE = "optimum_inference/benchmark_report.json"


def report(**phases):
    return "benchmark_report.json", phases


def invalid(found):
    return {(window.run, window.phase): window.reasons for window in found.record.windows if not window.valid}


def test_genuine_energy_star_report(samples, imported):
    [found] = imported(STAR, component="cpu")
    raw = json.loads((samples / STAR).read_text())
    cpu = {name: raw[name]["energy"]["cpu"] * J_PER_KWH for name in ("preprocess_dataset", "prefill", "decode")}
    record = found.record
    phases = {total.phase: total for total in totals(record)}
    assert phases["preprocess"].energy_j == pytest.approx(cpu["preprocess_dataset"], rel=1e-12)
    assert phases["generate"].energy_j == pytest.approx(cpu["prefill"] + cpu["decode"], rel=1e-12)
    assert phases["decode"].energy_j == pytest.approx(cpu["decode"], rel=1e-9)
    assert phases["preprocess"].duration_s == raw["preprocess_dataset"]["latency"]["total"]
    assert (record.energy_kind, record.queries, record.task.name) == ("imported", 20, "text_generation")
    assert (record.model.name, record.devices[0].type) == ("../tiny-random-llama", "cpu")
    assert record.host.packages["transformers"] == "4.56.2"
    assert record.extra["import"]["unit_proof"] == "field energy.unit says 'kWh'"
    assert {"model.revision", "data.digest", "warm_up", "quality"} <= set(record.missing)
    assert not {"host.processor", "host.packages", "protocol.seed"} & set(record.missing)


def test_inference_scenario_is_of_one_batch(samples, imported):
    [found] = imported(INFERENCE, component="total")
    raw = json.loads((samples / INFERENCE).read_text())
    assert found.record.queries == 2  # the batch: this scenario divides by its iterations
    assert found.rated.with_wh == pytest.approx(raw["generate"]["energy"]["total"] * 1000 / 2 * 1000, rel=1e-12)


def test_report_and_copy_of_one_session_are_one_record(samples, imported, tmp_path):
    [found] = imported("optimum_energy_star/benchmark.json", STAR, component="cpu")
    assert list(tmp_path.rglob("record.json")) == [found.path]
    assert found.source == str(samples / STAR)


def test_all_rows_of_a_data_set_are_as_many_as_is_stated(imported):
    """The runner's default is -1 samples: the whole set."""
    config = {"backend": {"model": "org/m", "task": "text-classification"},
              "scenario": {"name": "energy_star", "num_samples": -1}}  # fmt: skip
    file = ("benchmark.json", {"config": config, "report": {"forward": energy(0.1)}})
    with pytest.raises(FormatError, match="state it with --queries"):
        imported(file)
    assert imported(file, queries=872)[0].record.queries == 872


def test_a_failed_meter_that_is_named_gives_an_invalid_record(imported):
    [found] = imported(report(forward=energy(0.0, [0.0, 0.0])), **TEXT, component="gpu")
    assert invalid(found) == {(run, "forward"): ("zero_reading",) for run in (0, 1)}
    assert (found.rated.with_wh, found.rated.without_wh) == (0.0, None)
    assert not found.record.valid


def test_failed_meters_make_the_record_invalid_and_show_both_totals(repeated, imported, tmp_path):
    content, generate = repeated
    [found] = imported(("benchmark_report.json", content), **TEXT)
    assert found.rated.with_wh == pytest.approx(mean([0.001 + g for g in generate]) * 1000, rel=1e-12)
    assert found.rated.without_wh == pytest.approx(mean([0.001 + g for g in generate if g]) * 1000, rel=1e-12)
    assert found.rated.invalid == 2
    assert -0.21 < found.rated.shift < -0.19
    assert invalid(found) == {(run, "generate"): ("zero_reading",) for run in (3, 7)}
    table = energylab.read(tmp_path / "out")
    assert not table[table.scored].valid.any()
    assert energylab.rate(table)[["energy_wh", "stars"]].isna().all(axis=None)


def test_runs_with_an_invalid_measure_can_be_left_out_and_are_named(repeated, imported, tmp_path):
    content, generate = repeated
    [found] = imported(("benchmark_report.json", content), **TEXT, leave_out_invalid=True)
    assert found.record.valid
    assert {window.run for window in found.record.windows} == set(range(10)) - {3, 7}
    left = [(each["run"], each["measures"]["generate"]) for each in found.record.extra["import"]["left_out"]]
    assert left == [(3, [0.0, "zero_reading"]), (7, [0.0, "zero_reading"])]
    rated = energylab.rate(energylab.read(tmp_path / "out"))
    assert rated.energy_wh.item() == pytest.approx(mean([0.001 + g for g in generate if g]) * 1000, rel=1e-9)


def test_a_failed_prefill_cancels_in_the_rated_energy(imported):
    prefill, decode = [0.01, 0.0, 0.01], [0.04, 0.05, 0.04]
    phases = {"prefill": energy(mean(prefill), prefill), "decode": energy(mean(decode), decode)}
    [found] = imported(report(preprocess=energy(0.001), **phases), **TEXT)
    assert invalid(found) == {(1, "prefill"): ("zero_reading",)}
    assert found.record.valid
    assert (found.rated.with_wh, found.rated.invalid) == (pytest.approx(51.0), 1)


def test_a_decode_below_zero_is_invalid_even_where_generate_is_not(imported):
    [found] = imported(report(preprocess=energy(0.001), prefill=energy(0.05), decode=energy(-0.02)), **TEXT)
    assert not found.record.valid
    assert invalid(found) == {(0, "generate"): ("negative_decode",)}
    assert (found.rated.with_wh, found.rated.without_wh) == (pytest.approx(31.0), None)
