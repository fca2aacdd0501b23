"""The order of the models and how sure it is: ranks, pairs, and agreement of the whole list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from energylab.errors import ParameterError
from energylab.ratings.cohorts import Group, summarise
from energylab.ratings.probabilities import redraws
from energylab.ratings.stars import Peers, check_options, peer_groups

_PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Order:
    """How sure the order of one group's models is.

    Attributes
    ----------
    group : Group
        What they share.
    table : pandas.DataFrame
        One row per model by energy: ``model, energy_wh, rank`` (1 uses least), ``rank_low, rank_high`` (interval of
        the rank), ``p_next`` (probability that it truly uses less than the next model; NaN for the last).
    pairwise : pandas.DataFrame
        Probability that the model of the row truly uses less than that of the column; the diagonal is NaN.
    tau, tau_low, tau_high : float
        Kendall's tau between the list and the true order: mean and interval.
    """

    group: Group
    table: pd.DataFrame
    pairwise: pd.DataFrame
    tau: float
    tau_low: float
    tau_high: float


def orders(
    df: pd.DataFrame,
    *,
    noise: float | None = None,
    gain: float = 0.05,
    draws: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Order, ...]:
    """Say how sure the order of the models is, group by group.

    Time and memory grow with the square of a group's size.

    Parameters
    ----------
    df, noise, gain, draws, seed, level
        As in `stars.rating`.

    Returns
    -------
    tuple of Order
        One per group of at least two models whose uncertainty is known.

    Raises
    ------
    ParameterError
        If an option is out of range, or no group has a known uncertainty.
    DataError, CohortError, UnknownNameError
        As `stars.rating`.

    References
    ----------
    Kendall (1938), A new measure of rank correlation, Biometrika 30, 81-93.
    """
    check_options(noise=noise, gain=gain, draws=draws, level=level)
    summary = summarise(df)
    names = summary.models["model"].to_numpy(dtype=object)
    known = [peers for peers in peer_groups(summary, noise, gain) if peers.uncertainty and peers.rows.size > 1]
    if not known or draws < 1:
        raise ParameterError("nothing to redraw: repeat the sessions, or state a noise, and ask for at least one draw")
    return tuple(_order(peers, names[peers.rows], draws, seed, level) for peers in known)


def summary(found: tuple[Order, ...], level: float = 0.95) -> pd.DataFrame:
    """Sum the orders up, one row a group.

    Parameters
    ----------
    found : tuple of Order
        From `orders`.
    level : float, default 0.95
        A pair of neighbours whose order is less probable than this is doubtful.

    Returns
    -------
    pandas.DataFrame
        ``task, model_class, models, doubtful_pairs`` (of neighbours in the list), ``widest_rank`` (largest number of
        ranks an interval holds), ``tau, tau_low, tau_high``.
    """
    rows = [
        {
            "task": each.group.task,
            "model_class": each.group.model_class,
            "models": len(each.table),
            "doubtful_pairs": int((each.table["p_next"] < level).sum()),
            "widest_rank": int((each.table["rank_high"] - each.table["rank_low"]).max()) + 1,
            "tau": each.tau,
            "tau_low": each.tau_low,
            "tau_high": each.tau_high,
        }
        for each in found
    ]
    return pd.DataFrame(rows).astype({"model_class": "string"})


def _order(peers: Peers, names: np.ndarray, draws: int, seed: int, level: float) -> Order:
    models = peers.rows.size
    first, second = np.triu_indices(models, 1)
    before = np.zeros(first.size, dtype=np.int64)
    taus, ranks = [], []
    for drawn in _blocks(peers, draws, seed):
        less = drawn[:, first] < drawn[:, second]
        before += np.count_nonzero(less, axis=0)
        taus.append(2 * less.mean(axis=1) - 1)
        ranks.append(drawn.argsort(axis=1).argsort(axis=1).astype(np.int32) + 1)
    tails = (1 - level) / 2, (1 + level) / 2
    low, high = np.quantile(np.concatenate(ranks), tails, axis=0, method="inverted_cdf")
    probability = np.full((models, models), np.nan)
    probability[first, second] = before / draws
    probability[second, first] = 1 - before / draws
    table = pd.DataFrame(
        {
            "model": names,
            "energy_wh": peers.energies_wh,
            "rank": np.arange(1, models + 1),
            "rank_low": low,
            "rank_high": high,
            "p_next": np.append(np.diagonal(probability, 1), np.nan),
        }
    )
    tau = np.concatenate(taus)
    pairwise = pd.DataFrame(probability, index=names, columns=names)
    return Order(peers.group, table, pairwise, float(tau.mean()), *map(float, np.quantile(tau, tails)))


def _blocks(peers: Peers, draws: int, seed: int) -> Iterator[np.ndarray]:
    models = peers.rows.size
    block = max(models, _PAIRS_AT_ONCE * 2 // models)  # energies, so that their pairs fit
    return redraws(peers.energies_wh, peers.uncertainty, draws, peers.rng(seed), block)
