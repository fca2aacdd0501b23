"""Bands of every scheme, ties at an edge, and stars within given bands."""

import math

import numpy as np
import pandas as pd
import pytest

from energylab.errors import DataError, UnknownNameError
from energylab.ratings.cohorts import Group
from energylab.ratings.schemes import TIE, Bands, count_stars, get_scheme, stars_for

GROUP = Group("summarization")


def published_rule(energy, lowest, highest):
    """The rule as the published leaderboard computes it, one model at a time."""
    return 5 - min(math.floor(5 * (energy - lowest) / (highest - lowest)), 4)


def stars(energies, scheme):
    energies = np.asarray(energies, dtype=float)
    return count_stars(energies, get_scheme(scheme)(energies, GROUP)).tolist()


def test_equal_width_is_the_published_rule():
    energies = np.random.default_rng(1).lognormal(0, 1, 300)
    expected = [published_rule(energy, energies.min(), energies.max()) for energy in energies]
    assert stars(energies, "equal_width") == expected


def test_log_width_is_equal_width_of_logarithms():
    energies = np.random.default_rng(2).lognormal(0, 2, 300)
    logs = np.log(energies)
    assert stars(energies, "log_width") == [published_rule(x, logs.min(), logs.max()) for x in logs]


def test_quantiles_give_every_fifth_of_the_models_one_star_less():
    energies = np.random.default_rng(3).lognormal(0, 1, 100)
    found = pd.Series(stars(energies, "quantiles"))
    assert found.value_counts().to_dict() == {5: 20, 4: 20, 3: 20, 2: 20, 1: 20}
    assert found[np.argsort(energies)].is_monotonic_decreasing


def test_schemes_work_on_many_redraws_at_once():
    energies = np.random.default_rng(4).lognormal(0, 1, (7, 20))
    for name in ("equal_width", "log_width", "quantiles"):
        scheme = get_scheme(name)
        together = count_stars(energies, scheme(energies, GROUP))
        assert together.tolist() == [count_stars(row, scheme(row, GROUP)).tolist() for row in energies]


def test_a_tie_at_an_edge_earns_the_higher_star():
    edges = np.array([2.0, 3.0, 4.0, 5.0])
    energies = np.array([2.0, 2.0 * (1 + TIE / 2), 2.0 * (1 + 3 * TIE), 5.0, 5.1])
    assert count_stars(energies, edges).tolist() == [5, 5, 4, 2, 1]


def test_the_lowest_earns_five_and_the_highest_one():
    assert stars([1.0, 6.0], "equal_width") == [5, 1]
    assert stars([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "equal_width") == [5, 5, 4, 3, 2, 1]


def test_stars_within_given_bands_keep_unknown_energies_unknown():
    bands = Bands("equal_width", "1", "summarization", "here", None, (2.0, 3.0, 4.0, 5.0), 5)
    found = stars_for([0.5, np.nan, 2.5, 99.0], bands)
    assert found.isna().tolist() == [False, True, False, False]
    assert found.dropna().tolist() == [5, 4, 1]


def test_bands_without_edges_give_no_stars():
    bands = Bands("equal_width", "1", "summarization", "here", None, (), 1, "not rated")
    assert stars_for([1.0, 2.0], bands).isna().all()


@pytest.mark.parametrize("energy", [0.0, -1.0, np.inf])
def test_stars_within_bands_refuse_what_is_no_energy(energy):
    bands = Bands("equal_width", "1", "summarization", "here", None, (2.0, 3.0, 4.0, 5.0), 5)
    with pytest.raises(DataError, match="zero or negative"):
        stars_for([1.0, energy], bands)


def test_unknown_scheme_names_the_nearest():
    with pytest.raises(UnknownNameError, match="equal_width"):
        get_scheme("equal_widths")
