"""Leaderboard tables: the unit is proved by the published table, by a column's name, or asked for."""

from __future__ import annotations

import pytest

import energylab
from energylab import published, release
from energylab.publish import page as pages

IMAGES = {"task": "image_generation"}


@pytest.mark.parametrize(("scale", "unit"), [(1000, "kWh"), (1, "Wh"), (0.01, "cWh")])
def test_unit_is_proved_by_models_that_are_published(scale, unit, imported):
    table = published.load()
    rows = table[table.task == "image_generation"].head(10).itertuples()
    lines = [f"{row.hub_id},{row.energy_wh / scale:.9f},{row.published_stars}" for row in rows]
    found = imported(("image.csv", "\n".join(["model,total_gpu_energy,energy_score", *lines])), **IMAGES)
    origin = found[0].record.extra["import"]
    assert origin["unit"] == unit
    assert "10 of the 10 models it shares with the published table" in origin["unit_proof"]
    energies_wh = table.set_index("model").energy_wh
    for each in found:
        assert each.rated.with_wh == pytest.approx(energies_wh[each.record.model.name], rel=1e-6)
    assert found[0].record.extra["stated_stars"] == 5


def test_unit_is_stated_where_nothing_proves_it(imported):
    found = imported(("own.csv", "model,total_gpu_energy\nmine/a,0.19\nmine/b,0.21\n"), **IMAGES, unit="kWh")
    assert [each.rated.with_wh for each in found] == pytest.approx([190.0, 210.0])


def test_published_table_gives_the_published_stars_and_carries_its_band(tmp_path, imported):
    table = published.load()
    columns = {"energy_wh": "gpu_wh_per_1000_queries"}
    text = table[["task", "model_class", "model", "energy_wh"]].rename(columns=columns).to_csv(index=False)
    imported(("published.csv", text))
    own = energylab.rate(energylab.read(tmp_path / "out")).set_index(["task", "model"]).stars
    published_stars = table.set_index(["task", "model"]).published_stars.dropna()
    assert len(published_stars) == 156
    assert (own[published_stars.index] == published_stars).all()
    made = release.make([tmp_path / "out"], name="imported", date="2026-03-01", draws=0)
    assert {cohort.energy_kind for cohort in made.cohorts} == {"imported"}
    assert all("energy is imported, not measured" in cohort.not_official for cohort in made.cohorts)
    assert all(pages.band(cohort).startswith("Imported figures, not measured here") for cohort in made.cohorts)
    assert made.sources[0].startswith("leaderboard: published.csv, sha256 ")


def test_a_model_that_is_listed_twice_keeps_both_figures(imported):
    found = imported(("twice.csv", "model,energy_wh_per_1000_queries,class\na,1.0,A\na,2.0,A\nb,3.0,NA\n"), **IMAGES)
    listed = [(each.record.model.name, each.record.model.model_class) for each in found]
    assert listed == [("a", "A"), ("a (entry 2)", "A"), ("b", None)]


def test_zero_negative_and_empty_rows_are_invalid(imported, tmp_path):
    found = imported(("some.csv", "model,energy_wh_per_1000_queries\na,0\nb,-1\nc,\nd,4\n"), **IMAGES)
    reasons = [each.record.windows[0].reasons for each in found]
    assert reasons == [("zero_reading",), ("negative_energy",), ("no_value",), ()]
    stars = energylab.rate(energylab.read(tmp_path / "out")).set_index("model")
    assert stars.energy_wh["d"] == pytest.approx(4.0)
    assert stars.energy_wh[["a", "b", "c"]].isna().all()
