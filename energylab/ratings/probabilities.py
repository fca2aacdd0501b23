"""Redraw a whole group within its uncertainty: the stars, ranks and order of every redraw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from energylab.ratings.cohorts import Group
from energylab.ratings.schemes import STARS, Scheme, count_stars
from energylab.ratings.uncertainty import Uncertainty

#: Energies held at once. Some ten arrays of this size live at the peak: about 150 MiB.
_BLOCK = 2_000_000


def redraws(
    energies_wh: np.ndarray,
    uncertainty: Uncertainty,
    draws: int,
    rng: np.random.Generator,
    block: int = _BLOCK,
) -> Iterator[np.ndarray]:
    """Redraw all models of a group at once, block by block.

    An energy is redrawn as its figure times ``exp(t)``, t scaled Student with the model's degrees of freedom, divided
    by the gains of the boards it ran on. A board's gain is redrawn once for all models on it: a gain that all
    models share moves no star of a scheme that only looks at ratios.

    Parameters
    ----------
    energies_wh : ndarray, shape (models,)
        Wh per 1,000 queries.
    uncertainty : Uncertainty
        Of these models.
    draws : int
        Number of redraws.
    rng : numpy.random.Generator
        Source of randomness.
    block : int, optional
        Energies held at once.

    Yields
    ------
    ndarray, shape (rows, models)
        Redrawn energies; the rows of all blocks add up to `draws`.
    """
    models = energies_wh.size
    rows_at_once = max(1, block // models)
    for start in range(0, draws, rows_at_once):
        rows = min(rows_at_once, draws - start)
        t = _student(uncertainty, rows, rng)
        t *= uncertainty.relative_se
        # A few degrees of freedom have tails that overflow; a factor of e^50 is as good as infinity.
        drawn = np.exp(np.clip(t, -50, 50, out=t), out=t)
        drawn *= energies_wh
        if uncertainty.gain:
            gains = rng.uniform(-uncertainty.gain, uncertainty.gain, (rows, uncertainty.boards.shape[1]))
            drawn /= 1 + gains @ uncertainty.boards.T
        yield drawn


def _student(uncertainty: Uncertainty, rows: int, rng: np.random.Generator) -> np.ndarray:
    t = rng.standard_normal((rows, uncertainty.df.size))
    few = np.flatnonzero(uncertainty.df < 1000)  # beyond, Student and normal cannot be told apart
    if few.size:
        df = uncertainty.df[few]
        t[:, few] /= np.sqrt(2 * rng.standard_gamma(df / 2, (rows, few.size)) / df)
    return t


def star_probabilities(
    energies_wh: np.ndarray,
    uncertainty: Uncertainty,
    scheme: Scheme,
    group: Group,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the probability of each number of stars of each model of a group.

    The extremes move the bands, so the whole group is redrawn at once and rated anew in each redraw.

    Parameters
    ----------
    energies_wh, uncertainty, draws, rng
        As in `redraws`.
    scheme : Scheme
        How bands are made.
    group : Group
        The group, for schemes that ask.

    Returns
    -------
    ndarray, shape (models, STARS)
        Column k holds the probability of k + 1 stars; rows sum to 1.
    """
    counts = np.zeros((energies_wh.size, STARS), dtype=np.int64)
    for drawn in redraws(energies_wh, uncertainty, draws, rng):
        stars = count_stars(drawn, scheme(drawn, group))
        for star in range(1, STARS + 1):
            counts[:, star - 1] += np.count_nonzero(stars == star, axis=0)
    return counts / draws
