"""Evidence on several energies at once: how far they may be from their estimates together, however often one looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from energylab.statistics.anytime import multiplier


@dataclass(frozen=True)
class Part:
    """One independent error of an estimate; arrays broadcast with the estimates.

    Attributes
    ----------
    error : ndarray
        Standard error, in the unit of the estimate; 0 where nothing is left of it, infinite while it is unknown.
    df : ndarray
        Degrees of freedom it is known with; `sessions.KNOWN_DF` for a spread that is known.
    ratio : ndarray
        ``1 + τ²/v`` of `anytime.multiplier`, above 1.
    """

    error: np.ndarray
    df: np.ndarray
    ratio: np.ndarray

    @property
    def price(self) -> np.ndarray:
        """What its mixture adds to the evidence that is needed: ``½ log ratio``; nothing where no error is left."""
        return np.where(self.error > 0, 0.5 * np.log(np.maximum(self.ratio, 1.0)), 0.0)

    def reach(self, needed: np.ndarray) -> np.ndarray:
        """Half-width at which this part alone would be evidence of `needed`, prices included."""
        with np.errstate(invalid="ignore", over="ignore"):
            alpha = np.exp(-np.minimum(needed - self.price, 600.0))
            wide = multiplier(self.df, self.ratio, alpha) * self.error
        return np.where(self.error > 0, np.where(np.isfinite(self.error), wide, np.inf), 0.0)


@dataclass(frozen=True)
class Evidence:
    """Estimates of several models and their independent errors: the choice of queries, runs, the meter.

    Each part is a likelihood ratio B against a mixture (`anytime.multiplier`), a martingale at the true value. Parts
    and models are independent, so a product of several is one too, whatever the order in which models are measured
    and however the next is chosen: by Ville's inequality it ever reaches 1/α with probability at most α. The region
    where it does not is bounded by an ellipsoid, since log B is concave in t²: with h_i the half-width at which part
    i alone would use up all of the evidence, ``log(1/α) + Σ ½ log ratio``, every point within has ``Σ (d_i/h_i)² ≤ 1``.
    So half-widths of a sum or difference add as roots of squares, not as they are.

    Attributes
    ----------
    mean : ndarray of shape (..., models)
        Estimates.
    parts : tuple of Part
        Their errors.

    References
    ----------
    Ville (1939), Étude critique de la notion de collectif; Ramdas, Grünwald, Vovk, Shafer (2023), Game-theoretic
    statistics and safe anytime-valid inference, Statistical Science 38, 576-601 (products of e-processes under
    adaptive sampling).
    """

    mean: np.ndarray
    parts: tuple[Part, ...]

    @property
    def price(self) -> np.ndarray:
        """Sum of the parts' prices."""
        return sum((part.price for part in self.parts), np.zeros(()))

    def half_width(self, alpha: ArrayLike, beside: ArrayLike = 0.0) -> np.ndarray:
        """Half-width of each model within a joint region that fails with probability `alpha`.

        Parameters
        ----------
        alpha : array_like of float
            Probability that the region ever fails.
        beside : array_like of float, default 0
            Price of the other models in the region; 0 for a model by itself. The half-width of a difference is then
            the root of the sum of squares of the models' half-widths.

        Returns
        -------
        ndarray of shape (..., models)
        """
        needed = np.log(1 / np.asarray(alpha, float)) + self.price + beside
        return np.sqrt(sum(part.reach(needed) ** 2 for part in self.parts))

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Evidence:
        """Apply a function, such as a choice of models, to every array."""
        parts = tuple(Part(*(change(v) for v in (part.error, part.df, part.ratio))) for part in self.parts)
        return Evidence(change(self.mean), parts)
