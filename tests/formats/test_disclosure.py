"""Disclosure forms: valid by their own schemas, tied to the record by its digest, and silent on what is not known."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import referencing
from release_builders import record_of
from typer.testing import CliRunner

from energylab import store
from energylab.cli import app
from energylab.energy import session_energy_j
from energylab.errors import RecordError
from energylab.formats.disclosure import annex_xi, boamps, sci
from energylab.publish.emissions import Grid

SCHEMAS = Path(__file__).parents[1] / "fixtures" / "boamps"
OLD = Path(__file__).parents[1] / "fixtures" / "records"
GRID = Grid("FRA", "France", 50.0, "a table")


def validate(report):
    """Validate against the schemas as they are published, resolved from the copies here."""
    resources = [
        (f"https://raw.githubusercontent.com/Boavizta/BoAmps/main/model/{path.name}",
         referencing.Resource.from_contents(json.loads(path.read_text())))
        for path in SCHEMAS.glob("*.json")
    ]  # fmt: skip
    schema = json.loads((SCHEMAS / "report_schema.json").read_text())
    registry = referencing.Registry().with_resources(resources)
    jsonschema.Draft4Validator(schema, registry=registry).validate(report)


@pytest.mark.parametrize("record", [record_of("org/a", 10.0), *map(store.read_record, sorted(OLD.glob("*imported*")))])
def test_boamps_is_valid(record):
    report = boamps(record, publisher="A laboratory", infrastructure="onPremise", grid=GRID)
    validate(report)
    assert record.digest() in report["task"]["taskDescription"]


def test_boamps_says_what_was_measured():
    record = record_of("org/a", 10.0, spread=0.0)
    report = boamps(record)
    (measure,) = report["measures"]
    assert measure["powerConsumption"] == pytest.approx(10.0 * 40 / 1e6)  # kWh of two runs of 20 queries
    assert report["task"]["nbRequest"] == 40
    assert report["task"]["measuredAccuracy"] == 0.5
    assert "environment" not in report  # nobody said where it ran
    assert "training" in report["task"]["taskDescription"]
    with pytest.raises(RecordError, match="choose one of publicCloud"):
        boamps(record, infrastructure="cloud")


def test_annex_xi_leaves_training_not_stated():
    record = record_of("org/a", 10.0)
    form = annex_xi(record)
    assert "| Energy of training | not stated |" in form
    assert "Wh, measured by a hardware counter or sensor" in form
    assert record.digest() in form
    assert "no legal advice" in form


def test_sci_is_energy_times_intensity_and_says_that_m_is_missing():
    record = record_of("org/a", 10.0)
    found = sci(record, GRID, unit_queries=100)
    wh = session_energy_j(record) / 3.6
    assert found["score_gco2e"] == pytest.approx(wh / 10 / 1000 * 50)
    assert found["M_gco2e"] == "not stated"
    assert found["energy_kind"] == "measured"
    low, high = found["score_interval_gco2e"]
    assert low < found["score_gco2e"] < high
    assert sci(record, GRID, embodied_g=3.0)["score_gco2e"] == pytest.approx(wh / 1000 * 50 + 3.0)


def test_a_record_without_an_energy_is_refused():
    with pytest.raises(RecordError, match="has no energy"):
        sci(record_of("org/a", 10.0).model_copy(update={"valid": False, "reasons": ("counter_stuck",)}), GRID)


@pytest.mark.parametrize("form", ["boamps", "annex-xi", "sci"])
def test_commands(tmp_path, form):
    path = store.write(record_of("org/a", 10.0), tmp_path)
    done = CliRunner().invoke(app, ["export", form, str(path), "--output", str(tmp_path / "form")])
    assert done.exit_code == 0, done.output
    assert store.read_record(path).digest() in (tmp_path / "form").read_text()
