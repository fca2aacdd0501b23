"""Schemes: how a cohort's energies become bands, and how a band becomes stars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import pandas as pd

from energylab.errors import DataError
from energylab.ratings.cohorts import Group
from energylab.registry import Registry

#: Most stars there are; the lowest band earns them.
STARS = 5

#: An energy within this relative distance above an edge still belongs to the lower band.
TIE = 1e-9


class Scheme(Protocol):
    """A function from a group's energies to the edges between its bands.

    Attributes
    ----------
    name, version : str
        What a release calls it; a change of the rule is a new version.
    relative : bool
        Whether the edges come from the models themselves: then a common factor on all energies moves no star, and
        a group of few models is thin.
    """

    name: str
    version: str
    relative: bool

    def refusal(self, energies_wh: np.ndarray, group: Group) -> str:
        """Say why a group earns no stars; empty when it does."""
        ...

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the inner edges.

        Parameters
        ----------
        energies_wh : ndarray, shape (..., models)
            Wh per 1,000 queries, finite and positive; each leading row is rated by itself.
        group : Group
            What the models share.

        Returns
        -------
        ndarray, shape (..., STARS - 1)
            Ascending, Wh per 1,000 queries.
        """
        ...


class _Relative:
    """What schemes share whose edges come from the models themselves."""

    version: ClassVar[str] = "1"
    relative: ClassVar[bool] = True

    def refusal(self, energies_wh: np.ndarray, group: Group) -> str:
        """Say why a group earns no stars: one model, or equal ones, have no scale."""
        if energies_wh.size < 2:
            return "not rated: the only model of its group"
        if energies_wh.min() == energies_wh.max():
            return "not rated: all models of its group have the same energy"
        return ""


@dataclass(frozen=True)
class EqualWidth(_Relative):
    """The published scheme: five bands of equal width between the lowest and the highest energy.

    References
    ----------
    AI Energy Score, https://huggingface.github.io/AIEnergyScore/
    """

    name: ClassVar[str] = "equal_width"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`."""
        return _between(energies_wh.min(axis=-1), energies_wh.max(axis=-1))


@dataclass(frozen=True)
class LogWidth(_Relative):
    """Five bands of equal ratio: one heavy model no longer decides everybody's stars."""

    name: ClassVar[str] = "log_width"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`."""
        return np.exp(_between(np.log(energies_wh.min(axis=-1)), np.log(energies_wh.max(axis=-1))))


@dataclass(frozen=True)
class Quantiles(_Relative):
    """Every band holds a fifth of the models: the rule in words, "the most efficient 20 %"."""

    name: ClassVar[str] = "quantiles"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`. Linear interpolation between order statistics."""
        shares = np.arange(1, STARS) / STARS
        return np.moveaxis(np.quantile(energies_wh, shares, axis=-1), 0, -1)


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    shares = np.arange(1, STARS) / STARS
    return low[..., None] + (high - low)[..., None] * shares


REGISTRY = Registry(
    "rating scheme",
    {
        "equal_width": "energylab.ratings.schemes:EqualWidth",
        "log_width": "energylab.ratings.schemes:LogWidth",
        "quantiles": "energylab.ratings.schemes:Quantiles",
        "reference": "energylab.ratings.reference:Reference",
    },
    group="energylab.schemes",
)


def get_scheme(scheme: str | Scheme) -> Scheme:
    """Return the scheme called `scheme`, or `scheme` itself when it already is one.

    Raises
    ------
    UnknownNameError
        If no scheme has that name.
    """
    return REGISTRY.get(scheme)() if isinstance(scheme, str) else scheme


@dataclass(frozen=True)
class Bands:
    """The bands of one group, as a release stores them.

    Attributes
    ----------
    scheme, version : str
        Which rule made them.
    cohort, task, model_class
        The group they hold for; see `Group`.
    edges_wh : tuple of float
        The four ascending edges between 5|4, 4|3, 3|2 and 2|1 stars, in Wh per 1,000 queries. Empty when the
        group earns no stars.
    models : int
        Models with an energy that made the edges.
    reason : str
        Why there are no edges; empty when there are.
    """

    scheme: str
    version: str
    cohort: str
    task: str
    model_class: str | None
    edges_wh: tuple[float, ...]
    models: int
    reason: str = ""


def count_stars(energies_wh: np.ndarray, edges_wh: np.ndarray) -> np.ndarray:
    """Return the stars of finite energies between edges.

    Parameters
    ----------
    energies_wh : ndarray, shape (..., models)
        Wh per 1,000 queries.
    edges_wh : ndarray, shape (..., STARS - 1)
        Ascending edges of each leading row.

    Returns
    -------
    ndarray of int8, shape (..., models)
        STARS minus the number of edges that lie below; an energy within `TIE` (relative) above an edge counts
        as below it, so a tie earns the higher number of stars.
    """
    stars = np.full(energies_wh.shape, STARS, dtype=np.int8)
    for edge in np.moveaxis(edges_wh, -1, 0):
        stars -= energies_wh > (edge * (1 + TIE))[..., None]
    return stars


def stars_for(energy_wh: np.typing.ArrayLike, bands: Bands) -> pd.array:
    """Return the stars that energies earn within given bands.

    Parameters
    ----------
    energy_wh : array-like of float
        Wh per 1,000 queries; NaN when unavailable.
    bands : Bands
        Bands of the group the energies belong to.

    Returns
    -------
    pandas Int64 array
        1 to 5; missing where the energy is NaN or the group earns no stars.

    Raises
    ------
    DataError
        If an energy is infinite, zero or negative.
    """
    energies = np.atleast_1d(np.asarray(energy_wh, dtype=float))
    known = ~np.isnan(energies)
    if (~np.isfinite(energies[known]) | (energies[known] <= 0)).any():
        raise DataError(
            "an energy is infinite, zero or negative; use NaN where it is unavailable (a zero is a meter that failed)"
        )
    if not bands.edges_wh:
        return pd.array([pd.NA] * energies.size, dtype="Int64")
    stars = count_stars(np.where(known, energies, 1.0), np.asarray(bands.edges_wh))
    return pd.arrays.IntegerArray(stars.astype(np.int64), ~known)
