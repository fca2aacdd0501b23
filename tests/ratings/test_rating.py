"""The table of `rate`: its columns, its notes, and what becomes of degenerate input."""

import numpy as np
import pandas as pd
import pytest

import energylab
from energylab.errors import ParameterError, UnknownNameError
from energylab.ratings import rate_with_bands

COLUMNS = [
    "task", "model_class", "model", "cohort", "energy_kind", "sessions", "boards", "energy_wh",
    "repeatability_low", "repeatability_high", "expanded_low", "expanded_high", "df", "spread", "stars",
    "p_star_1", "p_star_2", "p_star_3", "p_star_4", "p_star_5", "expected_stars", "rank", "rank_low",
    "rank_high", "p_next", "marks", "note",
]  # fmt: skip


def table(energies, **columns):
    names = [f"m{number}" for number in range(len(energies))]
    return pd.DataFrame({"task": "t", "model": names, "energy_j": energies, "queries": 1000, **columns})


def sessions(models=12, repeats=3, cv=0.01, seed=0, **columns):
    rng = np.random.default_rng(seed)
    energies = np.repeat(np.geomspace(3600, 36000, models), repeats) * (1 + cv * rng.standard_normal(models * repeats))
    frame = table(energies, session=[f"s{number}" for number in range(models * repeats)], **columns)
    return frame.assign(model=np.repeat([f"m{number:02}" for number in range(models)], repeats))


def test_columns_and_kinds_are_the_contract():
    stars = energylab.rate(sessions(energy_kind="measured"), draws=100)
    assert list(stars.columns) == COLUMNS
    assert stars["stars"].dtype == "Int64"
    assert (stars["energy_kind"] == "measured").all()
    assert (stars["sessions"] == 3).all()
    assert (stars["note"] == "").all()
    order = ["expanded_low", "repeatability_low", "energy_wh", "repeatability_high", "expanded_high"]
    assert (np.diff(stars[order].to_numpy(), axis=1) > 0).all()


def test_four_columns_are_enough():
    stars = energylab.rate(table([3600.0, 7200.0, 36000.0]))
    assert stars["energy_wh"].tolist() == pytest.approx([1.0, 2.0, 10.0])
    assert stars["stars"].tolist() == [5, 5, 1]
    assert (stars["energy_kind"] == "not stated").all()
    assert stars["p_star_5"].isna().all()
    assert stars["note"].str.contains("not repeated: no interval").all()


def test_equal_seeds_give_equal_probabilities():
    one, two, other = (energylab.rate(sessions(cv=0.2), draws=300, seed=seed) for seed in (1, 1, 2))
    assert one.equals(two)
    assert not one.equals(other)


def test_two_records_of_one_model_are_two_sessions():
    df = pd.concat([table([3600.0, 7200.0]), table([3800.0, 7000.0])]).assign(session=["a", "b", "c", "d"])
    stars = energylab.rate(df, draws=0)
    assert stars["sessions"].tolist() == [2, 2]
    assert stars["energy_wh"].tolist() == pytest.approx([3700 / 3600, 7100 / 3600])
    assert stars["note"].str.contains("2 sessions; at least 3 are recommended").all()


@pytest.mark.parametrize(
    ("energies", "why"),
    [
        ([3600.0], "only model of its group"),
        ([3600.0] * 3, "its group have the same energy"),
        ([np.nan, np.nan], "not rated: no model of its group has an energy"),
    ],
)
def test_a_group_without_a_scale_has_no_stars(energies, why):
    found = rate_with_bands(table(energies), noise=0.01)
    assert found.stars[["stars", "expected_stars"]].isna().all(axis=None)
    assert found.stars["energy_wh"].notna().tolist() == [energy == energy for energy in energies]
    assert why in found.bands[0].reason
    assert found.bands[0].edges_wh == ()


@pytest.mark.parametrize(
    ("energy_j", "model_class", "note"),
    [
        (np.nan, "A", "not rated: 1 of 1 sessions unavailable"),
        (1.0, None, "not rated: no size class given; not repeated: no interval"),
    ],
)
def test_a_model_that_cannot_be_rated_moves_nobodys_band(energy_j, model_class, note):
    df = table([3600.0, 7200.0, 36000.0, energy_j], model_class=["A", "A", "A", model_class])
    stars = energylab.rate(df).set_index("model")
    assert stars.loc[["m0", "m1", "m2"], "stars"].tolist() == [5, 5, 1]
    assert pd.isna(stars.loc["m3", "stars"])
    assert stars.loc["m3", "note"].startswith(note)


def test_a_thin_group_says_so_and_a_full_one_does_not():
    thin = energylab.rate(table(np.geomspace(1, 10, 9)), draws=0)["note"]
    full = energylab.rate(table(np.geomspace(1, 10, 10)), draws=0)["note"]
    assert thin.str.contains("thin group of 9 models: a star means little").all()
    assert not full.str.contains("thin").any()


def test_boards_of_one_cohort_make_stars_less_sure():
    one = energylab.rate(sessions(cv=1e-4, board="b0"), gain=0.05)
    many = energylab.rate(sessions(cv=1e-4).assign(board=lambda df: "b" + df["model"]), gain=0.05)
    p = [f"p_star_{star}" for star in range(1, 6)]
    assert (one[p].max(axis=1) > 0.99).all()
    assert many[p].max(axis=1).min() < 0.9


@pytest.mark.parametrize(
    ("option", "value"),
    [("noise", -0.1), ("noise", 1.0), ("gain", 1.0), ("gain", -0.1), ("draws", -1), ("draws", 1.5), ("level", 1.0)],
)
def test_options_out_of_range_and_unknown_schemes_are_refused_by_name(option, value):
    with pytest.raises(ParameterError, match=f"{option}={value}"):
        energylab.rate(table([1.0, 2.0]), **{option: value})
    with pytest.raises(UnknownNameError, match="did you mean 'quantiles'"):
        energylab.rate(table([1.0, 2.0]), "quantile")


def test_an_interval_that_reaches_zero_earns_no_star_and_moves_nobodys_band():
    """Two sessions that differ by half: Student's factor of 12.7 takes the interval to zero."""
    sure, wild = sessions(models=3), table([9e6, 18e6], session=["a", "b"]).assign(model="wild")
    stars = energylab.rate(pd.concat([sure, wild]), draws=100).set_index("model")
    assert stars.loc["wild", "expanded_low"] == 0
    assert pd.isna(stars.loc["wild", "stars"])
    assert pd.isna(stars.loc["wild", "rank"])
    assert "not rated: its interval reaches zero" in stars.loc["wild", "note"]
    assert stars["stars"].drop("wild").tolist() == energylab.rate(sure, draws=0)["stars"].tolist()


def test_marks_stand_where_the_stars_stand():
    df = table([3600.0, 7200.0, 36000.0]).assign(marks=["busy_host", "", "truncated, not_finite"])
    assert energylab.rate(df)["marks"].tolist() == ["busy_host", "", "not_finite, truncated"]


def test_ranks_are_ranges_and_unknown_where_the_uncertainty_is():
    stars = energylab.rate(table([1000.0, 1010.0, 9000.0]), noise=0.01, draws=100)
    assert stars[["rank", "rank_low", "rank_high"]].to_numpy().tolist() == [[1, 1, 2], [2, 1, 2], [3, 3, 3]]
    assert stars["p_next"].tolist()[1] == 1.0
    unknown = energylab.rate(table([1000.0, 1010.0, 9000.0]))
    assert unknown["rank"].tolist() == [1, 2, 3]
    assert unknown[["rank_low", "rank_high", "p_next"]].isna().all(axis=None)


def test_bars_may_overlap_though_the_order_is_sure():
    """The gain of a board is common to all models on it: 7 % apart at 1 % noise is an order that is sure."""
    stars = energylab.rate(table([1000.0, 1070.0, 9000.0]), noise=0.01)
    assert stars["expanded_high"][0] > stars["expanded_low"][1]
    assert stars["p_next"][0] > 0.99
    assert stars["rank_high"][0] == 1
