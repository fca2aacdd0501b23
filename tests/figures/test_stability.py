"""Figures of what moves a star: they draw on tables whose stars are all sure too."""

import pandas as pd
import pytest

import energylab
from energylab.errors import ParameterError
from energylab.figures import stability
from energylab.ratings import stability as ratings_stability

SURE = pd.DataFrame({"task": "t", "model": list("abcdefg"), "energy_j": [1, 2, 3, 5, 7, 9, 11.5], "queries": 1.0})


def labels(figure):
    return [label.get_text().split(" ")[0] for label in figure.axes[0].get_yticklabels()]


def test_where_all_stars_are_sure_the_least_sure_are_shown():
    stars = energylab.rate(SURE, noise=0.01, draws=500)
    assert stars.filter(like="p_star").max(axis=1).min() > 0.95
    shown = labels(stability.unsure(stars))
    assert len(shown) == 5
    least = stars.assign(p=stars.filter(like="p_star_").max(axis=1)).sort_values("p", kind="stable")["model"]
    assert shown == least.tolist()[:5]


def test_unsure_stars_are_shown_alone_and_ones_without_a_probability_are_refused():
    stars = energylab.rate(SURE.assign(energy_j=[1, 3.1, 5, 7, 8, 9, 11.5]), noise=0.01, draws=500)
    assert labels(stability.unsure(stars)) == ["b"]
    with pytest.raises(ParameterError, match="no star has a probability"):
        stability.unsure(energylab.rate(SURE))


def test_cohorts_of_one_task_have_rows_of_their_own():
    joined = ratings_stability.joins(pd.concat([SURE.assign(cohort="one"), SURE.assign(cohort="two")]))
    assert labels(stability.joining(joined)) == ["t", "t"]


def test_a_scheme_that_rates_nobody_says_so():
    figure = stability.schemes(ratings_stability.by_scheme(SURE, ("equal_width", "reference")))
    assert figure.axes[0].get_title(loc="left") == "reference: rates none of them"
