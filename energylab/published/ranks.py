"""Do own figures put models in the published order? One rank correlation, pooled within tasks, with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RankCorrelation:
    """Agreement of two orders within tasks.

    Attributes
    ----------
    value : float or None
        From -1 (opposite order) to 1 (same order); None when no task has two models.
    low, high : float or None
        Interval over models drawn anew; None when no task has three models.
    models, tasks : int
        How many models in how many tasks took part: those of tasks with two models or more.
    """

    value: float | None
    low: float | None
    high: float | None
    models: int
    tasks: int

    def __str__(self) -> str:
        if self.value is None:
            return "rank correlation with the published figures: none, no task has two models to order"
        interval = "" if self.low is None else f" (95 % interval {self.low:.2f} to {self.high:.2f})"
        return (
            f"rank correlation with the published figures, pooled within tasks: {self.value:.2f}{interval}, "
            f"{self.models} models in {self.tasks} tasks"
        )


def rank_correlation(
    beside: pd.DataFrame, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> RankCorrelation:
    """Correlate the ranks of own and published figures, comparing models within their task alone.

    Ranks are taken within each task, scaled to its number of models and centred, then correlated over all tasks
    together: energies of different tasks are never compared, so that a large spread between tasks cannot feign
    agreement. With one task it is Spearman's correlation.

    Parameters
    ----------
    beside : pandas.DataFrame
        From `energylab.published.beside`: ``task, published_wh, own_wh``.
    level : float, default 0.95
        Probability of the interval.
    resamples : int, default 2000
        Times the models of each task are drawn anew.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    RankCorrelation
        With a percentile interval.

    References
    ----------
    C. Spearman, "The proof and measurement of association between two things" (1904); B. Efron and R. Tibshirani,
    "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    groups = [
        group[["published_wh", "own_wh"]].to_numpy(float) for _, group in beside.groupby("task") if len(group) > 1
    ]
    value = _pooled(groups)
    low = high = None
    if value is not None and any(len(group) > 2 for group in groups):
        rng = np.random.default_rng(seed)
        draws = [
            _pooled([group[rng.integers(0, len(group), len(group))] for group in groups]) for _ in range(resamples)
        ]
        tail = (1 - level) / 2
        low, high = np.quantile([draw for draw in draws if draw is not None], [tail, 1 - tail]).tolist()
    return RankCorrelation(value, low, high, sum(map(len, groups)), len(groups))


def _pooled(groups: list[np.ndarray]) -> float | None:
    """Correlate centred, scaled ranks over all groups; None when either side does not vary."""
    from scipy.stats import rankdata

    if not groups:
        return None
    ranks = np.concatenate([(rankdata(group, axis=0) - (len(group) + 1) / 2) / len(group) for group in groups])
    spread = np.sqrt((ranks**2).sum(axis=0))
    return float((ranks[:, 0] * ranks[:, 1]).sum() / spread.prod()) if spread.all() else None
