"""What every import has in common: one format, an id that the content gives, archives, errors, the command."""

from __future__ import annotations

import datetime as dt
import json
import zipfile

import pytest
from format_builders import runner_report
from release_builders import record_of
from typer.testing import CliRunner

import energylab
from energylab import release, store
from energylab.cli import app
from energylab.energy import WH_PER_1000_QUERIES, session_energy_j
from energylab.errors import FormatError, UnknownNameError
from energylab.formats import Asked, import_files

TASK = Asked(task="text_generation")
NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def run(*words):
    """Run the command line and return its result."""
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)


def test_the_same_file_is_the_same_record(write, tmp_path):
    path = write("benchmark_report.json", runner_report())
    [first] = import_files([path], tmp_path / "out", TASK, now=lambda: NOW)
    before = first.path.read_bytes()
    [again] = import_files([path], tmp_path / "out", TASK)
    assert (first.new, again.new) == (True, False)
    assert again.path.read_bytes() == before


def test_components_are_cohorts_of_their_own(write, tmp_path):
    path = write("benchmark_report.json", runner_report())
    import_files([path], tmp_path / "out", TASK)
    import_files([path], tmp_path / "out", Asked(task="text_generation", component="cpu"))
    table = energylab.read(tmp_path / "out")
    assert table.cohort.nunique() == 2
    assert sorted(energylab.rate(table).energy_wh) == pytest.approx([25.0, 250.0])


def test_a_report_in_an_archive_and_beside_it_is_one_session(write, tmp_path):
    with zipfile.ZipFile(tmp_path / "logs.zip", "w") as archive:
        archive.writestr("run/benchmark_report.json", json.dumps(runner_report()))
        archive.writestr("run/benchmark.log", "hello")
    beside = write("benchmark_report.json", runner_report())
    [found] = import_files([tmp_path / "logs.zip", beside], tmp_path / "out", TASK)
    assert found.source.endswith("logs.zip:run/benchmark_report.json")
    assert found.rated.with_wh == pytest.approx(250.0)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "{", "truncated or not JSON"),
        ("a.json", {"hello": 1}, "is of no known format; known are"),
        ("a.csv", "model,model\n1,2\n", "names .model. twice"),
        ("a.csv", "", "is empty; its first row must name the columns"),
    ],
)
def test_files_that_are_nothing_known(name, content, says, write, tmp_path):
    with pytest.raises(FormatError, match=says):
        import_files([write(name, content)], tmp_path / "out")


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(FormatError, match="cannot read .*nothing.json: No such file"):
        import_files([tmp_path / "nothing.json"], tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(FormatError, match="holds no file of a known format; it holds readme.txt"):
        import_files([tmp_path / "a.zip"], tmp_path / "out")


def test_nothing_is_written_when_one_file_is_bad(write, tmp_path):
    files = [write("benchmark_report.json", runner_report()), write("bad.json", {"hello": 1})]
    with pytest.raises(FormatError):
        import_files(files, tmp_path / "out", TASK)
    assert not (tmp_path / "out").exists()


def test_formats_by_name(write, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'codecarbon'"):
        import_files([write("other.txt", "5.00")], tmp_path / "out", format="codecarbn")


def test_command_says_unit_totals_and_what_is_missing(repeated, write, tmp_path):
    path = write("benchmark_report.json", repeated["report"])
    words = ("--task", "text_generation", "--model", "org/m", "--queries", 1000, "--output", tmp_path / "out")
    done = run("import", path, *words)
    assert done.exit_code == 0
    assert "unit: kWh, by field energy.unit says 'kWh'" in done.output
    assert "no figure: run 3: generate has no total: zero_reading" in done.output
    assert "2 of 10 runs have a measure that is zero, negative or otherwise invalid" in done.output
    assert "with them 41.7 Wh, without them 51.875 Wh (-19.6 % from the invalid ones)" in done.output
    assert "not stated, and left open: batch_size, created_utc" in done.output
    assert "1 new record" in done.output
    done = run("import", path, *words, "--leave-out-invalid")
    assert "org/m, Text generation: 51.875 Wh per 1,000 queries (imported" in done.output
    assert "2 runs left out, as asked" in done.output


def test_commands_export(tmp_path):
    record = record_of("org/a", 4.0)
    store.write(record, tmp_path / "study/0")
    path = release.write(release.make([tmp_path / "study"], name="r", date="2026-03-05", draws=0), tmp_path)
    card = run("export", "card", path, "org/a", "--country", "POL")
    assert card.exit_code == 0
    assert card.output.startswith("---\nmodel-index:")
    assert "grid: Poland" in card.output
    assert run("export", "card", path, "org/a", "--output", tmp_path / "card.md").exit_code == 0
    assert (tmp_path / "card.md").read_text().count("model-index") == 1
    assert run("export", "table", tmp_path / "study", "--output", tmp_path / "t").exit_code == 0
    assert run("export", "submission", tmp_path / "study/0", "--output", tmp_path / "s.zip").exit_code == 0
    done = run("import", tmp_path / "s.zip", "--output", tmp_path / "imported")
    assert f"{session_energy_j(record) * WH_PER_1000_QUERIES:.6g} Wh per 1,000 queries" in done.output
