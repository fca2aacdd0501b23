"""Out: a model card, a study's table with its dictionary, a submission; and what goes out comes in alike."""

from __future__ import annotations

import csv
import json
import zipfile

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import ModelCard
from release_builders import record_of, write_all

import energylab
from energylab import release
from energylab.energy import session_energy_j, totals
from energylab.errors import FormatError
from energylab.formats import Asked, import_files, study_table, submission
from energylab.formats.model_card import model_card
from energylab.publish import emissions, page
from energylab.table import COLUMNS

HOSTILE = "a: [b]\n---\n<script>{{x}}\u202e#"


@pytest.fixture
def study(tmp_path):
    """A folder of three models' records, one of them with a hostile name."""
    names = ("org/a", "org/b", HOSTILE)
    return write_all([record_of(name, 4.0 * 2**n) for n, name in enumerate(names)], tmp_path / "study")


@pytest.fixture
def made(study):
    """Their release."""
    return release.make([study], name="r", date="2026-03-05", draws=200)


def card_of(made, name, **grid):
    return model_card(made, *page.find(made, name), emissions.grid_of(**grid))


def test_card_is_what_the_hub_reads(made):
    text = card_of(made, "org/a", g_per_kwh=100.0)
    data = ModelCard(text).data
    energy, emissions, stars, accuracy = data.eval_results
    assert (energy.metric_type, energy.task_type) == ("energy", "text-generation")
    assert energy.metric_value == pytest.approx(made.cohorts[0].models[0].energy_wh, rel=1e-6)
    assert energy.metric_args["energy_kind"] == "measured"
    assert energy.dataset_name == "EnergyStarAI/text_generation"
    assert energy.metric_args["release_sha256"] == made.digest()
    assert stars.metric_value == 5
    assert accuracy.metric_value == 0.5
    assert "co2_eq_emissions" not in text, "the hub's field is of training"
    assert emissions.metric_value == pytest.approx(0.1 * energy.metric_value, rel=1e-6)
    assert emissions.metric_args["g_per_kwh"] == 100.0
    assert text == card_of(made, "org/a", g_per_kwh=100.0)


def test_card_of_a_hostile_name_is_one_block(made):
    name = made.cohorts[0].models[2].model
    text = card_of(made, name)
    assert text.count("\n---\n") == 1
    (index,) = yaml.safe_load(text.removeprefix("---\n").removesuffix("---\n"))["model-index"]
    assert index["name"].startswith("a: [b]⟨U+000A⟩")
    assert "\u202e" not in text


def test_table_goes_out_and_comes_in_alike(study, tmp_path):
    paths = study_table.write([study], tmp_path / "out", name="mine")
    assert [path.name for path in paths] == ["mine.csv", "mine.parquet", "mine.dictionary.csv"]
    table = energylab.read(study)
    pd.testing.assert_frame_equal(pd.read_parquet(paths[1]), table)
    schema = pq.read_schema(paths[1])
    assert schema.field("energy_j").metadata[b"unit"] == b"J"
    again = energylab.read(paths[0])
    pd.testing.assert_series_equal(again.energy_j, table.energy_j)
    assert energylab.rate(again).energy_wh.tolist() == energylab.rate(table).energy_wh.tolist()
    rows = list(csv.DictReader(paths[2].open()))
    assert [row["column"] for row in rows] == list(COLUMNS)


def test_a_table_without_a_record_is_refused(tmp_path):
    with pytest.raises(FormatError, match="no record under"):
        study_table.write([tmp_path], tmp_path / "out")


@pytest.mark.parametrize("energy_wh", [12.5, 4321.0])
def test_submission_goes_out_and_comes_in_alike(energy_wh, tmp_path):
    record = record_of("org/a", energy_wh, runs=4, spread=0.05)
    path = submission.write(record, tmp_path / "s.zip")
    names = ["benchmark_report.json", "GPU_ENERGY_SUMMARY.json", "GPU_ENERGY_WH.txt"]
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == names
        report, summary, text = (json.loads(archive.read(name)) for name in names)
    assert list(summary) == ["units", "total", "format", "preprocess_wh", "prefill_wh", "decode_wh"]
    run_wh = session_energy_j(record) * record.queries / 3600
    assert text == summary["total"] == round(run_wh, 2)
    by_script = sum(1000 * report[phase]["energy"]["gpu"] for phase in ("preprocess", "prefill", "decode"))
    assert by_script == pytest.approx(run_wh, rel=1e-12)
    assert len(report["prefill"]["measures"]) == 4
    assert report["prefill"]["energy"]["cpu"] is None  # not metered is not zero
    [found] = import_files([path], tmp_path / "out")
    assert session_energy_j(found.record) == pytest.approx(session_energy_j(record), rel=1e-12)
    for before, after in zip(totals(record), totals(found.record), strict=True):
        assert (after.run, after.phase) == (before.run, before.phase)
        assert after.energy_j == pytest.approx(before.energy_j, rel=1e-9)
        assert after.duration_s == pytest.approx(before.duration_s)
    assert (found.record.model.name, found.record.model.model_class) == ("org/a", "A")
    assert (found.record.task.name, found.record.queries) == ("text_generation", record.queries)
    assert found.record.devices[0].name == record.devices[0].name
    assert submission.submission(record) == path.read_bytes()


def test_a_summary_alone_gives_the_same_energy_within_its_rounding(tmp_path):
    record = record_of("org/a", 4321.0)
    with zipfile.ZipFile(submission.write(record, tmp_path / "s.zip")) as archive:
        path = archive.extract("GPU_ENERGY_SUMMARY.json", tmp_path)
    asked = Asked(task="text_generation", model="org/a", queries=record.queries)
    [found] = import_files([path], tmp_path / "out", asked)
    bound_j = sum(window.bound_j for window in found.record.windows if window.phase != "prefill")
    assert session_energy_j(found.record) == pytest.approx(session_energy_j(record), abs=bound_j / record.queries)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "estimated"}, "energy is estimated, not measured"),
        ({"source": "random"}, "model source is random, not hub"),
        ({"data": "sample"}, "data source is sample"),
    ],
)
def test_only_official_sessions_are_submitted(changes, says, tmp_path):
    record = record_of("org/a", 4.0, **changes)
    with pytest.raises(FormatError, match=f"not for submission: {says}.*--unofficial"):
        submission.submission(record)
    path = submission.write(record, tmp_path / "s.zip", unofficial=True)
    with zipfile.ZipFile(path) as archive:
        report = json.loads(archive.read("benchmark_report.json"))
    assert says in report["energylab"]["not_official"][0]


def test_an_invalid_record_has_nothing_to_submit():
    record = record_of("org/a", 4.0).model_copy(update={"valid": False, "reasons": ("run 0: no_tick",)})
    with pytest.raises(FormatError, match="is invalid and has no total: run 0: no_tick"):
        submission.submission(record, unofficial=True)
