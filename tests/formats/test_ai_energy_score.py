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

TASK = {"task": "text_generation"}
ALL = {"task": "text_generation", "model": "org/m", "queries": 1000}
REPORT = ("benchmark_report.json", runner_report())


def summary(**fields):
    return "GPU_ENERGY_SUMMARY.json", {"units": "Wh", **fields}


def test_runner_report(imported, tmp_path):
    [found] = imported(REPORT, **TASK)
    record = found.record
    assert found.rated.with_wh == pytest.approx(12.5 / 50 * 1000)
    assert (record.model.name, record.queries, len(record.devices)) == ("openai/gpt-oss-20b", 50, 2)
    assert record.devices[0].name is None
    assert "devices.name" in record.missing
    assert "devices.count" not in record.missing
    assert record.data.name == "EnergyStarAI/text_generation"
    (window,) = record.windows
    assert (window.duration_s, window.input_tokens, window.output_tokens) == (131.0, 18450, 500)
    assert "gpu_energy_wh and gpu_energy_kwh" in record.extra["import"]["unit_proof"]
    row = energylab.read(tmp_path / "out").iloc[0]
    assert (row.phase, row.scored, row.gpus, row.energy_j) == ("total", True, 2, pytest.approx(12.5 * 3600))


@pytest.mark.parametrize(
    ("changes", "reason"), [({"failed": 3}, "failed_query"), ({"error": "Tracker not started"}, "meter_error")]
)
def test_a_run_that_failed_has_no_figure(changes, reason, imported):
    [found] = imported(("benchmark_report.json", runner_report(**changes)), **TASK)
    assert not found.record.valid
    assert found.record.windows[0].reasons == (reason,)
    assert found.rated.without_wh is None


def test_summary_of_phases(imported):
    [found] = imported(summary(total=7.31, format="optimum", preprocess_wh=0.05, prefill_wh=3.1, decode_wh=4.16), **ALL)
    phases = {total.phase: total for total in totals(found.record)}
    assert phases["preprocess"].energy_j == pytest.approx(0.05 * 3600)
    assert phases["generate"].energy_j == pytest.approx(7.26 * 3600)
    assert phases["generate"].bound_j == pytest.approx(0.01 * 3600)  # two figures, each rounded to 0.01 Wh
    assert found.rated.with_wh == pytest.approx(7.31)
    assert found.record.extra["import"]["notes"] == []


@pytest.mark.parametrize(
    ("fields", "phases"),
    [
        ({"format": "ai_energy_benchmarks", "total": 12.5, "prefill_wh": 0.0, "decode_wh": 12.5}, {"total": ()}),
        ({"format": "optimum", "total": 3.15, "prefill_wh": 3.1, "decode_wh": -3.1},
         {"preprocess": (), "prefill": (), "generate": ("zero_reading",)}),
    ],
    ids=["zeros without phases are no measures", "a zero that decode hides is one"],
)  # fmt: skip
def test_zeros_of_a_summary(fields, phases, imported):
    [found] = imported(summary(preprocess_wh=0.05, **fields), **ALL)
    assert {window.phase: window.reasons for window in found.record.windows} == phases
    assert found.record.valid == (not any(phases.values()))


@pytest.mark.parametrize(("total_wh", "words"), [(12.5, None), (13.1 + 1e-15, "13.1 Wh"), (None, "nothing")])
def test_a_summary_beside_its_report_is_checked_and_no_session(total_wh, words, imported, tmp_path):
    files = [REPORT, summary(total=total_wh, format="ai_energy_benchmarks")]
    if words is None:
        assert len(imported(*files, **TASK)) == len(energylab.read(tmp_path / "out")) == 1
        return
    with pytest.raises(FormatError, match=rf"has {words}, but the sum of its report is 12.5 Wh; import"):
        imported(*files, **TASK)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["12.50\n", "1,234.56\n", "12,50", ""])
@pytest.mark.parametrize("files", [(), (REPORT,)], ids=["alone", "with its report"])
def test_the_text_beside_a_summary_in_an_archive_is_left_alone(text, files, tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("GPU_ENERGY_WH.txt", text)
        for name, content in (summary(total=12.5, format="ai_energy_benchmarks"), *files):
            archive.writestr(name, json.dumps(content))
    [found] = import_files([tmp_path / "s.zip"], tmp_path / "out", Asked(**(TASK if files else ALL)))
    assert found.rated.with_wh == pytest.approx(12.5 / found.record.queries * 1000)
