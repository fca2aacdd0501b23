"""Which stars of a cohort are decided, and whom to measure next: one rule for all models of a cohort at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from energylab.errors import StatisticsError
from energylab.statistics.decided import split_level
from energylab.statistics.intervals import check_level

#: Share of the error that goes to a model's own interval, the rest to the extremes: as these are split over the whole
#: cohort anyway, a smaller share costs them little.
OWN_SHARE = 0.8

#: How far an estimate may still move, as a share of its half-width: half-widths are three to four standard errors.
MAY_MOVE = 0.1


@dataclass(frozen=True)
class Levels:
    """Levels of the two intervals of every model, so that each star is right with a stated probability.

    Attributes
    ----------
    own : float
        Of the interval a model's own star is read from.
    outer : float
        Of the wider interval by which it may be the highest or lowest of the others.
    """

    own: float
    outer: float


def split_error(probability: float, members: int) -> Levels:
    """Split the error of one star over the model itself and the extremes of its cohort.

    `OWN_SHARE` of it goes to the model's own interval. The rest goes to the ends between which the highest and lowest
    energies lie; the model that sets an end is chosen by the data, so any of the cohort may be it and this part is
    split over all of them. The cost is small: a half-width grows with the root of the logarithm of the members.

    Parameters
    ----------
    probability : float
        With which each decided star is right.
    members : int
        Models of the cohort.

    Returns
    -------
    Levels

    Raises
    ------
    StatisticsError
        If the probability makes no sense, or there are fewer than two members.

    References
    ----------
    Dunn (1961), Multiple comparisons among means, Journal of the American Statistical Association 56, 52-64.
    """
    check_level(probability)
    if members < 2:
        raise StatisticsError(f"members={members!r}: a scale needs at least two models")
    error = 1 - probability
    return Levels(own=1 - OWN_SHARE * error, outer=split_level(1 - (1 - OWN_SHARE) * error, members))


@dataclass(frozen=True)
class Verdict:
    """What a cohort's intervals allow; every array has shape (..., models).

    Attributes
    ----------
    fewest, most : ndarray of int
        Stars that are still possible; a star is decided when they are equal.
    own : ndarray
        Width of each model's own interval.
    by_highest, by_lowest : ndarray
        Widths, in the same unit, that the two extremes leave to a band edge at the model's place.
    """

    fewest: np.ndarray
    most: np.ndarray
    own: np.ndarray
    by_highest: np.ndarray
    by_lowest: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """Width that both extremes leave to a band edge."""
        return self.by_highest + self.by_lowest

    @property
    def decided(self) -> np.ndarray:
        """Whether one star is left."""
        return self.fewest == self.most


def judge(low: ArrayLike, high: ArrayLike, outer_low: ArrayLike, outer_high: ArrayLike, bands: int = 5) -> Verdict:
    """Say which stars the intervals of a cohort's models still allow under equal-width bands.

    A star depends on the place ``f = (E - min)/(max - min)`` alone, where minimum and maximum include E itself. It
    rises with E and falls with the extremes of the *others*, so that its range over all energies within the
    intervals is reached at their ends: a model that may itself be the highest is judged as such, and one that
    surely is needs no precision at all. Of logarithms of energies it gives the stars of log-width bands.

    Parameters
    ----------
    low, high : array_like of shape (..., models)
        Ends of the models' own intervals, at level `Levels.own`.
    outer_low, outer_high : array_like of shape (..., models)
        Ends of their intervals as possible extremes, at level `Levels.outer`.
    bands : int, default 5
        Number of bands; the lowest earns as many stars.

    Returns
    -------
    Verdict
        If no interval fails, the true star lies within `fewest` to `most`.

    Raises
    ------
    StatisticsError
        If a cohort has fewer than two models, or an interval's ends are swapped.
    """
    low, high, outer_low, outer_high = (np.asarray(each, float) for each in (low, high, outer_low, outer_high))
    if low.shape[-1] < 2:
        raise StatisticsError("a cohort of one model has no scale; nothing can be decided")
    if np.any(low > high) or np.any(outer_low > outer_high):
        raise StatisticsError("an interval's low end lies above its high end")
    top = _others(outer_low, np.maximum), _others(outer_high, np.maximum)
    bottom = _others(outer_low, np.minimum), _others(outer_high, np.minimum)
    most = bands - _edges_below(low, bottom[1], top[1], bands)
    fewest = bands - _edges_below(high, bottom[0], top[0], bands)
    with np.errstate(invalid="ignore"):
        middle, least, largest = (np.add(*ends) / 2 for ends in ((low, high), bottom, top))
        place = np.clip(np.nan_to_num((middle - least) / (largest - least), nan=0.5), 0, 1)
        by = place * (top[1] - top[0]), (1 - place) * (bottom[1] - bottom[0])
    return Verdict(fewest, most, high - low, *(np.where(np.isnan(each), np.inf, each) for each in by))


def _others(ends: np.ndarray, pick: np.ufunc) -> np.ndarray:
    """Return the largest (smallest) end among the other models, for every model."""
    sign = 1.0 if pick is np.maximum else -1.0
    ranked = np.sort(sign * ends, axis=-1)
    best, second = ranked[..., -1:], ranked[..., -2:-1]
    return sign * np.where(sign * ends >= best, second, best)


def _edges_below(energy: np.ndarray, lowest: np.ndarray, highest: np.ndarray, bands: int) -> np.ndarray:
    """Count the edges below an energy when the others' extremes are these; a tie is not below."""
    least, largest = np.minimum(energy, lowest), np.maximum(energy, highest)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        place = (energy - least) / (largest - least)
    place = np.where(np.isnan(place), np.where(np.isposinf(energy) | np.isneginf(lowest), 1.0, 0.0), place)
    place = np.where(energy >= highest, np.where(energy > lowest, 1.0, 0.0), place)
    return np.clip(np.ceil(place * bands * (1 - 1e-9)).astype(int) - 1, 0, bands - 1)


def measure_next(
    verdict: Verdict,
    outer_low: ArrayLike,
    outer_high: ArrayLike,
    open_: ArrayLike,
    may: ArrayLike,
) -> np.ndarray:
    """Say who is measured next: undecided models, and the extremes where these are what blurs the edges.

    Intervals that hold however often one looks hold for any choice made by them, so this changes no promise, only
    the energy spent: a model far from an edge stops early, a heavy extreme is measured as sharply as the models
    nearest an edge need it and no further. Of k undecided models and an extreme that serves them all, whose widths add
    up and fall with the root of the energy, the cheapest mix has the extreme's width at ``k^(-1/3)`` of a model's.

    Parameters
    ----------
    verdict : Verdict
        From `judge`.
    outer_low, outer_high : array_like of shape (..., models)
        As given to `judge`.
    open_ : array_like of bool, shape (..., models)
        Models whose star is still asked for.
    may : array_like of bool, shape (..., models)
        Models that may be measured more (not at their cap).

    Returns
    -------
    ndarray of bool, shape (..., models)
        Nobody when nothing can be decided any more.
    """
    may = np.asarray(may, bool)
    asked = np.asarray(open_, bool) & ~verdict.decided
    shared = np.cbrt(np.maximum(asked.sum(axis=-1, keepdims=True), 1))
    with np.errstate(invalid="ignore"):
        wide = np.isinf(verdict.edges) | (verdict.edges * shared >= verdict.own)
    sides = verdict.by_highest >= verdict.by_lowest, verdict.by_lowest >= verdict.by_highest
    go, stuck = np.zeros(may.shape, bool), np.ones(may.shape, bool)
    for side, ends in zip(sides, extremes(outer_low, outer_high), strict=True):
        ends = ends & may
        left = np.any(ends, axis=-1, keepdims=True)  # whether this extreme can still be narrowed
        go |= ends & np.any(asked & side & (wide | ~may), axis=-1, keepdims=True)
        stuck &= ~(side & left)
    return go | (asked & may & (~wide | stuck | np.isinf(verdict.own)))


def hopeless(
    mean: ArrayLike,
    own: ArrayLike,
    outer: ArrayLike,
    own_at_cap: ArrayLike,
    outer_at_cap: ArrayLike,
    bands: int = 5,
) -> np.ndarray:
    """Say whose star would stay undecided however long the cohort is measured.

    What known spreads leave at the cap is known beforehand. A model is given up, as two adjacent stars, when even
    intervals that narrow, moved by as much as the present one still allows, leave more than one star. It only ends
    measurements, so that it can make no star wrong.

    Parameters
    ----------
    mean, own, outer : array_like of shape (..., models)
        Present estimates and half-widths, at both levels.
    own_at_cap, outer_at_cap : array_like of shape (..., models)
        Least half-widths that the cap can reach, at both levels.
    bands : int, default 5
        As in `judge`.

    Returns
    -------
    ndarray of bool, shape (..., models)
    """
    mean = np.asarray(mean, float)
    room, edges = (
        np.maximum(np.asarray(cap, float) - MAY_MOVE * np.asarray(now, float), 0.0)
        for cap, now in ((own_at_cap, own), (outer_at_cap, outer))
    )
    unsure = ~judge(mean - room, mean + room, mean - edges, mean + edges, bands).decided
    return unsure & (room > 0)


def extremes(outer_low: ArrayLike, outer_high: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Say which models set the ends between which a cohort's highest energy lies, and which those of the lowest."""
    ends = np.asarray(outer_low, float), np.asarray(outer_high, float)
    highest, lowest = (
        np.any([each == pick(each, axis=-1, keepdims=True) for each in ends], axis=0) for pick in (np.max, np.min)
    )
    return highest, lowest
