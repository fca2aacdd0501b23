"""What holds for any energies: order, scale, rows, other groups."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energylab.ratings import rate, rate_with_bands
from energylab.ratings.schemes import get_scheme

EQUAL_WIDTH = get_scheme("equal_width")
SCHEMES = (EQUAL_WIDTH, get_scheme("log_width"), get_scheme("quantiles"))
ENERGIES = st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=40)


def table(energies, task="summarization"):
    names = [f"model-{number}" for number in range(len(energies))]
    return pd.DataFrame({"task": task, "model": names, "energy_j": energies, "queries": 1000})


def near_an_edge(rating_):
    """Models within 1e-9 of an edge, either side: rounding may decide there."""
    energies = rating_.stars["energy_wh"].to_numpy()
    edges = np.array(rating_.bands[0].edges_wh)
    return (np.abs(energies[:, None] / edges - 1) < 3e-9).any(axis=1)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@settings(deadline=None, derandomize=True, max_examples=20)
@given(energies=ENERGIES)
def test_stars_never_rise_with_energy(scheme, energies):
    stars = rate(table(energies), scheme, draws=0)
    assert stars["energy_wh"].is_monotonic_increasing
    assert stars["stars"].dropna().is_monotonic_decreasing


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@settings(deadline=None, derandomize=True, max_examples=20)
@given(energies=ENERGIES, factor=st.floats(1e-3, 1e3))
def test_a_common_factor_changes_no_star(scheme, energies, factor):
    before = rate_with_bands(table(energies), scheme, draws=0)
    if before.bands[0].reason:
        return
    after = rate_with_bands(table([energy * factor for energy in energies]), scheme, draws=0)
    if after.bands[0].reason:  # the factor rounded the last difference away
        return
    one, two = (each.stars.set_index("model")["stars"].sort_index() for each in (before, after))
    doubtful = pd.Series(near_an_edge(before), index=before.stars["model"]).sort_index()
    assert ((one == two) | doubtful).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@settings(deadline=None, derandomize=True, max_examples=20)
@given(energies=ENERGIES, data=st.data())
def test_the_order_of_rows_shows_in_nothing(scheme, energies, data):
    df = pd.concat([table(energies), table([2 * energy for energy in energies])]).assign(run=0)
    df["session"] = np.repeat(["s1", "s2"], len(energies))
    df["board"] = np.resize(["here", "there", "there"], len(df))
    shuffled = df.iloc[data.draw(st.permutations(range(len(df))))]
    pd.testing.assert_frame_equal(rate(df, scheme, draws=50), rate(shuffled, scheme, draws=50), check_exact=True)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(energies=ENERGIES)
def test_another_group_changes_nothing(energies):
    alone = rate(table(energies), EQUAL_WIDTH, noise=0.05, draws=50)
    together = rate(pd.concat([table([1.0, 2.0], "asr"), table(energies)]), EQUAL_WIDTH, noise=0.05, draws=50)
    part = together[together["task"] == "summarization"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, part, check_exact=True)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(energies=ENERGIES, noise=st.floats(0.001, 0.2))
def test_probabilities_sum_to_one(energies, noise):
    stars = rate(table(energies), EQUAL_WIDTH, noise=noise, draws=40)
    if stars["stars"].isna().any():
        return
    p = stars[[f"p_star_{star}" for star in range(1, 6)]].to_numpy()
    assert p.sum(axis=1) == pytest.approx(np.ones(len(p)))
    assert stars["expected_stars"].between(1, 5).all()
