"""The AI Energy Score runner's report, and its summary."""

from __future__ import annotations

import json
import zipfile

import pytest
from format_builders import runner_report

import energylab
from energylab.energy import totals
from energylab.errors import FormatError
from energylab.formats import Asked, import_files

TASK = Asked(task="text_generation")
ALL = Asked(task="text_generation", model="org/m", queries=1000)


def test_runner_report(write, tmp_path):
    [found] = import_files([write("benchmark_report.json", runner_report())], tmp_path / "out", TASK)
    record = found.record
    assert found.rated.with_wh == pytest.approx(12.5 / 50 * 1000)
    assert (record.model.name, record.queries, len(record.devices)) == ("openai/gpt-oss-20b", 50, 2)
    assert record.devices[0].name is None
    assert "devices.name" in record.missing
    assert "devices.count" not in record.missing
    assert record.data.name == "EnergyStarAI/text_generation"
    assert record.windows[0].duration_s == 131.0
    assert (record.windows[0].input_tokens, record.windows[0].output_tokens) == (18450, 500)
    assert "gpu_energy_wh and gpu_energy_kwh" in record.extra["import"]["unit_proof"]
    row = energylab.read(tmp_path / "out").iloc[0]
    assert (row.phase, row.scored, row.gpus) == ("total", True, 2)
    assert row.energy_j == pytest.approx(12.5 * 3600)


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (runner_report(failed=3), "failed_query"),
        (runner_report(error="Tracker not started"), "meter_error"),
    ],
)
def test_a_run_that_failed_has_no_figure(report, reason, write, tmp_path):
    [found] = import_files([write("benchmark_report.json", report)], tmp_path / "out", TASK)
    assert not found.record.valid
    assert found.record.windows[0].reasons == (reason,)
    assert found.rated.without_wh is None


def test_fields_that_are_not_the_same_energy(write, tmp_path):
    path = write("benchmark_report.json", runner_report(gpu_energy_kwh=12.5))
    with pytest.raises(FormatError, match="gpu_energy_wh=12.5 and gpu_energy_kwh=12.5 are not the same energy"):
        import_files([path], tmp_path / "out", TASK)


def test_summary_of_phases(write, tmp_path):
    content = {"units": "Wh", "total": 7.31, "format": "optimum", "preprocess_wh": 0.05, "prefill_wh": 3.1,
               "decode_wh": 4.16}  # fmt: skip
    [found] = import_files([write("GPU_ENERGY_SUMMARY.json", content)], tmp_path / "out", ALL)
    phases = {total.phase: total for total in totals(found.record)}
    assert phases["preprocess"].energy_j == pytest.approx(0.05 * 3600)
    assert phases["generate"].energy_j == pytest.approx(7.26 * 3600)
    assert phases["generate"].bound_j == pytest.approx(0.01 * 3600)  # two figures, each rounded to 0.01 Wh
    assert found.rated.with_wh == pytest.approx(7.31)
    assert found.record.extra["import"]["notes"] == []


@pytest.mark.parametrize(
    ("changes", "phases"),
    [
        ({"format": "ai_energy_benchmarks", "total": 12.5, "prefill_wh": 0.0, "decode_wh": 12.5}, {"total": ()}),
        ({"format": "optimum", "total": 3.15, "prefill_wh": 3.1, "decode_wh": -3.1},
         {"preprocess": (), "prefill": (), "generate": ("zero_reading",)}),
    ],
    ids=["zeros without phases are no measures", "a zero that decode hides is one"],
)  # fmt: skip
def test_zeros_of_a_summary(changes, phases, write, tmp_path):
    path = write("GPU_ENERGY_SUMMARY.json", {"units": "Wh", "preprocess_wh": 0.05, **changes})
    [found] = import_files([path], tmp_path / "out", ALL)
    assert {window.phase: window.reasons for window in found.record.windows} == phases
    assert found.record.valid == (not any(phases.values()))


def test_a_summary_needs_queries(write, tmp_path):
    path = write("GPU_ENERGY_SUMMARY.json", {"units": "Wh", "total": 5.0})
    with pytest.raises(FormatError, match="state it with --queries"):
        import_files([path], tmp_path / "out", Asked(task="x", model="m"))


@pytest.mark.parametrize(
    ("total_wh", "said"), [(12.5, ""), (13.1 + 1e-15, "13.1 Wh"), (None, "nothing")], ids=["same", "another", "none"]
)
def test_a_summary_beside_its_report_is_checked_and_no_session(total_wh, said, write, tmp_path):
    summary = {"units": "Wh", "total": total_wh, "format": "ai_energy_benchmarks"}
    files = [write("benchmark_report.json", runner_report()), write("GPU_ENERGY_SUMMARY.json", summary)]
    if total_wh == 12.5:
        assert len(import_files(files, tmp_path / "out", TASK)) == len(energylab.read(tmp_path / "out")) == 1
        return
    with pytest.raises(FormatError, match=rf"says {said}, and the report beside it adds up to 12.5 Wh; import"):
        import_files(files, tmp_path / "out", TASK)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["12.50\n", "1,234.56\n", "12,50", ""])
@pytest.mark.parametrize("report", [True, False])
def test_the_text_beside_a_summary_in_an_archive_is_left_alone(text, report, tmp_path):
    summary = {"units": "Wh", "total": 12.5, "format": "ai_energy_benchmarks"}
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("GPU_ENERGY_WH.txt", text)
        archive.writestr("GPU_ENERGY_SUMMARY.json", json.dumps(summary))
        if report:
            archive.writestr("benchmark_report.json", json.dumps(runner_report()))
    [found] = import_files([tmp_path / "s.zip"], tmp_path / "out", TASK if report else ALL)
    assert found.rated.with_wh == pytest.approx(12.5 / found.record.queries * 1000)
