"""The overview of a rated table: one dot a model, doubtful stars ringed and named, the heaviest model at the right."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba

import energylab
from energylab.errors import ParameterError
from energylab.figures.ratings import DARK, LIGHT, _apart, overview
from energylab.ratings import stability

ENERGIES = {"one": [1, 2, 3, 4.01, 11], "two": [5, 7.5, 30]}  # 3 lies at a fifth of one's range, 4.01 clear of it


@pytest.fixture(scope="module")
def rated():
    """Two tasks; in the first a model stands at an edge."""
    rows = [(task, f"{task}-{n}", 3.6 * wh) for task, energies in ENERGIES.items() for n, wh in enumerate(energies)]
    table = pd.DataFrame(rows, columns=["task", "model", "energy_j"]).assign(queries=1, energy_kind="simulated")
    return energylab.rate(table, noise=0.02, draws=2000), stability.leave_one_out(table)


def scatters(figure, filled):
    found = (each for each in figure.axes[0].collections if isinstance(each, PathCollection))
    return [each for each in found if bool(each.get_facecolor().size) is filled]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_model_has_a_dot_at_its_place(theme, rated):
    made = overview(*rated, theme)
    assert plt.get_fignums() == []
    dots = scatters(made, filled=True)
    for drawn, energies in zip(dots, ENERGIES.values(), strict=True):
        low, high = min(energies), max(energies)
        np.testing.assert_allclose(drawn.get_offsets()[:, 0], [(e - low) / (high - low) for e in energies])
    stars = rated[0].loc[rated[0]["task"] == "one", "stars"]
    assert [tuple(c) for c in dots[0].get_facecolor()] == [to_rgba(theme.stars[star]) for star in stars]


def test_doubtful_stars_are_ringed_and_the_model_that_holds_up_the_scale_is_named(rated):
    made = overview(*rated)
    shown = [row[f"p_star_{row['stars']}"] for _, row in rated[0].iterrows()]
    unsure = [p for p in shown if p < 0.95]
    assert unsure
    assert sum(len(ring.get_offsets()) for ring in scatters(made, filled=False)) == len(unsure)
    texts = {text.get_text() for text in made.axes[0].texts}
    # without 30, the range of two is 5 to 7.5: 7.5 falls from five stars to one
    assert {"one-4", "two-2", "without it, 1 of 2 change", *(f"{100 * p:.0f} %" for p in unsure)} <= texts


def test_a_table_without_stars_is_refused(rated):
    with pytest.raises(ParameterError, match="no model of this table has stars"):
        overview(rated[0].assign(stars=pd.array([pd.NA] * len(rated[0]), dtype="Int64")), rated[1])


def test_labels_are_moved_apart_and_keep_their_order_and_middle():
    moved = _apart(np.array([0.2, 0.2, 0.21, 0.8]))
    assert (np.diff(moved) > 0.079).all()
    np.testing.assert_allclose(moved.mean(), np.mean([0.2, 0.2, 0.21, 0.8]))
    np.testing.assert_allclose(moved[3], 0.8)
