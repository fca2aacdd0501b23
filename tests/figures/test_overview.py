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
    table = pd.DataFrame(
        [
            {
                "task": task,
                "model": f"{task}-{number}",
                "energy_j": 3.6 * joules,
                "queries": 1,
                "energy_kind": "simulated",
            }
            for task, energies in ENERGIES.items()
            for number, joules in enumerate(energies)
        ]
    )
    return energylab.rate(table, noise=0.02, draws=2000), stability.leave_one_out(table)


@pytest.fixture(params=[LIGHT, DARK], ids=["light", "dark"])
def figure(rated, request):
    """Return the picture and its theme."""
    made = overview(*rated, request.param)
    assert plt.get_fignums() == []
    return made, request.param


def scatters(figure):
    return [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]


def test_every_model_has_a_dot_at_its_place(figure, rated):
    made, theme = figure
    dots = [each for each in scatters(made) if each.get_facecolor().size]
    for drawn, energies in zip(dots, ENERGIES.values(), strict=True):
        low, high = min(energies), max(energies)
        np.testing.assert_allclose(drawn.get_offsets()[:, 0], [(e - low) / (high - low) for e in energies])
    stars = rated[0].loc[rated[0]["task"] == "one", "stars"]
    assert [tuple(c) for c in dots[0].get_facecolor()] == [to_rgba(theme.stars[star]) for star in stars]


def test_doubtful_stars_are_ringed_and_say_how_sure_they_are(figure, rated):
    made, _ = figure
    stars = rated[0]
    shown = [row[f"p_star_{row['stars']}"] for _, row in stars.iterrows()]
    unsure = [p for p in shown if p < 0.95]
    assert unsure
    rings = [each for each in scatters(made) if not each.get_facecolor().size]
    assert sum(len(ring.get_offsets()) for ring in rings) == len(unsure)
    texts = [text.get_text() for text in made.axes[0].texts]
    assert all(f"{100 * p:.0f} %" in texts for p in unsure)


def test_the_model_that_holds_up_the_scale_is_named(figure):
    texts = [text.get_text() for text in figure[0].axes[0].texts]
    assert "one-4" in texts
    assert "two-2" in texts
    # without 30, the range of two is 5 to 7.5: 7.5 falls from five stars to one
    assert "without it, 1 of 2 change" in texts


def test_a_table_without_stars_is_refused(rated):
    with pytest.raises(ParameterError, match="no model of this table has stars"):
        overview(rated[0].assign(stars=pd.array([pd.NA] * len(rated[0]), dtype="Int64")), rated[1])


def test_labels_are_moved_apart_and_keep_their_order_and_middle():
    moved = _apart(np.array([0.2, 0.2, 0.21, 0.8]))
    assert (np.diff(moved) > 0.079).all()
    np.testing.assert_allclose(moved.mean(), np.mean([0.2, 0.2, 0.21, 0.8]))
    np.testing.assert_allclose(moved[3], 0.8)
