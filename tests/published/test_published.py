"""The shipped tables are the published ones, their stars follow from their energies; own figures beside them."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

import energylab
from energylab import published
from energylab.errors import UnknownNameError

REFERENCE = Path(__file__).parents[2] / "benchmarks" / "reference.py"


def test_every_published_star_follows_from_its_energy():
    table = published.load()
    found = published.agreement(energylab.rate(table, draws=0)).iloc[-1]
    assert found[["models", "published", "equal", "first"]].tolist() == [166, 156, 156, 10]
    assert table["task"].nunique() == 10
    assert (table["energy_kind"] == "imported").all()


def test_units_are_joules_for_the_stated_queries():
    row = published.load().set_index("model").loc["distilbert/distilgpt2"]
    assert row["energy_j"] / row["queries"] == pytest.approx(1.313333 * 3.6)


def test_a_model_listed_twice_keeps_both_entries_and_image_captioning_has_no_hub_ids():
    table = published.load()
    assert not table.duplicated(["task", "model"]).any()
    assert table["model"].str.endswith("(entry 2)").sum() == 2
    assert table["session"].is_unique
    assert table["hub_id"].isna().equals(pd.Series(table["task"] == "image_captioning"))


def test_unknown_study_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="2025-02"):
        published.load("2025-03")


def test_the_reference_records_beside_published_figures(monkeypatch, capsys):
    main = runpy.run_path(str(REFERENCE))["main"]
    everything = published.load()
    own = everything[everything["task"] == "summarization"].assign(energy_j=lambda t: 2 * t["energy_j"])
    monkeypatch.setattr(published, "own_records", lambda folder: own)
    main()
    printed = capsys.readouterr().out
    assert "facebook/bart-large-cnn" in printed
    assert "pooled within tasks: 1.00" in printed
    assert published.beside(energylab.rate(own))["ratio"].to_numpy() == pytest.approx(2)
    monkeypatch.setattr(published, "own_records", lambda folder: own.iloc[:0])
    main()
    assert "holds no record" in capsys.readouterr().out
