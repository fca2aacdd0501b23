"""Which stars of a cohort are decided, and whom to measure next: one rule for all models of a cohort at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from energylab.errors import StatisticsError
from energylab.statistics.evidence import Evidence, Part
from energylab.statistics.intervals import check_level

#: How the error of a star is shared: its model by itself, the ends of the cohort, model and highest together.
OWN, OUTER, PAIR = 0.1, 0.2, 0.7

#: Models that may be the highest, up to which each is compared with every other; with more, only their ends count.
CANDIDATES = 4

#: How far a difference may still move, in standard errors, over the factor from these to a joint half-width.
MAY_MOVE = 0.22


@dataclass(frozen=True)
class Levels:
    """Probabilities of error that together leave each star right with a stated probability.

    Attributes
    ----------
    own : float
        Of a model's own interval.
    outer : float
        Of each model's interval as a possible highest or lowest of the others.
    pair : float
        Of the joint region of a model and the highest.
    """

    own: float
    outer: float
    pair: float


def split_error(probability: float, members: int) -> Levels:
    """Split the error of one star over the model itself and the extremes of its cohort.

    Two tests share it. One sets a model's own interval against the ends between which the highest and the lowest
    energy lie; the model that sets an end is chosen by the data, so any of the cohort may be it, and `OUTER` is split
    over all of them. The other sets the model against each that may be the highest, in their joint region: there the
    half-widths add as roots of squares, and since the true highest is one fixed model, nothing is split over the
    cohort.

    Parameters
    ----------
    probability : float
        With which each decided star is right, however often one looks.
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
    return Levels(own=OWN * error, outer=OUTER * error / members, pair=PAIR * error)


@dataclass(frozen=True)
class Verdict:
    """What the evidence on a cohort allows; every array has shape (..., models).

    Attributes
    ----------
    fewest, most : ndarray of int
        Stars that are still possible; a star is decided when they are equal.
    own : ndarray
        Half-width of each model's own interval.
    by_highest, by_lowest : ndarray
        Half-widths, in the same unit, that the two extremes leave to a band edge at the model's place.
    highest, lowest : ndarray of bool
        Models that set the ends between which the extremes lie.
    """

    fewest: np.ndarray
    most: np.ndarray
    own: np.ndarray
    by_highest: np.ndarray
    by_lowest: np.ndarray
    highest: np.ndarray
    lowest: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """Whether one star is left."""
        return self.fewest == self.most


@dataclass(frozen=True)
class _Ends:
    """Ends of the intervals of a cohort, and those of the extremes among the others of every model."""

    low: np.ndarray
    high: np.ndarray
    outer_low: np.ndarray
    outer_high: np.ndarray

    @property
    def top(self) -> tuple[np.ndarray, np.ndarray]:
        return _largest_other(self.outer_low), _largest_other(self.outer_high)

    @property
    def bottom(self) -> tuple[np.ndarray, np.ndarray]:
        return -_largest_other(-self.outer_low), -_largest_other(-self.outer_high)


def judge(evidence: Evidence, levels: Levels, bands: int = 5) -> Verdict:
    """Say which stars the evidence on a cohort's models still allows under equal-width bands.

    Parameters
    ----------
    evidence : Evidence
        On energies, positive, of shape (..., models).
    levels : Levels
        From `split_error`.
    bands : int, default 5
        Number of bands; the lowest earns as many stars.

    Returns
    -------
    Verdict
        The true star lies within `fewest` to `most`, at all looks at once, with the probability of the split.

    Raises
    ------
    StatisticsError
        If a cohort has fewer than two models.
    """
    mean = evidence.mean
    if mean.shape[-1] < 2:
        raise StatisticsError("a cohort of one model has no scale; nothing can be decided")
    own, outer = evidence.half_width(levels.own), evidence.half_width(levels.outer)
    ends = _Ends(*(np.maximum(mean - h, 0) if sign < 0 else mean + h for h in (own, outer) for sign in (-1, 1)))
    at_least, at_most = _by_ends(ends, bands)
    for above, below in _by_pairs(evidence, levels.pair, ends, bands):
        at_least = np.maximum(at_least, above)
        at_most = np.minimum(at_most, below)
    at_most = np.maximum(at_least, at_most)  # both rules fail at once, if ever: an empty set is no star
    top, bottom = ends.top, ends.bottom
    place = _place(mean, sum(bottom) / 2, sum(top) / 2)
    with np.errstate(invalid="ignore"):
        by = (share * (high - low) / 2 for share, (low, high) in ((place, top), (1 - place, bottom)))
        by = [np.where(np.isnan(each), np.inf, each) for each in by]
    highest, lowest = (
        np.any([each == pick(each, axis=-1, keepdims=True) for each in (ends.outer_low, ends.outer_high)], axis=0)
        for pick in (np.max, np.min)
    )
    return Verdict(bands - at_most, bands - at_least, own, *by, highest, lowest)


def _largest_other(values: np.ndarray) -> np.ndarray:
    """Return the largest value among the other models, for every model."""
    ranked = np.partition(values, -2, axis=-1)
    return np.where(values >= ranked[..., -1:], ranked[..., -2:-1], ranked[..., -1:])


def _by_ends(ends: _Ends, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Fewest and most edges below each energy, from intervals alone.

    A star depends on the place ``f = (E - min)/(max - min)`` alone, where minimum and maximum include E itself. It
    rises with E and falls with the extremes of the *others*, so that its range over all energies within the
    intervals is reached at their ends: a model that may itself be the highest is judged as such, and one that surely
    is needs no precision at all.
    """
    (top_low, top_high), (bottom_low, bottom_high) = ends.top, ends.bottom
    return (
        edges_below(ends.low, bottom_high, top_high, bands),
        edges_below(ends.high, bottom_low, top_low, bands),
    )


def edges_below(energy: ArrayLike, lowest: ArrayLike, highest: ArrayLike, bands: int = 5) -> np.ndarray:
    """Count the band edges below energies, on the scale that each makes with the extremes of the others.

    Parameters
    ----------
    energy, lowest, highest : array_like
        Energies, and the lowest and highest of the *others* of the cohort, in one unit; broadcast together.
    bands : int, default 5
        Number of equal-width bands.

    Returns
    -------
    ndarray of int
        0 for the lowest band. It rises with the energy, and falls when an extreme of the others rises.
    """
    place = _place(np.asarray(energy, float), np.asarray(lowest, float), np.asarray(highest, float))
    return np.clip(np.ceil(place * bands * (1 - 1e-9)).astype(int) - 1, 0, bands - 1)


def _place(energy: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Place of an energy on the scale that it makes with the extremes of the others, 0 to 1."""
    least, largest = np.minimum(energy, lowest), np.maximum(energy, highest)
    with np.errstate(invalid="ignore", divide="ignore"):
        place = (energy - least) / (largest - least)
    return np.where(energy >= highest, np.where(energy > lowest, 1.0, 0.0), np.nan_to_num(place, nan=0.0))


def _by_pairs(evidence: Evidence, alpha: float, ends: _Ends, bands: int):
    """Yield fewest and most edges below each energy, from its joint region with each that may be the highest.

    For the true highest h, ``E - (k/bands)·E_h`` lies on the side of ``(1 - k/bands)·E_min`` that the region of the
    two allows. As nobody knows which model is the highest, all that may be must agree.
    """
    candidate = ends.outer_high >= np.max(ends.outer_low, axis=-1, keepdims=True)
    few = np.count_nonzero(candidate, axis=-1, keepdims=True) <= CANDIDATES
    ranked = np.argsort(-np.where(candidate, ends.outer_high, -np.inf), axis=-1)
    lowest_low, lowest_high = ends.bottom
    share = np.arange(1, bands) / bands  # (bands - 1,) at the end of every array below
    above = np.broadcast_to(few[..., None], (*candidate.shape, bands - 1))
    below = above & ~candidate[..., None]  # what may be the highest is below no edge for sure
    itself = np.arange(candidate.shape[-1])
    for rank in range(min(CANDIDATES, candidate.shape[-1])):
        at = ranked[..., rank : rank + 1]
        other = evidence.each(
            lambda values, at=at: np.take_along_axis(np.broadcast_to(values, candidate.shape), at, -1)
        )
        skip = (~np.take_along_axis(candidate, at, -1) | (at == itself))[..., None]
        mine, its = evidence.half_width(alpha, other.price), other.half_width(alpha, evidence.price)
        with np.errstate(invalid="ignore"):
            width = np.sqrt(mine[..., None] ** 2 + (share * its[..., None]) ** 2)
            apart = evidence.mean[..., None] - share * other.mean[..., None]
            above = above & (skip | (apart - width > (1 - share) * lowest_high[..., None]))
            below = below & (skip | (apart + width <= (1 - share) * lowest_low[..., None]))
    yield np.count_nonzero(above, axis=-1), bands - 1 - np.count_nonzero(below, axis=-1)


def _take(values: np.ndarray, at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.take_along_axis(np.broadcast_to(values, shape), at, axis=-1)


def measure_next(verdict: Verdict, open_: ArrayLike, may: ArrayLike) -> np.ndarray:
    """Say who is measured next: undecided models, and an extreme where it is what blurs the edges.

    Intervals that hold however often one looks hold for any choice made by them, so this changes no promise, only
    the energy spent: a model far from an edge stops early, a heavy extreme is measured as sharply as the models
    nearest an edge need it and no further. Of k undecided models and an extreme that serves them all, whose squared
    widths add up and fall with the energy, the cheapest mix has the extreme's width at ``k^(-1/4)`` of a model's.

    Parameters
    ----------
    verdict : Verdict
        From `judge`.
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
    shared = np.maximum(asked.sum(axis=-1, keepdims=True), 1) ** 0.25
    edges = verdict.by_highest + verdict.by_lowest
    with np.errstate(invalid="ignore"):
        wide = np.isinf(edges) | (edges * shared >= verdict.own)
    go, stuck = np.zeros(may.shape, bool), np.ones(may.shape, bool)
    sides = (
        (verdict.by_highest >= verdict.by_lowest, verdict.highest & may),
        (verdict.by_lowest >= verdict.by_highest, verdict.lowest & may),
    )
    for wider, ends in sides:
        go |= ends & np.any(asked & wider & (wide | ~may), axis=-1, keepdims=True)
        stuck &= ~(wider & np.any(ends, axis=-1, keepdims=True))
    return go | (asked & may & (~wide | stuck | np.isinf(verdict.own)))


def hopeless(evidence: Evidence, at_cap: Evidence, levels: Levels, bands: int = 5) -> np.ndarray:
    """Say whose star would most likely stay undecided however long the cohort is measured.

    What known spreads leave at the cap is known beforehand. A model is given up, as adjacent stars, when even what
    the cap leaves, less one standard error by which the present estimates may still move, would leave more than one
    star. It only ends measurements, so that it can make no star wrong.

    Parameters
    ----------
    evidence : Evidence
        At present.
    at_cap : Evidence
        With the least errors that the cap can reach; its means are not used.
    levels, bands
        As in `judge`.

    Returns
    -------
    ndarray of bool, shape (..., models)
    """
    now = np.sqrt(sum(part.error**2 for part in evidence.parts))
    left = tuple(Part(np.maximum(part.error - MAY_MOVE * now, 0.0), part.df, part.ratio) for part in at_cap.parts)
    unsure = ~judge(Evidence(evidence.mean, left), levels, bands).decided
    return unsure & np.any([part.error > 0 for part in left], axis=0)
