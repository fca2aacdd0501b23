"""What an import asks for, and what it refuses: facts not stated, contradictions, damage. Nothing is written."""

from __future__ import annotations

import zipfile

import pytest
from format_builders import energy, runner_report

from energylab.errors import FormatError, UnknownNameError
from energylab.formats import import_files, importing

TEXT = {"task": "text_generation", "model": "org/m", "queries": 1000}
IMAGES = {"task": "image_generation"}
TRACKED = {**TEXT, "component": "cpu"}
TRACKER = "codecarbon/emissions.csv"
OPTIMUM = "optimum_energy_star/benchmark"
WINDOWS = ("zeus.csv", "start_time,window_name,elapsed_time,gpu0_energy\n1.5,run,12.5,1800.0\n")
COLUMNS = "run_id,duration,gpu_energy,cpu_energy,ram_energy,energy_consumed\n"


def report(*energies, **fields):
    return "benchmark_report.json", {"forward": energy(*energies) if energies else {"energy": fields}}


def board(text):
    return "board.csv", f"model,energy_wh_per_1000_queries{text}"


@pytest.mark.parametrize(
    ("file", "asked", "message"),
    [
        # not stated
        (report(0.01), {**TEXT, "queries": None}, "state it with --queries"),
        (report(0.01), {**TEXT, "task": None}, "state it with --task"),
        (TRACKER, {**TRACKED, "model": None}, "row 2 does not name the model; state it with --model"),
        (report(gpu=1.0), TEXT, "state it with --unit"),
        (("own.csv", "model,total_gpu_energy\na,0.1\n"), IMAGES, "nothing in the file proves the unit.*--unit, one of"),
        (TRACKER, TEXT, "all gpu energies are zero or missing.*--component cpu or ram or total"),
        (f"{OPTIMUM}_report.json", {}, "ran on a CPU.*--component cpu, ram or total"),
        (TRACKER, {**TRACKED, "model_column": "projectname"}, "has no column 'projectname'"),
        (WINDOWS, {**TEXT, "model_column": "name"}, "only its column window_name can name the model"),
        (TRACKER, {**TEXT, "component": "npu"}, "component 'npu' is not known; allowed: gpu, cpu, ram, total"),
        # contradictions
        (report(0.01), {**TEXT, "unit": "Wh"}, "--unit Wh contradicts the file, which shows kWh"),
        (f"{OPTIMUM}.json", {"component": "cpu", "queries": 30}, "--queries 30 contradicts the file, which says 20"),
        (report(0.02, [0.01, 0.02]), TEXT, "2 measures have the mean 0.015"),
        (("benchmark_report.json", runner_report(gpu_energy_kwh=12.5)), TEXT,
         "gpu_energy_wh=12.5 and gpu_energy_kwh=12.5 are different energies"),
        (("emissions.csv", f"{COLUMNS}r,1,0.1,0.1,0.1,0.5\n"), TEXT, "row 2: gpu_energy .* correct the row"),
        # damage
        (report(unit="kWh", gpu="much"), TEXT, "gpu='much' must be a number"),
        (report(unit="kWh", gpu=True), TEXT, "gpu=True is not a number"),
        (report(unit="furlong", gpu=1.0), TEXT, "unknown unit 'furlong'"),
        (board("\na,1.0,2.0\n"), IMAGES, "row 2: 3 cells where the header has 2"),
        (board("\na,many\n"), IMAGES, "row 2: energy='many' must be a number"),
        (board(",class\na,1.0,D\n"), IMAGES, "model_class='D' must be 'A', 'B', 'C'"),
        (board("\n,1.0\n"), IMAGES, "does not name the model"),
        (("a.json", "{"), {}, "truncated or not JSON"),
        (("a.csv", "model,model\n1,2\n"), {}, "names .model. twice"),
        (("a.csv", ""), {}, "is empty; its first row must name the columns"),
        # of no known format
        (("a.json", {"hello": 1}), {}, "has no known format; known formats"),
        (("a.csv", "model,watt\na,1.0\n"), {}, "Your own table.* needs no import"),
        (("GPU_ENERGY_WH.txt", "12,34"), TEXT, "has no known format"),
    ],
)  # fmt: skip
def test_one_clear_error_and_nothing_is_written(file, asked, message, imported, tmp_path):
    with pytest.raises((FormatError, UnknownNameError), match=message):
        imported(file, **asked)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_when_one_of_several_is_bad(imported, tmp_path):
    with pytest.raises(FormatError, match="has no known format"):
        imported(("benchmark_report.json", runner_report()), ("bad.json", {"hello": 1}), task="x")
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_opened_and_formats_that_are_unknown(tmp_path, monkeypatch):
    with pytest.raises(FormatError, match="cannot read .*nothing.json: No such file"):
        import_files([tmp_path / "nothing.json"], tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(FormatError, match="has no file of a known format; its files: readme.txt"):
        import_files([tmp_path / "a.zip"], tmp_path / "out")
    with pytest.raises(UnknownNameError, match="did you mean 'codecarbon'"):
        import_files([tmp_path / "a.zip"], tmp_path / "out", format="codecarbn")
    monkeypatch.setattr(importing, "MOST_BYTES", 0)
    with pytest.raises(FormatError, match="unpacks to more than 0 MiB"):
        import_files([tmp_path / "a.zip"], tmp_path / "out")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"PK\x01\x02", b"PK\x00\x00"))
    with pytest.raises(FormatError, match="is a damaged archive"):
        import_files([tmp_path / "a.zip"], tmp_path / "out")
