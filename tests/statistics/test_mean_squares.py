"""Mean squares and the interval of their difference: against textbook sums and exact limits."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from energylab.statistics.mean_squares import MeanSquare, difference_interval, nested_mean_squares


def test_mean_squares_of_a_balanced_design_are_those_of_the_textbook():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(3, 4, 5))
    index = pd.MultiIndex.from_product([range(3), range(4), range(5)], names=["board", "session", "run"])
    runs = pd.DataFrame({"y": y.ravel()}, index=index).reset_index()
    runs["session"] = runs["board"] * 10 + runs["session"]
    squares, size = nested_mean_squares(runs)
    means = y.mean(axis=2)
    assert squares["run"].value == pytest.approx(((y - means[..., None]) ** 2).sum() / 48)
    assert squares["session"].value == pytest.approx(5 * ((means - means.mean(axis=1)[:, None]) ** 2).sum() / 9)
    assert squares["board"].value == pytest.approx(20 * means.mean(axis=1).var(ddof=1))
    assert (squares["run"].df, squares["session"].df, squares["board"].df) == (48, 9, 2)
    assert size == pytest.approx({"run": 1, "session": 5, "board": 20})


def test_unbalanced_mean_squares_are_unbiased_for_the_run_and_close_for_the_session():
    rng = np.random.default_rng(1)
    counts = [2, 3, 5, 2, 4, 3]
    session = np.repeat(np.arange(6), counts)
    found = []
    for _ in range(500):
        y = rng.normal(0, 2, 6)[session] + rng.normal(size=len(session))
        squares, size = nested_mean_squares(pd.DataFrame({"board": 0, "session": session, "y": y}))
        found.append(((squares["session"].value - squares["run"].value) / size["session"], squares["run"].value))
    assert np.mean(found, axis=0) == pytest.approx([4.0, 1.0], rel=0.12)


def test_interval_of_a_difference_is_the_exact_chi_square_one_when_the_smaller_is_known():
    low, high = difference_interval(MeanSquare(3.0, 7), MeanSquare(0.0, 1))
    assert low == pytest.approx(7 * 3 / stats.chi2.ppf(0.975, 7))
    assert high == pytest.approx(7 * 3 / stats.chi2.ppf(0.025, 7))


def test_interval_of_a_difference_is_the_exact_f_test_at_zero():
    # MLS ends are built so that the lower end is 0 exactly where the F test of "no difference" is at its edge
    f = stats.f.ppf(0.975, 5, 12)
    low, _ = difference_interval(MeanSquare(f, 5), MeanSquare(1.0, 12))
    assert low == pytest.approx(0.0, abs=1e-9)
