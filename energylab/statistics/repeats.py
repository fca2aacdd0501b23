"""Blocks of queries that are measured again: once all were asked, which queries a block holds is no error any more."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from energylab.errors import StatisticsError
from energylab.statistics.anytime import best_ratio, multiplier


class Repeats:
    """Energy per query of all queries from blocks that are asked in turn, pass after pass.

    With block b as ``y = μ_b + ε``, ε Gaussian with a variance that falls with its queries, the mean over all queries
    is tested by the likelihood ratio of `anytime.multiplier`: the blocks' own means are nuisance coefficients with a
    flat prior, as the slopes of covariates are. Of q_b queries measured r_b times out of N in all,

    ``v = Σ_b q_b/(N²·r_b)``,  ``df = Σ_b (r_b - 1)``,

    so that a few blocks measured again suffice; neither the spread between queries nor the share that their choice
    has in a window's variance needs to be known. What every pass adds alike to a block is not in it: a wait for the
    counter's step, the sensor's gain, the session's own deviation.

    Parameters
    ----------
    population : int
        Number of all queries.

    References
    ----------
    Lindon, Ham, Tingley, Bojinov (2022), arXiv:2210.08589, as in `anytime.multiplier`.
    """

    def __init__(self, population: int) -> None:
        self.population = population
        self._blocks: dict[Hashable, tuple[int, list[float]]] = {}

    def take(self, block: Hashable, energy_j: float, queries: int) -> None:
        """Take in a window.

        Raises
        ------
        StatisticsError
            If a block comes back with other queries, or the blocks hold more queries than there are.
        """
        held, energies = self._blocks.setdefault(block, (queries, []))
        if held != queries:
            raise StatisticsError(f"block {block!r} held {held} queries and now {queries}: a block keeps its queries")
        energies.append(energy_j / queries)
        if self._asked() > self.population:
            raise StatisticsError(
                f"blocks of {self._asked()} queries in all, out of {self.population}: deal every query to one block"
            )

    def _asked(self) -> int:
        return sum(queries for queries, _ in self._blocks.values())

    def interval(self, alpha: float) -> tuple[float, float] | None:
        """Return mean and half-width in joules a query; None before all were asked and some again.

        Parameters
        ----------
        alpha : float
            Probability that the interval ever fails.
        """
        df = sum(len(energies) - 1 for _, energies in self._blocks.values())
        if df < 1 or self._asked() < self.population:
            return None
        queries = np.array([held for held, _ in self._blocks.values()], float)
        means = np.array([np.mean(energies) for _, energies in self._blocks.values()])
        times = np.array([len(energies) for _, energies in self._blocks.values()])
        rss = sum(held * np.sum((np.array(e) - np.mean(e)) ** 2) for held, e in self._blocks.values())
        variance = float(np.sum(queries / times)) / self.population**2
        # as short as it can be after the second pass; the number of blocks is known when the first one ends
        tau2 = (best_ratio(float(queries.size), alpha) - 1) / (2 * self.population)
        half = float(multiplier(df, 1 + tau2 / variance, alpha)) * np.sqrt(rss / df * variance)
        return (float(queries @ means) / self.population, float(half)) if np.isfinite(half) else None
