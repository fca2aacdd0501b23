"""When a star is decided: which stars an interval still allows, and how the error is shared out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from energylab.errors import StatisticsError
from energylab.statistics.cohort_stop import edges_below
from energylab.statistics.intervals import Interval, check_level


@dataclass(frozen=True)
class StarQuestion:
    """Asks of an interval which stars it allows, given the band edges as far as the cohort fixes them.

    Used as the `question` of a `sequential.StopRule`: it stops when one star is left. Each edge is itself
    only known within an interval, since the cohort's extremes are measured too; the star is decided at
    probability p when all of these intervals hold at once, so their levels come from `split_level`.

    Parameters
    ----------
    edges_low, edges_high : sequence of float
        Lower and upper ends of the inner band edges, ascending, in the unit of the intervals it is asked of
        (joules per query inside a rule). Four edges make five bands; the lowest band has the most
        stars.
    """

    edges_low: Sequence[float]
    edges_high: Sequence[float]

    def __post_init__(self) -> None:
        low, high = np.asarray(self.edges_low, float), np.asarray(self.edges_high, float)
        ascending = low.shape == high.shape and low.ndim == 1 and low.size and np.all(low <= high)
        if not ascending or np.any(np.diff(low) < 0) or np.any(np.diff(high) < 0):
            raise StatisticsError(f"band edges must ascend, each low <= high; got {self.edges_low}, {self.edges_high}")

    def stars(self, interval: Interval) -> tuple[int, ...]:
        """Return every number of stars the interval allows, ascending.

        One when decided; two adjacent ones at the cap; more when the cap came too early to say even that.
        """
        bands = len(self.edges_low) + 1
        fewest = bands - int(np.searchsorted(self.edges_low, interval.high, side="left"))
        most = bands - int(np.searchsorted(self.edges_high, interval.low, side="left"))
        return tuple(range(fewest, most + 1))

    def __call__(self, interval: Interval) -> str | None:
        """Return the reason to stop once a single star is left."""
        stars = self.stars(interval)
        return f"star decided: {stars[0]} at {interval.level:.1%}" if len(stars) == 1 else None


@dataclass(frozen=True)
class ScaleQuestion:
    """Asks of an interval which stars it allows on the scale that a model makes with its measured peers.

    Used as the `question` of a `sequential.StopRule`. The bands are of equal width between the lowest and the highest
    energy of the peers *and the model*: a model that may itself be an extreme is judged as one. The true star is among
    those allowed when the interval and those of the peers' extremes hold at once; see `split_level`.

    Parameters
    ----------
    lowest, highest : tuple of float
        Ends between which the lowest and the highest true energy of the peers lie, in the unit of the intervals it is
        asked of (joules per query inside a rule).
    gain : float, default 0
        Largest relative gain error of the board's sensor, where the peers ran on others: both ends are widened by it.
    bands : int, default 5
        Number of bands; the lowest earns as many stars.
    """

    lowest: tuple[float, float]
    highest: tuple[float, float]
    gain: float = 0.0
    bands: int = 5

    def __post_init__(self) -> None:
        ends = (*self.lowest, *self.highest)
        if not (np.all(np.isfinite(ends)) and self.lowest[0] <= self.lowest[1] and self.highest[0] <= self.highest[1]):
            raise StatisticsError(f"lowest={self.lowest}, highest={self.highest}: each needs a low end and a high end")
        if not 0 <= self.gain < 1:
            raise StatisticsError(f"gain={self.gain!r} is not a relative error; allowed: 0 <= gain < 1")

    def stars(self, interval: Interval) -> tuple[int, ...]:
        """Return every number of stars the interval allows, ascending: one when decided."""
        low, high = max(interval.low, 0.0) * (1 - self.gain), interval.high * (1 + self.gain)
        most = self.bands - int(edges_below(low, self.lowest[1], self.highest[1], self.bands))
        fewest = self.bands - int(edges_below(high, self.lowest[0], self.highest[0], self.bands))
        return tuple(range(fewest, most + 1))

    def __call__(self, interval: Interval) -> str | None:
        """Return the reason to stop once a single star is left."""
        stars = self.stars(interval)
        return f"star decided: {stars[0]}" if len(stars) == 1 else None


def split_level(probability: float, intervals: int) -> float:
    """Level of each of several intervals so that all hold at once with `probability` (Bonferroni).

    For one star: its own interval and those of the cohort's two extremes, 3. For all stars of a cohort at
    once: one interval a member, the extremes among them.

    Raises
    ------
    StatisticsError
        If `probability` is not within 0 to 1 or there is no interval.

    References
    ----------
    Dunn (1961), Multiple comparisons among means, Journal of the American Statistical Association 56, 52-64.
    """
    check_level(probability)
    if intervals < 1:
        raise StatisticsError(f"intervals={intervals!r}: at least one is needed")
    return 1 - (1 - probability) / intervals
