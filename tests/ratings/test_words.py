"""Sentences: each states the numbers of its table, and says what was not rated."""

import numpy as np
import pandas as pd

import energylab
from energylab.ratings import compare, drift, moves, words


def models(count, **columns):
    energy_j = np.arange(1.0, count + 1)
    frame = pd.DataFrame({"task": "t", "model": [f"m{i}" for i in range(count)], "energy_j": energy_j, "queries": 1})
    return frame.assign(**columns)


def two_cohorts(count=6):
    return pd.concat([models(count, cohort=name, device=name) for name in ("A", "B")], ignore_index=True)


def test_two_thin_cohorts_of_one_task_stay_thin():
    assert words.of_thin(energylab.rate(two_cohorts(), draws=0)).count("t (6 models)") == 2
    assert "No group" in words.of_thin(energylab.rate(models(12), draws=0))


def test_a_scheme_that_rates_nobody_is_not_said_to_change_no_star():
    table = compare.by_scheme(models(6, device="another"), ("equal_width", "quantiles", "reference"))
    said = words.of_schemes(table)
    assert "by quantiles of 6 models" in said
    assert said.endswith("The scheme reference rates none of them.")


def test_stars_that_others_gain_and_lose_are_whole_numbers():
    shown = words.neat(moves.leave_one_out(models(6)))
    assert set(shown["gained"]) | set(shown["lost"]) <= set(range(30))
    assert set(moves.leave_one_out(models(2))["lost"].isna()) == {True}


def test_the_most_doubtful_of_two_cohorts_are_told_apart():
    swept = moves.under_noise(two_cohorts(), (0.01,), draws=50)
    assert len(moves.most_doubtful(swept, 12)) == 12


def test_a_newcomer_is_shown_among_its_own_cohort():
    df = pd.concat([two_cohorts(), models(9, cohort="C", device="C")], ignore_index=True)
    moved = drift.joining(df)
    assert len(moved) == 9
    assert moved.loc[moved["move"] == "joined", "model"].tolist() == ["m8"]
