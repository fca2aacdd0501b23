"""Leaderboard tables: the unit is proved by the published table, by a column's name, or asked for."""

from __future__ import annotations

import pytest

import energylab
from energylab import published, release
from energylab.errors import FormatError
from energylab.formats import Asked, import_files
from energylab.publish import page as pages

IMAGES = Asked(task="image_generation")


def leaderboard(task, scale, models=10):
    """Write a leaderboard's CSV of published figures, in Wh over `scale`."""
    table = published.load()
    rows = table[table.task == task].head(models)
    lines = [f"{row.hub_id},{row.energy_wh / scale:.9f},{row.published_stars}" for row in rows.itertuples()]
    return "model,total_gpu_energy,energy_score\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(("scale", "unit"), [(1000, "kWh"), (1, "Wh"), (0.01, "cWh")])
def test_unit_is_proved_by_models_that_are_published(scale, unit, write, tmp_path):
    if unit == "cWh":
        scale = 0.01
    found = import_files([write("image.csv", leaderboard("image_generation", scale))], tmp_path / "out", IMAGES)
    origin = found[0].record.extra["import"]
    assert origin["unit"] == unit
    assert "10 of the 10 models it shares with the published table" in origin["unit_proof"]
    table = published.load().set_index("model").energy_wh
    for each in found:
        assert each.rated.with_wh == pytest.approx(table[each.record.model.name], rel=1e-6)
    assert found[0].record.extra["stated_stars"] == 5


def test_unit_is_asked_for_where_nothing_proves_it(write, tmp_path):
    path = write("own.csv", "model,total_gpu_energy\nmine/a,0.19\nmine/b,0.21\n")
    with pytest.raises(FormatError, match="nothing in the file proves the unit.*--unit, one of"):
        import_files([path], tmp_path / "out", IMAGES)
    found = import_files([path], tmp_path / "out", Asked(task="image_generation", unit="kWh"))
    assert [each.rated.with_wh for each in found] == pytest.approx([190.0, 210.0])


def test_published_table_gives_the_published_stars_and_carries_its_band(tmp_path, write):
    table = published.load()
    columns = {"energy_wh": "gpu_wh_per_1000_queries"}
    text = table[["task", "model_class", "model", "energy_wh"]].rename(columns=columns).to_csv(index=False)
    import_files([write("published.csv", text)], tmp_path / "out")
    own = energylab.rate(energylab.read(tmp_path / "out")).set_index(["task", "model"]).stars
    published_stars = table.set_index(["task", "model"]).published_stars.dropna()
    assert len(published_stars) == 156
    assert (own[published_stars.index] == published_stars).all()
    made = release.make([tmp_path / "out"], name="imported", date="2026-03-01", draws=0)
    assert {cohort.energy_kind for cohort in made.cohorts} == {"imported"}
    assert all("energy is imported, not measured" in cohort.not_official for cohort in made.cohorts)
    assert all(pages.band(cohort).startswith("Imported figures, not measured here") for cohort in made.cohorts)
    assert made.sources[0].startswith("leaderboard: published.csv, sha256 ")


def test_a_model_that_is_listed_twice_keeps_both_figures(write, tmp_path):
    path = write("twice.csv", "model,energy_wh_per_1000_queries,class\na,1.0,A\na,2.0,A\nb,3.0,NA\n")
    found = import_files([path], tmp_path / "out", IMAGES)
    assert [each.record.model.name for each in found] == ["a", "a (entry 2)", "b"]
    assert [each.record.model.model_class for each in found] == ["A", "A", None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model,energy_wh_per_1000_queries\na,1.0,2.0\n", "row 2: 3 cells where the header has 2"),
        ("model,energy_wh_per_1000_queries\na,many\n", "row 2: energy='many' must be a number"),
        ("model,energy_wh_per_1000_queries,class\na,1.0,D\n", "model_class='D' must be 'A', 'B', 'C'"),
        ("model,watt\na,1.0\n", "A table of your own.* needs no import"),
        ("model,energy_wh_per_1000_queries\n,1.0\n", "does not name the model"),
    ],
)
def test_errors(text, says, write, tmp_path):
    with pytest.raises(FormatError, match=says):
        import_files([write("table.csv", text)], tmp_path / "out", IMAGES)


def test_zero_negative_and_empty_rows_are_invalid(write, tmp_path):
    path = write("some.csv", "model,energy_wh_per_1000_queries\na,0\nb,-1\nc,\nd,4\n")
    found = import_files([path], tmp_path / "out", IMAGES)
    assert [each.record.windows[0].reasons for each in found] == [
        ("zero_reading",), ("negative_energy",), ("no_value",), ()]  # fmt: skip
    stars = energylab.rate(energylab.read(tmp_path / "out")).set_index("model")
    assert stars.energy_wh["d"] == pytest.approx(4.0)
    assert stars.energy_wh[["a", "b", "c"]].isna().all()
