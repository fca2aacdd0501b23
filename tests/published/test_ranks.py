"""Agreement with the published order, within tasks."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from energylab.published import rank_correlation


def table(**tasks):
    rows = [(task, p, m) for task, pairs in tasks.items() for p, m in pairs]
    return pd.DataFrame(rows, columns=["task", "published_wh", "own_wh"])


def test_one_task_is_spearmans_correlation():
    rng = np.random.default_rng(1)
    pairs = list(zip(rng.random(12), rng.random(12), strict=True))
    found = rank_correlation(table(a=pairs))
    assert found.value == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
    assert found.low < found.value < found.high
    assert (found.models, found.tasks) == (12, 1)


def test_a_spread_between_tasks_feigns_no_agreement():
    cheap = [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]
    dear = [(1000 * a, 1000 * b) for a, b in cheap]
    both = table(a=cheap, b=dear)
    assert spearmanr(both["published_wh"], both["own_wh"]).statistic > 0.5
    assert rank_correlation(both).value == pytest.approx(-1)


def test_equal_orders_in_other_units_agree_wholly():
    found = rank_correlation(table(a=[(1, 10), (2, 20), (5, 21)], b=[(7, 1), (8, 2)]))
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert "5 models in 2 tasks" in str(found)


def test_tasks_with_one_model_take_no_part():
    found = rank_correlation(table(a=[(1, 2), (2, 4)], b=[(1, 1)]))
    assert (found.models, found.tasks, found.low) == (2, 1, None)
    nothing = rank_correlation(table(b=[(1, 1)]))
    assert nothing.value is None
    assert "none" in str(nothing)


def test_the_interval_covers_the_true_correlation():
    """Two orders drawn with a known correlation; fewer draws than for a figure that is published."""
    truth = rank_correlation(table(a=_drawn(np.random.default_rng(0), 4000)), resamples=2).value
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(100 + seed)
        found = rank_correlation(table(a=_drawn(rng, 20), b=_drawn(rng, 20)), resamples=200, seed=seed)
        covered += found.low <= truth <= found.high
    assert covered >= 50


def _drawn(rng, count):
    shared = rng.normal(size=count)
    return list(zip(shared + rng.normal(size=count), shared + rng.normal(size=count), strict=True))
