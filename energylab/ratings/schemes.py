"""Schemes: how a cohort's energies become bands, and how a band becomes stars."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from energylab.energy import Group
from energylab.errors import DataError, ParameterError
from energylab.paths import params_root
from energylab.registry import Registry

#: Most stars there are; the lowest band earns them.
STARS = 5
_SHARES = np.arange(1, STARS) / STARS

#: An energy within this relative distance above an edge still belongs to the lower band.
TIE = 1e-9

#: In place of edges where a group has nothing to rate.
NO_ENERGY = "not rated: no model of its group has an energy"


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


@dataclass(frozen=True)
class EqualWidth:
    """The published scheme: five bands of equal width between the lowest and the highest energy.

    References
    ----------
    AI Energy Score, https://huggingface.github.io/AIEnergyScore/
    """

    name: ClassVar[str] = "equal_width"
    version: ClassVar[str] = "1"
    relative: ClassVar[bool] = True

    def refusal(self, energies_wh: np.ndarray, group: Group) -> str:
        """Say why a group earns no stars: one model, or equal ones, have no scale."""
        if energies_wh.size < 2:
            return "not rated: the only model of its group"
        if energies_wh.min() == energies_wh.max():
            return "not rated: all models of its group have the same energy"
        return ""

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`."""
        return _between(energies_wh.min(axis=-1), energies_wh.max(axis=-1))


@dataclass(frozen=True)
class LogWidth(EqualWidth):
    """Five bands of equal ratio: one heavy model no longer decides everybody's stars."""

    name: ClassVar[str] = "log_width"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`."""
        return np.exp(_between(np.log(energies_wh.min(axis=-1)), np.log(energies_wh.max(axis=-1))))


@dataclass(frozen=True)
class Quantiles(EqualWidth):
    """Every band holds a fifth of the models: the rule in words, "the most efficient 20 %"."""

    name: ClassVar[str] = "quantiles"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`. Linear interpolation between order statistics."""
        return np.moveaxis(np.quantile(energies_wh, _SHARES, axis=-1), 0, -1)


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low[..., None] + (high - low)[..., None] * _SHARES


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FixedBands(_Part):
    """The edges of one task and model class, in Wh per 1,000 queries, ascending."""

    task: str
    model_class: str | None = None
    edges_wh: tuple[float, float, float, float]

    @model_validator(mode="after")
    def _ascending(self) -> FixedBands:
        if not (self.edges_wh[0] > 0 and all(np.diff(self.edges_wh) > 0)):
            raise ValueError(f"edges_wh of {self.task} must be positive and ascend, not {self.edges_wh}")
        return self


class ReferenceFile(_Part):
    """A file of fixed bands: what it holds for, where it comes from, and the edges."""

    version: str
    source: str
    device: str | None  # the device model the bands hold for; null for any
    bands: tuple[FixedBands, ...]


@dataclass(frozen=True)
class Reference:
    """Fixed reference bands: models that join or leave change no other star.

    Parameters
    ----------
    path : path, optional
        A file like ``params/ratings/reference-2025-02.yaml``, which is the default: the edges that the published
        energies of February 2025 gave by equal width. Opened when first asked, not before.
    """

    path: str | os.PathLike | None = None
    name: ClassVar[str] = "reference"
    relative: ClassVar[bool] = False

    @property
    def version(self) -> str:
        """Version of the file."""
        return self.file.version

    @cached_property
    def file(self) -> ReferenceFile:
        """The checked content of the file; ParameterError if it is missing or not one of reference bands."""
        return read_reference(self.path or params_root() / "ratings" / "reference-2025-02.yaml")

    def refusal(self, energies_wh: np.ndarray, group: Group) -> str:
        """Say why a group earns no stars: another device, or a task the file does not know."""
        if None not in (self.file.device, group.device) and group.device != self.file.device:
            return f"not rated: bands of {self.version} hold for {self.file.device}, this cohort ran on {group.device}"
        return "" if self._edges(group) else f"not rated: {self.version} has no bands for {group.title}"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the file's edges for the group, whatever its energies; see `Scheme`."""
        edges = self._edges(group)
        if edges is None:
            raise ParameterError(f"{self.version} has no bands for {group.title}; ask `refusal` first")
        return np.broadcast_to(np.asarray(edges), (*energies_wh.shape[:-1], STARS - 1))

    def _edges(self, group: Group) -> tuple[float, ...] | None:
        of_group = {(part.task, part.model_class): part.edges_wh for part in self.file.bands}
        return of_group.get((group.task, group.model_class))


def read_reference(path: str | os.PathLike) -> ReferenceFile:
    """Read and check a file of reference bands; one ParameterError names its first fault."""
    import yaml

    try:
        return ReferenceFile.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ParameterError(f"cannot read reference bands {path}: {error.strerror}") from error
    except (ValidationError, yaml.YAMLError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, fault["loc"])) or "file"
        raise ParameterError(f"{path} is not a file of reference bands: {where}: {fault['msg']}") from error


def freeze(bands: Iterable[Bands], version: str, source: str, device: str | None) -> str:
    """Return the text of a file that fixes the bands of a rating.

    Parameters
    ----------
    bands : iterable of Bands
        ``rating(df).bands``; groups without edges are left out.
    version : str
        Name of the fixed bands, with a date: ``reference-2025-02``.
    source : str
        One sentence on where the energies come from.
    device : str or None
        The device model the energies were measured on.

    Returns
    -------
    str
        YAML, which `Reference` reads.
    """
    import yaml

    content: dict[str, Any] = {"version": version, "source": source, "device": device, "bands": []}
    for part in (part for part in bands if part.edges_wh):
        # Twelve digits drop the rounding of binary fractions, far below a tie's tolerance.
        edges_wh = [float(f"{edge:.12g}") for edge in part.edges_wh]
        named = {} if part.model_class is None else {"model_class": part.model_class}
        content["bands"].append({"task": part.task, **named, "edges_wh": edges_wh})
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


REGISTRY = Registry(
    "rating scheme",
    {
        "equal_width": "energylab.ratings.schemes:EqualWidth",
        "log_width": "energylab.ratings.schemes:LogWidth",
        "quantiles": "energylab.ratings.schemes:Quantiles",
        "reference": "energylab.ratings.schemes:Reference",
    },
    group="energylab.schemes",
)


def get_scheme(scheme: str | Scheme) -> Scheme:
    """Return a scheme by its name, ``module:Class`` or ``file.py:Class``; a scheme is returned as it is."""
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


def make_bands(scheme: Scheme, group: Group, energies_wh: np.ndarray) -> Bands:
    """Make the bands of a group; without edges, and with the reason, when it earns no stars."""
    reason = scheme.refusal(energies_wh, group) if energies_wh.size else NO_ENERGY
    edges = () if reason else tuple(map(float, scheme(energies_wh, group)))
    key = (scheme.name, scheme.version, group.cohort, group.task, group.model_class)
    return Bands(*key, edges, energies_wh.size, reason)


def count_stars(energies_wh: np.ndarray, edges_wh: np.ndarray) -> np.ndarray:
    """Return STARS minus the number of edges that lie below each energy, ties included.

    Parameters
    ----------
    energies_wh : ndarray, shape (..., models)
        Finite, Wh per 1,000 queries.
    edges_wh : ndarray, shape (..., STARS - 1)
        Ascending edges of each leading row.

    Returns
    -------
    ndarray of int8, shape (..., models)
    """
    stars = np.full(energies_wh.shape, STARS, dtype=np.int8)
    for edge in np.moveaxis(np.asarray(edges_wh), -1, 0):
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
