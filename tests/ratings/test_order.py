"""Ranks, pairs and agreement, against closed forms and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from energylab.errors import ParameterError
from energylab.ratings.cohorts import summarise
from energylab.ratings.order import _blocks, orders
from energylab.ratings.stars import peer_groups


def table(energies):
    names = [f"m{number}" for number in range(len(energies))]
    return pd.DataFrame({"task": "t", "model": names, "energy_j": energies, "queries": 1000})


def test_a_pair_against_the_normal_law():
    order = orders(table([1.0, 1.02, 5.0]), noise=0.02, gain=0.0, draws=40_000)[0]
    expected = stats.norm.cdf(np.log(1.02) / (0.02 * np.sqrt(2)))
    assert order.pairwise.loc["m0", "m1"] == pytest.approx(expected, abs=0.01)
    assert order.table["p_next"].iloc[0] == order.pairwise.loc["m0", "m1"]
    assert order.table["p_next"].iloc[1] == 1.0
    assert np.isnan(order.table["p_next"].iloc[2])


def test_pairs_are_complementary():
    pairwise = orders(table([1.0, 1.1, 1.15, 1.3]), noise=0.1, draws=500)[0].pairwise.to_numpy()
    off = ~np.eye(4, dtype=bool)
    assert (pairwise + pairwise.T)[off] == pytest.approx(np.ones(12))
    assert np.isnan(np.diagonal(pairwise)).all()


def test_a_sure_list_has_sharp_ranks_and_tau_one():
    order = orders(table([1.0, 2.0, 4.0, 8.0]), noise=0.001)[0]
    assert order.table["rank_low"].tolist() == order.table["rank_high"].tolist() == [1, 2, 3, 4]
    assert (order.tau, order.tau_low, order.tau_high) == (1.0, 1.0, 1.0)


def test_ranks_cover_the_true_rank_at_their_level():
    rng = np.random.default_rng(0)
    truth = np.sort(rng.lognormal(0, 0.3, 30))
    figures = truth * np.exp(0.1 * rng.standard_normal(30))
    found = orders(table(figures), noise=0.1)[0].table.set_index("model")
    covered = [
        found.loc[f"m{number}", "rank_low"] <= number + 1 <= found.loc[f"m{number}", "rank_high"]
        for number in range(30)
    ]
    assert np.mean(covered) >= 0.85


def test_tau_is_kendalls():
    df = table([1.0, 1.1, 1.15, 1.3, 1.32])
    order = orders(df, noise=0.1, draws=200)[0]
    peers = next(iter(peer_groups(summarise(df), 0.1, 0.05)))
    drawn = np.concatenate(list(_blocks(peers, 200, 0)))
    expected = [stats.kendalltau(np.arange(5), row).statistic for row in drawn]
    assert order.tau == pytest.approx(np.mean(expected))


def test_unknown_uncertainty_is_refused_with_the_way_out():
    with pytest.raises(ParameterError, match="state a noise"):
        orders(table([1.0, 2.0]))


def test_groups_too_small_to_order_are_left_out():
    df = pd.concat([table([1.0, 2.0]), table([1.0]).assign(task="alone")])
    assert [order.group.task for order in orders(df, noise=0.01, draws=10)] == ["t"]
