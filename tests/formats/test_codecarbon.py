"""CodeCarbon's emissions.csv: a genuine one, what it does not say, and rows that contradict themselves."""

from __future__ import annotations

import csv

import pytest

from energylab.errors import FormatError
from energylab.formats import Asked, import_files

ASKED = {"task": "text_generation", "queries": 100, "component": "cpu"}


def test_genuine_file(samples, tmp_path):
    path = samples / "codecarbon/emissions.csv"
    found = import_files([path], tmp_path, Asked(**ASKED, model_column="project_name"))
    rows = list(csv.DictReader(path.open()))
    for each, row in zip(found, rows, strict=True):
        assert each.record.model.name == row["project_name"]
        assert each.record.windows[0].energy_j == pytest.approx(float(row["cpu_energy"]) * 3.6e6, rel=1e-12)
        assert each.record.windows[0].duration_s == float(row["duration"])
        assert {r.device for r in each.record.windows[0].meters} == {"cpu", "gpu", "ram", "total"}
        assert each.record.created_utc.isoformat().startswith(row["timestamp"])
        assert each.record.extra["codecarbon"]["country_iso_code"] == "FRA"
    assert {"model.source", "data.name", "batch_size"} <= set(found[0].record.missing)


def test_a_time_that_a_spreadsheet_wrote_anew_is_not_stated(samples, tmp_path):
    (row, *_) = csv.DictReader((samples / "codecarbon/emissions.csv").open())
    saved = tmp_path / "emissions.csv"
    with saved.open("w", newline="") as file:
        table = csv.DictWriter(file, row)
        table.writeheader()
        table.writerow({**row, "timestamp": "01.02.2026 10:00"})
    (found,) = import_files([saved], tmp_path, Asked(**ASKED, model="m"))
    assert "created_utc" in found.record.missing


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({**ASKED, "component": None, "model": "m"}, "gpu energy is zero or missing everywhere.*cpu or ram or total"),
        (ASKED, "row 2 does not name the model; name it with --model"),
        ({**ASKED, "model": "m", "queries": None}, "state it with --queries"),
        ({**ASKED, "model": "m", "task": None}, "name it with --task"),
        ({**ASKED, "model_column": "projectname"}, "has no column 'projectname'"),
        ({**ASKED, "model": "m", "unit": "J"}, "--unit J contradicts the file, which shows kWh"),
        ({**ASKED, "model": "m", "component": "npu"}, "component 'npu' is not known; allowed: gpu, cpu, ram, total"),
    ],
)
def test_what_it_does_not_say_is_asked_for(asked, says, samples, tmp_path):
    with pytest.raises(FormatError, match=says):
        import_files([samples / "codecarbon/emissions.csv"], tmp_path, Asked(**asked))


def test_a_row_that_contradicts_itself(samples, write, tmp_path):
    rows = list(csv.DictReader((samples / "codecarbon/emissions.csv").open()))
    rows[1]["energy_consumed"] = "0.5"
    text = ",".join(rows[0]) + "\n" + "\n".join(",".join(row.values()) for row in rows) + "\n"
    with pytest.raises(FormatError, match="row 3: gpu_energy .* the row contradicts itself"):
        import_files([write("emissions.csv", text)], tmp_path / "out", Asked(**ASKED, model="m"))


def test_several_gpus(samples, write, tmp_path):
    row = next(csv.DictReader((samples / "codecarbon/emissions.csv").open()))
    row |= {"gpu_count": "2", "gpu_model": "2 x NVIDIA H100 80GB HBM3", "gpu_energy": "0.5", "energy_consumed": "0.5"}
    row |= {"cpu_energy": "0.0", "ram_energy": "0.0"}
    text = ",".join(row) + "\n" + ",".join(row.values()) + "\n"
    [found] = import_files([write("emissions.csv", text)], tmp_path / "out", Asked(model="m", task="x", queries=1000))
    assert [device.name for device in found.record.devices] == ["NVIDIA H100 80GB HBM3"] * 2
    assert found.rated.with_wh == pytest.approx(500.0)
