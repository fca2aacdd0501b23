"""From one rating to the next: every move and its reason."""

import pandas as pd
import pytest

from energylab.errors import ParameterError
from energylab.ratings import rating
from energylab.ratings.drift import drift


def rated(energies, **columns):
    df = pd.DataFrame({"task": "t", "model": list(energies), "energy_j": list(energies.values()), "queries": 1})
    return rating(df.assign(**columns), draws=0)


def moves(before, after):
    found = drift(rated(before), rated(after)).set_index("model")
    return {model: (row["move"], row["why"]) for model, row in found.iterrows()}


def test_a_model_that_joins_moves_others_by_the_scale():
    assert moves({"a": 1.0, "b": 2.9, "c": 6.0}, {"a": 1.0, "b": 2.9, "c": 6.0, "new": 11.0}) == {
        "a": ("same", ""),
        "b": ("up", "scale"),
        "c": ("up", "scale"),
        "new": ("joined", ""),
    }


def test_a_model_measured_anew_moves_by_itself():
    found = moves({"a": 1.0, "b": 2.1, "c": 6.0}, {"a": 1.0, "b": 1.9, "c": 6.0})
    assert found["b"] == ("up", "own energy")


def test_a_model_that_moves_the_scale_it_stands_on():
    found = moves({"a": 1.0, "b": 2.0, "c": 6.0}, {"a": 1.0, "c": 6.0, "b": 5.9})
    assert found["b"] == ("down", "own energy")
    found = moves({"a": 1.0, "b": 2.9, "c": 6.0}, {"a": 1.0, "b": 1.9, "c": 11.0})
    assert found["b"] == ("up", "both")
    found = moves({"a": 1.0, "b": 3.05, "c": 6.0}, {"a": 1.0, "b": 2.98, "c": 6.05})
    assert found["b"] == ("up", "either") or found["b"] == ("up", "own energy")


def test_leaving_and_rating_are_told():
    found = moves({"a": 1.0, "gone": 2.0, "c": 6.0}, {"a": 1.0, "c": 6.0})
    assert found["gone"] == ("left", "")
    assert moves({"a": 1.0}, {"a": 1.0, "b": 2.0})["a"] == ("now rated", "")
    assert moves({"a": 1.0, "b": 2.0}, {"a": 1.0})["a"] == ("no longer rated", "")
    assert moves({"a": 1.0}, {"a": 1.1})["a"] == ("not rated", "")


def test_a_model_in_two_cohorts_is_refused():
    df = pd.DataFrame({"task": "t", "model": "a", "energy_j": 1.0, "queries": 1, "cohort": ["one", "two"]})
    with pytest.raises(ParameterError, match="rating before"):
        drift(rating(df), rating(df))
