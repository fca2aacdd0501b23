"""Probabilities of stars and of the order of models, from redraws of a whole group; confidence ranges of ranks.

The lowest and the highest figure set the bands, and they are extreme partly by chance: among a dozen equal models the
highest figure has the largest error. Redraws around the figures would add this error again. They come instead from a
posterior distribution in which similar models support each other: the sorted figures are cut into clusters of similar
models, each cut weighted by its evidence, and models of one cluster share a centre. A model alone in its cluster keeps
its figure and its whole uncertainty. The prior of the cuts is a Dirichlet process: two models among many may be close
by chance and are rarely joined, while a dozen at one place form a cluster. The code calls a cluster a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from energylab.energy import Group
from energylab.ratings.schemes import STARS, Scheme, count_stars
from energylab.statistics.uncertainty import gain_variance

#: Of larger groups only the two ends, of half as many models each, are cut into runs, since they set the bands.
_MOST = 256
_CUTS = 2000  # number of drawn cuts of a group; each is redrawn several times
_BLOCK = 2_000_000  # energies in memory at a time
_CONCENTRATIONS = 10  # number of tried concentrations of the Dirichlet process, from one run to all models separate


@dataclass(frozen=True)
class Uncertainty:
    """Relative uncertainty of the models of one group.

    Attributes
    ----------
    relative_se : ndarray, shape (models,)
        Relative standard error of each energy on its boards.
    df : ndarray, shape (models,)
        Degrees of freedom of that; infinite if it is stated.
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
        """Return the same relative standard error for all models, on one common board or on one board each."""
        boards = np.eye(models) if own_boards else np.ones((models, 1))
        return cls(np.full(models, float(noise)), np.full(models, np.inf), boards, gain)


def redraws(energies_wh: np.ndarray, uncertainty: Uncertainty, draws: int, rng: np.random.Generator) -> Iterator:
    """Yield blocks of redrawn energies, `draws` rows in total, one column per model; `energies_wh` are ascending.

    A board's gain is redrawn once for all models on it: a gain that all models share changes no star of a relative
    scheme. The gain of a board with a single model is part of that model's noise.
    """
    models = energies_wh.size
    boards, relative_se, df = _gain_as_noise(uncertainty)
    cuts = max(1, min(draws, _CUTS, _BLOCK // models))
    centre, shared, own, start = _posterior(np.log(energies_wh), relative_se, cuts, rng)
    for first in range(0, draws, cuts):
        rows = min(cuts, draws - first)
        drawn = shared[:rows] * np.take_along_axis(rng.standard_normal((rows, models)), start[:rows], axis=1)
        drawn += own[:rows] * _student(df, rows, rng)
        # with few degrees of freedom the tails could overflow; a factor of e^50 is practically infinite
        drawn = np.exp(centre[:rows] + np.clip(drawn, -50, 50, out=drawn), out=drawn)
        if uncertainty.gain and boards.shape[1]:
            drawn /= 1 + rng.uniform(-uncertainty.gain, uncertainty.gain, (rows, boards.shape[1])) @ boards.T
        yield drawn


def _gain_as_noise(uncertainty: Uncertainty) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the shares of boards with several models, and the noise including the gains of boards with one model."""
    several = np.count_nonzero(uncertainty.boards, axis=0) > 1
    variance = uncertainty.relative_se**2
    own = gain_variance(uncertainty.gain) * (uncertainty.boards[:, ~several] ** 2).sum(axis=1)
    some = variance > 0  # a stated gain has infinite degrees of freedom (Welch and Satterthwaite)
    df = np.where(some, uncertainty.df * (1 + own / np.where(some, variance, 1.0)) ** 2, np.inf)
    return uncertainty.boards[:, several], np.sqrt(variance + own), df


def _student(df: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    t = rng.standard_normal((rows, df.size))
    few = np.flatnonzero(df < 1000)  # for more, Student's distribution equals the normal one
    if few.size:
        t[:, few] /= np.sqrt(2 * rng.standard_gamma(df[few] / 2, (rows, few.size)) / df[few])
    return t


def _posterior(x: np.ndarray, se: np.ndarray, rows: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the parts of redraws of the logarithms `x`, one row per cut into runs.

    A redraw is ``centre + shared * z[start] + own * t``, with one z per run (`start` is its first model) and one t per
    model.
    """
    parts = [np.broadcast_to(part, (rows, x.size)) for part in (x, 0.0, se, np.arange(x.size))]
    if not (se > 0).all():
        return parts
    parts = [part.copy() for part in parts]
    half = _MOST // 2
    for end in [slice(0, None)] if x.size <= _MOST else [slice(0, half), slice(x.size - half, None)]:
        for part, cut in zip(parts, _cut(x[end], se[end], rows, rng), strict=True):
            part[:, end] = cut
        parts[3][:, end] += end.start
    return parts


def _cut(x: np.ndarray, se: np.ndarray, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Draw cuts of the sorted figures into runs, and the spread within each run; see `_posterior`."""
    spreads, evidence, mean, precision = _runs(x, se)
    total = np.logaddexp.reduce(evidence, axis=0)
    start, end = _draw_cuts(total, rows, rng)
    upto = np.cumsum(np.exp(evidence - np.nan_to_num(total)), axis=0)  # share of the spreads up to each
    u = np.take_along_axis(rng.random(start.shape), start, axis=1)
    at = sum((each[start, end] < u).astype(np.intp) for each in upto[:-1])
    variance, within = se**2, spreads[at] ** 2
    weight = np.where(start == end, 1.0, within / (within + variance))  # of a model's own figure
    centre = weight * x + (1 - weight) * mean[at, start, end]
    return centre, (1 - weight) / np.sqrt(precision[at, start, end]), np.sqrt(weight * variance), start


def _runs(x: np.ndarray, se: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return log evidence, and mean and precision of the centre, for every run from model a to b and every spread.

    Figures of a run are normal around its centre; the centre is uniform over the range of the group. The spread in a
    run is zero, or of any scale from half a standard error to half that range.
    """
    typical = np.median(se)
    reach = x[-1] - x[0] + 4 * typical
    spreads = typical * np.append(0.0, 0.5 * 2.0 ** np.arange(int(np.log2(reach / typical)) + 1))
    w = 1 / (se**2 + spreads[:, None] ** 2)
    x0 = x - x[0]
    weight, weighted, squares, normal = (_between(each) for each in (w, w * x0, w * x0**2, np.log(w / (2 * np.pi)) / 2))
    ordered = np.triu(np.ones((x.size, x.size), dtype=bool))
    precision = np.where(ordered, weight, 1.0)
    misfit = np.maximum(squares - weighted**2 / precision, 0) / 2
    evidence = normal + np.log(2 * np.pi / precision) / 2 - misfit - np.log(reach) - np.log(spreads.size)
    return spreads, np.where(ordered, evidence, -np.inf), x[0] + weighted / precision, precision


def _between(values: np.ndarray) -> np.ndarray:
    """Return the sums from a to b of the last axis, both included; meaningless for a > b."""
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    return sums[:, None, 1:] - sums[:, :-1, None]


def _draw_cuts(evidence: np.ndarray, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw cuts of the sorted models into runs: the first and the last model of each model's run, row by row.

    Cuts are drawn by their probability in the product partition of a Dirichlet process of unknown concentration.

    References
    ----------
    Barry and Hartigan (1992), Product partition models for change point problems, Annals of Statistics 20, 260-279;
    Quintana and Iglesias (2003), Bayesian clustering and product partition models, Journal of the Royal Statistical
    Society B 65, 557-574.
    """
    models = len(evidence)
    length = np.maximum(np.arange(models) - np.arange(models)[:, None], 0)
    concentration = np.geomspace(0.1, 4 * models**2, _CONCENTRATIONS)
    weights = evidence + special.gammaln(length + 1) + np.log(concentration)[:, None, None]
    upto = np.zeros((_CONCENTRATIONS, models + 1))  # log weight of all ways to cut the first models
    for last in range(models):
        upto[:, last + 1] = np.logaddexp.reduce(upto[:, : last + 1] + weights[:, : last + 1, last], axis=1)
    total = upto[:, -1] + special.gammaln(concentration) - special.gammaln(concentration + models)
    begins = np.zeros((rows, models), dtype=bool)
    kinds = rng.choice(_CONCENTRATIONS, rows, p=special.softmax(total))
    for kind in np.unique(kinds):
        _draw_starts(upto[kind], weights[kind], begins, np.flatnonzero(kinds == kind), rng)
    place = np.arange(models)
    start = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    ends = np.append(begins[:, 1:], np.ones((rows, 1), dtype=bool), axis=1)
    return start, np.minimum.accumulate(np.where(ends, place, models)[:, ::-1], axis=1)[:, ::-1]


def _draw_starts(
    upto: np.ndarray, weights: np.ndarray, begins: np.ndarray, rows: np.ndarray, rng: np.random.Generator
) -> None:
    """Set in `begins` where runs begin, from the last run back to the first, for many rows at once."""
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
    """Return the probability of each number of stars of each model, and that each model uses less than the next.

    The group is rated in each redraw. Column k of the first array holds the probability of k + 1 stars; the second
    array is NaN for the last model, and equal energies count half.
    """
    counts = np.zeros((energies_wh.size, STARS), dtype=np.int64)
    less = np.zeros(energies_wh.size)
    for drawn in redraws(energies_wh, uncertainty, draws, rng):
        found = count_stars(drawn, scheme(drawn, group))
        for star in range(1, STARS + 1):
            counts[:, star - 1] += np.count_nonzero(found == star, axis=0)
        one, next_one = drawn[:, :-1], drawn[:, 1:]
        less[:-1] += (np.count_nonzero(one < next_one, axis=0) + np.count_nonzero(one <= next_one, axis=0)) / 2
    less[-1] = np.nan
    return counts / draws, less / draws


def rank_sets(energies_wh: np.ndarray, uncertainty: Uncertainty, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return each model's rank as a range; with probability `level` all ranges of the group are right.

    A rank runs from one more than the number of models that surely use less energy, to the number of models minus those
    that surely use more, by simultaneous intervals for all pairs (Tukey and Kramer). Gains that two models share cancel
    in their difference. Time grows with the square of the group if models differ in spread or board.

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


@lru_cache(maxsize=1024)
def _tukey(models: int, df: float, level: float) -> float:
    """Return the quantile of the largest standardised difference of all pairs (studentised range over root two)."""
    z = np.linspace(-8.5, 8.5, 201)
    density, below = stats.norm.pdf(z) * (z[1] - z[0]), special.ndtr(z)
    ratio = np.sqrt(stats.chi2.ppf((np.arange(60) + 0.5) / 60, df) / df) if df < 1000 else np.ones(1)

    def covered(width: float) -> float:
        inside = special.ndtr(z + width * ratio[:, None]) - below
        return float((models * density * inside ** (models - 1)).sum(axis=1).mean())

    widest = 20 / ratio.min()
    return optimize.brentq(lambda width: covered(width) - level, 1e-6, widest, xtol=1e-4) / np.sqrt(2)
