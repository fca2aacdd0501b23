"""optimum-benchmark's reports: genuine ones, repeats, failed meters, and files that contradict themselves."""

from __future__ import annotations

import json

import pytest
from format_builders import energy, mean

import energylab
from energylab.energy import totals
from energylab.errors import FormatError
from energylab.formats import Asked, import_files

J_PER_KWH = 3.6e6
TEXT = {"task": "text_generation", "model": "org/m", "queries": 1000}


def test_genuine_energy_star_report(samples, tmp_path):
    [found] = import_files([samples / "optimum_energy_star/benchmark_report.json"], tmp_path, Asked(component="cpu"))
    raw = json.loads((samples / "optimum_energy_star/benchmark_report.json").read_text())
    cpu = {name: raw[name]["energy"]["cpu"] * J_PER_KWH for name in ("preprocess_dataset", "prefill", "decode")}
    record = found.record
    phases = {total.phase: total for total in totals(record)}
    assert phases["preprocess"].energy_j == pytest.approx(cpu["preprocess_dataset"], rel=1e-12)
    assert phases["generate"].energy_j == pytest.approx(cpu["prefill"] + cpu["decode"], rel=1e-12)
    assert phases["decode"].energy_j == pytest.approx(cpu["decode"], rel=1e-9)
    assert phases["preprocess"].duration_s == raw["preprocess_dataset"]["latency"]["total"]
    assert (record.energy_kind, record.queries, record.task.name) == ("imported", 20, "text_generation")
    assert record.model.name == "../tiny-random-llama"
    assert record.devices[0].type == "cpu"
    assert record.host.packages["transformers"] == "4.56.2"
    assert record.extra["import"]["unit_proof"] == "field energy.unit says 'kWh'"
    assert {"model.revision", "data.digest", "warm_up", "quality"} <= set(record.missing)
    assert not {"host.processor", "host.packages", "protocol.seed"} & set(record.missing)


def test_queries_that_the_configuration_says_otherwise_are_refused(samples, tmp_path):
    path = samples / "optimum_energy_star/benchmark.json"
    with pytest.raises(FormatError, match=r"--queries 30 contradicts the file, which says 20"):
        import_files([path], tmp_path, Asked(component="cpu", queries=30))


def test_all_rows_of_a_data_set_are_as_many_as_is_stated(write, tmp_path):
    """The runner's default is -1 samples: the whole set."""
    config = {"backend": {"model": "org/m", "task": "text-classification"},
              "scenario": {"name": "energy_star", "num_samples": -1}}  # fmt: skip
    path = write("benchmark.json", {"config": config, "report": {"forward": energy(0.1)}})
    with pytest.raises(FormatError, match="state it with --queries"):
        import_files([path], tmp_path / "out")
    assert import_files([path], tmp_path / "out", Asked(queries=872))[0].record.queries == 872


def test_inference_scenario_is_of_one_batch(samples, tmp_path):
    [found] = import_files([samples / "optimum_inference/benchmark_report.json"], tmp_path, Asked(component="total"))
    raw = json.loads((samples / "optimum_inference/benchmark_report.json").read_text())
    assert found.record.queries == 2  # the batch: this scenario divides by its iterations
    assert found.rated.with_wh == pytest.approx(raw["generate"]["energy"]["total"] * 1000 / 2 * 1000, rel=1e-12)


def test_report_and_copy_of_one_session_are_one_record(samples, tmp_path):
    folder = samples / "optimum_energy_star"
    files = [folder / "benchmark.json", folder / "benchmark_report.json"]
    [found] = import_files(files, tmp_path, Asked(component="cpu"))
    assert list(tmp_path.rglob("record.json")) == [found.path]
    assert found.source == str(files[1])


def test_a_report_of_a_cpu_has_no_gpu_energy(samples, tmp_path):
    with pytest.raises(FormatError, match="ran on a CPU.*--component cpu, ram or total"):
        import_files([samples / "optimum_energy_star/benchmark_report.json"], tmp_path)


def test_a_failed_meter_that_is_named_gives_an_invalid_record(write, tmp_path):
    path = write("benchmark_report.json", {"forward": energy(0.0, [0.0, 0.0])})
    [found] = import_files([path], tmp_path / "out", Asked(**TEXT, component="gpu"))
    assert [w.reasons for w in found.record.windows] == [("zero_reading",), ("zero_reading",)]
    assert (found.rated.with_wh, found.rated.without_wh) == (0.0, None)
    assert not found.record.valid


def test_failed_meters_make_the_record_invalid_and_show_both_totals(repeated, write, tmp_path):
    [found] = import_files([write("benchmark_report.json", repeated["report"])], tmp_path / "out", Asked(**TEXT))
    every = [0.001 + g for g in repeated["generate_kwh"]]
    whole = [0.001 + g for g in repeated["generate_kwh"] if g]
    assert found.rated.with_wh == pytest.approx(mean(every) * 1000, rel=1e-12)
    assert found.rated.without_wh == pytest.approx(mean(whole) * 1000, rel=1e-12)
    assert found.rated.invalid == 2
    assert -0.21 < found.rated.shift < -0.19
    bad = {(w.run, w.phase): w.reasons for w in found.record.windows if not w.valid}
    assert bad == {(3, "generate"): ("zero_reading",), (7, "generate"): ("zero_reading",)}
    assert not found.record.valid
    table = energylab.read(tmp_path / "out")
    scored = table[table.scored]
    assert not scored.valid.any()
    stars = energylab.rate(table)
    assert stars.energy_wh.isna().all()
    assert stars.stars.isna().all()


def test_runs_with_an_invalid_measure_can_be_left_out_and_are_named(repeated, write, tmp_path):
    asked = Asked(**TEXT, leave_out_invalid=True)
    [found] = import_files([write("benchmark_report.json", repeated["report"])], tmp_path / "out", asked)
    record = found.record
    assert record.valid
    assert {window.run for window in record.windows} == set(range(10)) - {3, 7}
    left = record.extra["import"]["left_out"]
    assert [(each["run"], each["measures"]["generate"]) for each in left] == [
        (3, [0.0, "zero_reading"]),
        (7, [0.0, "zero_reading"]),
    ]
    table = energylab.read(tmp_path / "out")
    whole = [0.001 + g for g in repeated["generate_kwh"] if g]
    assert energylab.rate(table).energy_wh.item() == pytest.approx(mean(whole) * 1000, rel=1e-9)


def test_a_failed_prefill_cancels_in_the_rated_energy(write, tmp_path):
    prefill, generate = [0.01, 0.0, 0.01], [0.05, 0.05, 0.05]
    decode = [g - p for g, p in zip(generate, prefill, strict=True)]
    report = {"preprocess": energy(0.001), "prefill": energy(mean(prefill), prefill),
              "decode": energy(mean(decode), decode)}  # fmt: skip
    [found] = import_files([write("benchmark_report.json", report)], tmp_path / "out", Asked(**TEXT))
    assert [(w.run, w.phase) for w in found.record.windows if not w.valid] == [(1, "prefill")]
    assert found.record.valid
    assert found.rated.with_wh == pytest.approx(51.0)
    assert found.rated.invalid == 1


def test_a_decode_below_zero_is_invalid_even_where_generate_is_not(write, tmp_path):
    report = {"preprocess": energy(0.001), "prefill": energy(0.05), "decode": energy(-0.02)}
    [found] = import_files([write("benchmark_report.json", report)], tmp_path / "out", Asked(**TEXT))
    assert not found.record.valid
    assert {w.phase: w.reasons for w in found.record.windows if w.reasons} == {"generate": ("negative_decode",)}
    assert found.rated.with_wh == pytest.approx(31.0)
    assert found.rated.without_wh is None


@pytest.mark.parametrize(
    ("report", "asked", "says"),
    [
        ({"forward": energy(0.02, [0.01, 0.02])}, TEXT, "2 measures have the mean 0.015"),
        ({"forward": energy(0.01)}, {**TEXT, "unit": "Wh"}, "--unit Wh contradicts the file, which shows kWh"),
        ({"forward": energy(0.01)}, {**TEXT, "queries": None}, "state it with --queries"),
        ({"forward": energy(0.01)}, {**TEXT, "task": None}, "name it with --task"),
        ({"forward": energy(0.01)}, {**TEXT, "model": None}, "name it with --model"),
        ({"forward": energy(0.0)}, TEXT, "gpu energy is zero or missing everywhere.*--component cpu or ram or total"),
        ({"forward": {"energy": {"unit": "kWh", "gpu": "much"}}}, TEXT, "gpu='much' must be a number"),
        ({"forward": {"energy": {"unit": "furlong", "gpu": 1.0}}}, TEXT, "unknown unit 'furlong'"),
        ({"forward": {"energy": {"gpu": 1.0}}}, TEXT, "state it with --unit"),
    ],
)
def test_errors_name_value_and_remedy(report, asked, says, write, tmp_path):
    with pytest.raises(FormatError if "unknown unit" not in says else Exception, match=says):
        import_files([write("benchmark_report.json", report)], tmp_path / "out", Asked(**asked))
    assert not (tmp_path / "out").exists()
