"""CodeCarbon's emissions.csv: a genuine one, and what rows of others hold; see test_cases.py too."""

from __future__ import annotations

import csv

import pytest

ASKED = {"task": "text_generation", "queries": 100}
COLUMNS = "run_id,timestamp,duration,gpu_count,gpu_model,gpu_energy,cpu_energy,ram_energy,energy_consumed"


def test_genuine_file(samples, imported):
    found = imported("codecarbon/emissions.csv", **ASKED, component="cpu", model_column="project_name")
    rows = list(csv.DictReader((samples / "codecarbon/emissions.csv").open()))
    for each, row in zip(found, rows, strict=True):
        (window,) = each.record.windows
        assert each.record.model.name == row["project_name"]
        assert window.energy_j == pytest.approx(float(row["cpu_energy"]) * 3.6e6, rel=1e-12)
        assert window.duration_s == float(row["duration"])
        assert {reading.device for reading in window.meters} == {"cpu", "gpu", "ram", "total"}
        assert each.record.created_utc.isoformat().startswith(row["timestamp"])
        assert each.record.extra["codecarbon"]["country_iso_code"] == "FRA"
    assert {"model.source", "data.name", "batch_size"} <= set(found[0].record.missing)


def test_several_gpus_and_a_time_that_a_spreadsheet_wrote_anew(imported):
    row = "r,01.02.2026 10:00,4.0,2,2 x NVIDIA H100 80GB HBM3,0.5,0.0,0.0,0.5"
    [found] = imported(("emissions.csv", f"{COLUMNS}\n{row}\n"), **ASKED, model="m")
    assert [device.name for device in found.record.devices] == ["NVIDIA H100 80GB HBM3"] * 2
    assert found.rated.with_wh == pytest.approx(5000.0)
    assert "created_utc" in found.record.missing, "not stated"
