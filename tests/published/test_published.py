"""The shipped table is the published one, and its stars follow from its energies."""

import pandas as pd
import pytest

import energylab
from energylab import published
from energylab.errors import UnknownNameError


def test_counts_are_the_published_ones():
    table = published.load()
    assert len(table) == 166
    assert table["task"].nunique() == 10
    assert table["published_stars"].notna().sum() == 156
    assert (table["energy_kind"] == "imported").all()


def test_every_published_star_follows_from_its_energy():
    table = published.load()
    both = table.merge(energylab.rate(table), on=["task", "model"])
    starred = both["published_stars"].notna()
    assert int((both["stars"] == both["published_stars"])[starred].sum()) == 156
    assert both["stars"].notna().all()


def test_units_are_joules_for_the_stated_queries():
    row = published.load().set_index("model").loc["distilbert/distilgpt2"]
    assert row["energy_j"] / row["queries"] == pytest.approx(1.313333 * 3.6)


def test_a_model_listed_twice_keeps_both_entries():
    table = published.load()
    assert not table.duplicated(["task", "model"]).any()
    assert table["model"].str.endswith("(entry 2)").sum() == 2
    assert table["session"].is_unique


def test_image_captioning_has_names_but_no_hub_ids():
    table = published.load()
    assert table["hub_id"].isna().equals(pd.Series(table["task"] == "image_captioning"))


def test_unknown_study_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="2025-02"):
        published.load("2025-03")
