"""How sure a star and an order are: a whole group redrawn within its uncertainty, and confidence sets for ranks.

The lowest and the highest energy make the bands, and they are selected: among a dozen models that need the same, the
highest figure is the luckiest error. Redrawing around the figures would draw that luck twice. So a redraw comes from a
posterior that knows neighbours: the sorted figures are cut into runs of models that are alike, every cut weighed by its
evidence, and models of one run share a centre. A model that stands alone keeps its figure and its whole uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from energylab.energy import Group
from energylab.ratings.schemes import STARS, Scheme, count_stars

#: Larger groups are cut into runs at their two ends alone, of half as many models each: the ends make the bands.
_MOST = 256
_CUTS = 2000  # ways to cut a group that are drawn; each is redrawn several times
_BLOCK = 2_000_000  # energies held at once
_NEW_RUN = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])  # chance that the next model starts a run of its own
_SPREADS = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])  # within a run, in standard errors


@dataclass(frozen=True)
class Uncertainty:
    """Relative uncertainty of the models of one group.

    Attributes
    ----------
    relative_se : ndarray, shape (models,)
        Relative standard error of each energy on its boards.
    df : ndarray, shape (models,)
        Degrees of freedom it is known with; infinite where it is stated.
    boards : ndarray, shape (models, boards)
        Share of each board in each model's energy; rows sum to 1.
    gain : float
        Largest relative gain error of a board's sensor, in either direction.
    """

    relative_se: np.ndarray
    df: np.ndarray
    boards: np.ndarray
    gain: float = 0.0

    @classmethod
    def stated(cls, models: int, noise: float, gain: float = 0.0, own_boards: bool = False) -> Uncertainty:
        """Return the same relative standard error for all models, on one board, or on a board each."""
        boards = np.eye(models) if own_boards else np.ones((models, 1))
        return cls(np.full(models, float(noise)), np.full(models, np.inf), boards, gain)


@dataclass(frozen=True)
class Posterior:
    """How redraws of some models' logarithms are made, one row a way to cut them into runs.

    A redraw is ``centre + shared * z[start] + own * t``: one z a run, one t a model.
    """

    centre: np.ndarray
    shared: np.ndarray
    own: np.ndarray
    start: np.ndarray  # first model of each model's run


def redraws(energies_wh: np.ndarray, uncertainty: Uncertainty, draws: int, rng: np.random.Generator) -> Iterator:
    """Redraw all models of a group at once, block by block.

    A board's gain is redrawn once for all models on it: a gain that all models share moves no star of a relative
    scheme. The gain of a board that one model alone ran on cannot be told from that model's noise, and is part of it.

    Parameters
    ----------
    energies_wh : ndarray, shape (models,)
        Wh per 1,000 queries, ascending.
    uncertainty : Uncertainty
        Of these models.
    draws : int
        Number of redraws.
    rng : numpy.random.Generator
        Source of randomness.

    Yields
    ------
    ndarray, shape (rows, models)
        Redrawn energies; the rows of all blocks add up to `draws`.
    """
    models = energies_wh.size
    shared, relative_se, df = _gain_as_noise(uncertainty)
    cuts = max(1, min(draws, _CUTS, _BLOCK // models))
    posterior = _posterior(np.log(energies_wh), relative_se, cuts, rng)
    for start in range(0, draws, cuts):
        rows = min(cuts, draws - start)
        z = np.take_along_axis(rng.standard_normal((rows, models)), posterior.start[:rows], axis=1)
        drawn = posterior.shared[:rows] * z
        drawn += posterior.own[:rows] * _student(df, rows, rng)
        # A few degrees of freedom have tails that overflow; a factor of e^50 is as good as infinity.
        drawn = np.exp(posterior.centre[:rows] + np.clip(drawn, -50, 50, out=drawn), out=drawn)
        if uncertainty.gain and shared.shape[1]:
            gains = rng.uniform(-uncertainty.gain, uncertainty.gain, (rows, shared.shape[1]))
            drawn /= 1 + gains @ shared.T
        yield drawn


def _gain_as_noise(uncertainty: Uncertainty) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the shares of boards of several models, and the noise with the gains of boards of one model in it."""
    several = np.count_nonzero(uncertainty.boards, axis=0) > 1
    variance = uncertainty.relative_se**2
    own = gain_variance(uncertainty.gain) * (uncertainty.boards[:, ~several] ** 2).sum(axis=1)
    some = variance > 0  # a stated gain has no degrees of freedom to lose (Welch and Satterthwaite)
    df = np.where(some, uncertainty.df * (1 + own / np.where(some, variance, 1.0)) ** 2, np.inf)
    return uncertainty.boards[:, several], np.sqrt(variance + own), df


def gain_variance(gain: float) -> float:
    """Return the variance of a relative gain that is uniform on ±gain."""
    return gain**2 / 3


def _student(df: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    t = rng.standard_normal((rows, df.size))
    few = np.flatnonzero(df < 1000)  # beyond, Student and normal cannot be told apart
    if few.size:
        t[:, few] /= np.sqrt(2 * rng.standard_gamma(df[few] / 2, (rows, few.size)) / df[few])
    return t


def _posterior(x: np.ndarray, se: np.ndarray, rows: int, rng: np.random.Generator) -> Posterior:
    """Return the posterior of a group; the middle of a large one is not cut into runs."""
    if not (se > 0).all():
        return _alone(x, se, rows, 0)
    if x.size <= _MOST:
        return _cut(x, se, rows, 0, rng)
    low, high = _MOST // 2, x.size - _MOST // 2
    parts = [
        _cut(x[:low], se[:low], rows, 0, rng),
        _alone(x[low:high], se[low:high], rows, low),
        _cut(x[high:], se[high:], rows, high, rng),
    ]
    fields = ("centre", "shared", "own", "start")
    return Posterior(*(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in fields))


def _alone(x: np.ndarray, se: np.ndarray, rows: int, first: int) -> Posterior:
    shape = (rows, x.size)
    start = np.broadcast_to(np.arange(first, first + x.size), shape)
    return Posterior(np.broadcast_to(x, shape), np.broadcast_to(0.0, shape), np.broadcast_to(se, shape), start)


def _cut(x: np.ndarray, se: np.ndarray, rows: int, first: int, rng: np.random.Generator) -> Posterior:
    """Draw ways to cut sorted figures into runs, and the spread within each run; return what redraws follow."""
    spreads, evidence, mean, precision = _runs(x, se)
    start, end = _draw_cuts(np.logaddexp.reduce(evidence, axis=0), rows, rng)
    share = np.exp(evidence[:, start, end] - np.logaddexp.reduce(evidence[:, start, end], axis=0))
    u = np.take_along_axis(rng.random(start.shape), start, axis=1)
    at = np.minimum((np.cumsum(share, axis=0) < u).sum(axis=0), spreads.size - 1)
    single, variance, within = start == end, se**2, spreads[at] ** 2
    weight = np.where(single, 1.0, within / (within + variance))  # of a model's own figure
    return Posterior(
        centre=weight * x + (1 - weight) * mean[at, start, end],
        shared=(1 - weight) / np.sqrt(precision[at, start, end]),
        own=np.sqrt(weight * variance),
        start=start + first,
    )


def _runs(x: np.ndarray, se: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, for every run from model a to b and spread within it, log evidence, and mean and precision of its centre.

    Figures of a run are normal about their centre; the centre may lie anywhere in the range of the group.
    """
    typical = np.median(se)
    reach = x[-1] - x[0] + 4 * typical
    spreads = _SPREADS[_SPREADS * typical <= reach / 2] * typical
    w = 1 / (se**2 + spreads[:, None] ** 2)
    x0 = x - x[0]
    weight, weighted, squares, normal = (_between(each) for each in (w, w * x0, w * x0**2, np.log(w / (2 * np.pi)) / 2))
    ordered = np.triu(np.ones((x.size, x.size), dtype=bool))
    precision = np.where(ordered, weight, 1.0)
    misfit = np.maximum(squares - weighted**2 / precision, 0) / 2
    evidence = normal + np.log(2 * np.pi / precision) / 2 - misfit - np.log(reach) - np.log(spreads.size)
    return spreads, np.where(ordered, evidence, -np.inf), x[0] + weighted / precision, precision


def _between(values: np.ndarray) -> np.ndarray:
    """Return the sums from a to b of the last axis, both included; meaningless where a > b."""
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    return sums[:, None, 1:] - sums[:, :-1, None]


def _draw_cuts(evidence: np.ndarray, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw ways to cut models into runs in proportion to their probability (Barry and Hartigan's partition model).

    Returns
    -------
    start, end : ndarray of int, shape (rows, models)
        First and last model of each model's run.

    References
    ----------
    Barry and Hartigan (1992), Product partition models for change point problems, Annals of Statistics 20, 260-279.
    """
    models = len(evidence)
    length = np.arange(models) - np.arange(models)[:, None]
    new = np.log(_NEW_RUN)[:, None, None] * (np.arange(models) > 0)[:, None]
    weights = evidence + new + np.log1p(-_NEW_RUN)[:, None, None] * np.maximum(length, 0)
    upto = np.zeros((len(_NEW_RUN), models + 1))  # log weight of all ways to cut the first models
    for last in range(models):
        ways = upto[:, : last + 1] + weights[:, : last + 1, last]
        upto[:, last + 1] = np.logaddexp.reduce(ways, axis=1)
    chance = np.exp(upto[:, -1] - np.logaddexp.reduce(upto[:, -1]))
    begins = np.zeros((rows, models), dtype=bool)
    kinds = rng.choice(len(_NEW_RUN), rows, p=chance / chance.sum())
    for kind in np.unique(kinds):
        _draw_starts(upto[kind], weights[kind], begins, np.flatnonzero(kinds == kind), rng)
    place = np.arange(models)
    start = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    ends = np.append(begins[:, 1:], np.ones((rows, 1), dtype=bool), axis=1)
    end = np.minimum.accumulate(np.where(ends, place, models)[:, ::-1], axis=1)[:, ::-1]
    return start, end


def _draw_starts(
    upto: np.ndarray, weights: np.ndarray, begins: np.ndarray, rows: np.ndarray, rng: np.random.Generator
) -> None:
    """Mark in `begins` where runs begin, from the last run back to the first, for many rows at once."""
    models = len(weights)
    shares = np.exp(upto[:-1, None] + weights - upto[1:])  # of a run from a among those that end with b
    table = np.cumsum(shares, axis=0).T
    table = (table / table[:, -1:] + np.arange(models)[:, None]).ravel()  # one ascending list: one search for all rows
    last = np.full(rows.size, models - 1)
    while rows.size:
        first = np.searchsorted(table, last + rng.random(rows.size), side="right") - last * models
        first = np.minimum(first, last)
        begins[rows, first] = True
        rows, last = rows[first > 0], first[first > 0] - 1


def chances(
    energies_wh: np.ndarray,
    uncertainty: Uncertainty,
    scheme: Scheme,
    group: Group,
    draws: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return how probable each number of stars of each model is, and that each uses less than the next.

    Parameters
    ----------
    energies_wh, uncertainty, draws, rng
        As in `redraws`.
    scheme : Scheme
        How bands are made; the whole group is rated anew in each redraw.
    group : Group
        The group, for schemes that ask.

    Returns
    -------
    stars : ndarray, shape (models, STARS)
        Column k holds the probability of k + 1 stars; rows sum to 1.
    less : ndarray, shape (models,)
        Probability that a model truly uses less than the next; a draw counts half. NaN for the last.
    """
    counts = np.zeros((energies_wh.size, STARS), dtype=np.int64)
    less = np.full(energies_wh.size, np.nan)
    less[:-1] = 0.0
    for drawn in redraws(energies_wh, uncertainty, draws, rng):
        found = count_stars(drawn, scheme(drawn, group))
        for star in range(1, STARS + 1):
            counts[:, star - 1] += np.count_nonzero(found == star, axis=0)
        less[:-1] += np.count_nonzero(drawn[:, :-1] < drawn[:, 1:], axis=0) / 2
        less[:-1] += np.count_nonzero(drawn[:, :-1] <= drawn[:, 1:], axis=0) / 2
    return counts / draws, less / draws


def pairwise(energies_wh: np.ndarray, uncertainty: Uncertainty, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the probability that the model of the row uses less than that of the column; the diagonal is NaN."""
    less = np.zeros((energies_wh.size, energies_wh.size))
    for drawn in redraws(energies_wh, uncertainty, draws, rng):
        for model in range(energies_wh.size):
            one = drawn[:, model, None]
            less[model] += (np.count_nonzero(one < drawn, axis=0) + np.count_nonzero(one <= drawn, axis=0)) / 2
    np.fill_diagonal(less, np.nan)
    return less / draws


def rank_sets(energies_wh: np.ndarray, uncertainty: Uncertainty, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return each model's rank as a range; all ranges of the group hold at once with probability `level`.

    A model's rank is at least one more than the models that surely use less, and at most that of one before the
    models that surely use more, by simultaneous intervals for all pairs (Tukey and Kramer). Gains that two models
    share cancel in their difference. Time grows with the square of the group where models differ in spread or board.

    References
    ----------
    Mogstad, Romano, Shaikh and Wilhelm (2024), Inference for ranks, Review of Economic Studies 91, 476-518;
    Klein, Wright and Wieczorek (2020), A joint confidence region for an overall ranking of populations, Journal of
    the Royal Statistical Society C 69, 589-606.
    """
    models, x = energies_wh.size, np.log(energies_wh)
    factor = _tukey(models, float(uncertainty.df.min()), level)
    boards, variance = uncertainty.boards, uncertainty.relative_se**2
    if np.ptp(variance) == 0 and (boards == boards[0]).all():
        needed = factor * np.sqrt(2 * variance[0])
        return 1 + np.searchsorted(x, x - needed), np.searchsorted(x, x + needed, side="right")
    low, high = np.empty(models, dtype=np.int64), np.empty(models, dtype=np.int64)
    rows = max(1, _BLOCK // models)
    for start in range(0, models, rows):
        part = slice(start, start + rows)
        apart = ((boards[part, None] - boards) ** 2).sum(axis=-1) * gain_variance(uncertainty.gain)
        needed = factor * np.sqrt(variance[part, None] + variance + apart)
        difference = x - x[part, None]
        low[part] = 1 + np.count_nonzero(difference < -needed, axis=1)
        high[part] = models - np.count_nonzero(difference > needed, axis=1)
    return low, high


def _tukey(models: int, df: float, level: float) -> float:
    """Return the quantile of the largest standardised difference of all pairs (studentised range over root two)."""
    z = np.linspace(-8.5, 8.5, 801)
    density, below = stats.norm.pdf(z) * (z[1] - z[0]), stats.norm.cdf(z)
    ratio = np.sqrt(stats.chi2.ppf((np.arange(60) + 0.5) / 60, df) / df) if df < 1000 else np.ones(1)

    def covered(width: float) -> float:
        inside = stats.norm.cdf(z + width * ratio[:, None]) - below
        return float((models * density * inside ** (models - 1)).sum(axis=1).mean())

    widest = 20 / ratio.min()
    return optimize.brentq(lambda width: covered(width) - level, 1e-6, widest, xtol=1e-4) / np.sqrt(2)
