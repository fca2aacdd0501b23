"""Redraw a whole group within its uncertainty, and count the stars of every redraw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from energylab.ratings.schemes import STARS, Group, Scheme, count_stars

#: Energies held at once: blocks of this many keep the peak far below 1 GiB.
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Uncertainty:
    """How far each model's figure may be from its true energy.

    Attributes
    ----------
    relative_se : ndarray, shape (models,)
        Relative standard error of each energy.
    dof : ndarray, shape (models,)
        Degrees of freedom it is known with; infinity where it is stated, not estimated.
    boards : ndarray, shape (models, boards)
        Share of each model's sessions on each board; rows sum to 1.
    gain : float
        Largest relative sensor gain error of a board, in either direction.
    """

    relative_se: np.ndarray
    dof: np.ndarray
    boards: np.ndarray
    gain: float = 0.0


def redraws(
    energies_wh: np.ndarray, uncertainty: Uncertainty, draws: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Redraw all models at once, block by block.

    An energy is redrawn as its figure times ``exp(t)``, t scaled Student with the model's degrees of freedom,
    times the gains of the boards it ran on, each redrawn once for all its models: a gain all models share
    moves no star of a relative scheme.

    Yields
    ------
    ndarray, shape (block, models)
        Redrawn energies in Wh per 1,000 queries.
    """
    models = energies_wh.size
    finite = np.isfinite(uncertainty.dof)
    block = max(1, _BLOCK // models)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        t = rng.standard_normal((rows, models))
        if finite.any():
            dof = uncertainty.dof[finite]
            t[:, finite] /= np.sqrt(rng.chisquare(dof, (rows, dof.size)) / dof)
        # A few degrees of freedom have tails that overflow; e^50 is as far away as infinity.
        drawn = energies_wh * np.exp(np.clip(t * uncertainty.relative_se, -50, 50))
        if uncertainty.gain:
            gains = rng.uniform(-uncertainty.gain, uncertainty.gain, (rows, uncertainty.boards.shape[1]))
            drawn *= 1 + gains @ uncertainty.boards.T
        yield drawn


def star_probabilities(
    energies_wh: np.ndarray,
    uncertainty: Uncertainty,
    scheme: Scheme,
    group: Group,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the probability of each number of stars for each model of a group.

    The extremes move the bands, so the whole group is redrawn at once and rated anew in each redraw.

    Returns
    -------
    ndarray, shape (models, STARS)
        Column k holds the probability of k + 1 stars.
    """
    counts = np.zeros((energies_wh.size, STARS))
    for drawn in redraws(energies_wh, uncertainty, draws, rng):
        stars = count_stars(drawn, scheme(drawn, group))
        for star in range(1, STARS + 1):
            counts[:, star - 1] += (stars == star).sum(axis=0)
    return counts / draws
