"""What every import has in common: an id that the content gives, archives, the command; and commands that export."""

from __future__ import annotations

import datetime as dt
import json
import zipfile

import pytest
from format_builders import runner_report
from release_builders import record_of, released
from typer.testing import CliRunner

import energylab
from energylab import release
from energylab.cli import app
from energylab.energy import WH_PER_1000_QUERIES, session_energy_j
from energylab.formats import Asked, import_files

TASK = {"task": "text_generation"}
REPORT = ("benchmark_report.json", runner_report())


def run(*words):
    """Run the command line, and return what it printed."""
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.output


def test_the_same_file_is_the_same_record(write, tmp_path):
    path, earlier = write(*REPORT), dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    [first] = import_files([path], tmp_path / "out", Asked(**TASK), now=lambda: earlier)
    before = first.path.read_bytes()
    [again] = import_files([path], tmp_path / "out", Asked(**TASK))
    assert (first.new, again.new) == (True, False)
    assert again.path.read_bytes() == before


def test_components_are_cohorts_of_their_own(imported, tmp_path):
    imported(REPORT, **TASK)
    imported(REPORT, **TASK, component="cpu")
    table = energylab.read(tmp_path / "out")
    assert table.cohort.nunique() == 2
    assert sorted(energylab.rate(table).energy_wh) == pytest.approx([25.0, 250.0])


def test_a_report_in_an_archive_and_beside_it_is_one_session(write, tmp_path):
    with zipfile.ZipFile(tmp_path / "logs.zip", "w") as archive:
        archive.writestr("run/benchmark_report.json", json.dumps(runner_report()))
        archive.writestr("run/benchmark.log", "hello")
    [found] = import_files([tmp_path / "logs.zip", write(*REPORT)], tmp_path / "out", Asked(**TASK))
    assert found.source.endswith("logs.zip:run/benchmark_report.json")
    assert found.rated.with_wh == pytest.approx(250.0)


def test_command_says_unit_totals_and_what_is_missing(repeated, write, tmp_path):
    words = ["import", write("benchmark_report.json", repeated[0]), "--output", tmp_path / "out"]
    words += ["--task", "text_generation", "--model", "org/m", "--queries", 1000]
    printed = run(*words)
    for line in (
        "unit: kWh, by field energy.unit says 'kWh'",
        "no figure: run 3: generate has no total: zero_reading",
        "2 of 10 runs have an energy that is zero, negative or otherwise invalid",
        "with them 41.7 Wh, without them 51.875 Wh (-19.6 % from the invalid ones)",
        "not stated: batch_size, created_utc",
        "1 new record",
    ):
        assert line in printed
    printed = run(*words, "--leave-out-invalid")
    assert "org/m, Text generation: 51.875 Wh per 1,000 queries (imported" in printed
    assert "2 runs excluded on request" in printed


def test_commands_export(tmp_path):
    record = record_of("org/a", 4.0)
    path = release.write(released([record], tmp_path / "study"), tmp_path)
    card = run("export", "card", path, "org/a", "--country", "POL")
    assert card.startswith("---\nmodel-index:")
    assert "grid: Poland" in card
    run("export", "card", path, "org/a", "--output", tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text().count("model-index") == 1
    run("export", "table", tmp_path / "study", "--output", tmp_path / "t")
    run("export", "submission", tmp_path / "study/0000", "--output", tmp_path / "s.zip")
    printed = run("import", tmp_path / "s.zip", "--output", tmp_path / "imported")
    assert f"{session_energy_j(record) * WH_PER_1000_QUERIES:.6g} Wh per 1,000 queries" in printed
