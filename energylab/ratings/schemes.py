"""Rating schemes: from the energies of a group to bands, and from bands to stars."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from energylab.energy import Group
from energylab.errors import DataError, ParameterError, problem_text
from energylab.paths import params_root
from energylab.registry import Registry

#: Number of stars of the lowest band.
STARS = 5
_SHARES = np.arange(1, STARS) / STARS

#: An energy within this relative distance above an edge still belongs to the lower band.
TIE = 1e-9

#: Reason for a group without edges if no model has an energy.
NO_ENERGY = "not rated: no model of its group has an energy"


class Scheme:
    """A function from a group's energies to the edges between its bands; your own scheme need not inherit.

    Attributes
    ----------
    name, version : str
        Name and version in releases; a change of the rule needs a new version.
    relative : bool
        Whether the edges depend on the models' energies: then a common factor on all energies changes no star, and a
        group of few models is thin.
    """

    name: ClassVar[str]
    version: str = "1"
    relative: ClassVar[bool] = True

    def refusal(self, energies_wh: np.ndarray, group: Group) -> str:
        """Return why a group earns no stars (a single model, or equal energies); empty if it earns stars."""
        if energies_wh.size < 2:
            return "not rated: the only model of its group with a usable energy"
        if energies_wh.min() == energies_wh.max():
            return "not rated: all models of its group have the same energy"
        return ""

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the inner edges.

        Parameters
        ----------
        energies_wh : ndarray, shape (..., models)
            Wh per 1,000 queries, finite and positive; each row along the leading dimensions is rated separately.
        group : Group
            Cohort, task and class of the models.

        Returns
        -------
        ndarray, shape (..., STARS - 1)
            Ascending, Wh per 1,000 queries.
        """
        raise NotImplementedError(f"scheme {type(self).__name__} has no __call__; write it to return the edges")


class EqualWidth(Scheme):
    """The published scheme: five bands of equal width between the lowest and the highest energy.

    References
    ----------
    AI Energy Score, https://huggingface.github.io/AIEnergyScore/
    """

    name = "equal_width"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`."""
        low, high = energies_wh.min(axis=-1)[..., None], energies_wh.max(axis=-1)[..., None]
        return low + (high - low) * _SHARES


class LogWidth(EqualWidth):
    """Five bands of equal ratio, so that one model of high energy has less influence on all stars."""

    name = "log_width"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`."""
        ends = np.stack([energies_wh.min(axis=-1), energies_wh.max(axis=-1)], axis=-1)
        return np.exp(super().__call__(np.log(ends), group))


class Quantiles(Scheme):
    """A fifth of the models in every band: "the most efficient 20 %" have five stars."""

    name = "quantiles"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the edges; see `Scheme`. Linear interpolation between order statistics."""
        return np.moveaxis(np.quantile(energies_wh, _SHARES, axis=-1), 0, -1)


def _ascending(edges_wh: tuple[float, ...]) -> tuple[float, ...]:
    if not (edges_wh[0] > 0 and all(np.diff(edges_wh) > 0)):
        raise ValueError(f"edges must be positive and ascending, not {edges_wh}")
    return edges_wh


class FixedBands(BaseModel):
    """The edges of one task and model class, in Wh per 1,000 queries, ascending."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    task: str
    model_class: str | None = None
    edges_wh: Annotated[tuple[float, float, float, float], AfterValidator(_ascending)]


class ReferenceFile(BaseModel):
    """A file of fixed bands with version, source and device."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: str
    source: str
    device: str | None  # the device model the bands hold for; null for any
    bands: tuple[FixedBands, ...]


@dataclass(frozen=True)
class Reference(Scheme):
    """Fixed reference bands: models that join or leave do not change other stars.

    Parameters
    ----------
    path : path, optional
        A file like ``params/ratings/reference-2025-02.yaml``, the default: equal-width edges of the published energies
        of February 2025. Opened at first use.
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
        """The checked content of the file; ParameterError if it is missing or wrong."""
        import yaml

        path = self.path or params_root() / "ratings" / "reference-2025-02.yaml"
        try:
            return ReferenceFile.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise ParameterError(f"cannot read reference bands {path}: {error.strerror}; name another file") from error
        except yaml.YAMLError as error:
            raise ParameterError(f"{path} is not a file of reference bands: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise ParameterError(f"{path} is not a file of reference bands: {where} {problem_text(first)}") from error

    def refusal(self, energies_wh: np.ndarray, group: Group) -> str:
        """Return why a group earns no stars: another device, or a task without bands; empty if it earns stars."""
        if None not in (self.file.device, group.device) and group.device != self.file.device:
            return f"not rated: bands of {self.version} are for {self.file.device}, this cohort ran on {group.device}"
        return "" if self._edges(group) else f"not rated: {self.version} has no bands for {group.title}"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the file's edges for the group, independent of its energies; see `Scheme`."""
        return np.broadcast_to(np.asarray(self._edges(group)), (*energies_wh.shape[:-1], STARS - 1))

    def _edges(self, group: Group) -> tuple[float, ...] | None:
        key = (group.task, group.model_class)
        return next((part.edges_wh for part in self.file.bands if (part.task, part.model_class) == key), None)


_NAMED = {each.name: f"{__name__}:{each.__name__}" for each in (EqualWidth, LogWidth, Quantiles, Reference)}
_REGISTRY = Registry("rating scheme", _NAMED, group="energylab.schemes")


def get_scheme(scheme: str | Scheme) -> Scheme:
    """Return a scheme by its name, ``module:Class`` or ``file.py:Class``; a scheme object is returned unchanged."""
    return _REGISTRY.get(scheme)() if isinstance(scheme, str) else scheme


@dataclass(frozen=True)
class Bands:
    """The bands of one group, as a release stores them.

    Attributes
    ----------
    scheme, version : str
        The scheme.
    cohort, task, model_class
        The group; see `Group`.
    edges_wh : tuple of float
        The four ascending edges between 5|4, 4|3, 3|2 and 2|1 stars, in Wh per 1,000 queries. Empty if the group
        earns no stars.
    reason : str
        Why there are no edges; empty if there are.
    """

    scheme: str
    version: str
    cohort: str
    task: str
    model_class: str | None
    edges_wh: tuple[float, ...]
    reason: str = ""


def make_bands(scheme: Scheme, group: Group, energies_wh: np.ndarray) -> Bands:
    """Make the bands of a group; if it earns no stars, without edges but with the reason."""
    reason = scheme.refusal(energies_wh, group) if energies_wh.size else NO_ENERGY
    edges = () if reason else tuple(map(float, scheme(energies_wh, group)))
    return Bands(scheme.name, scheme.version, group.cohort, group.task, group.model_class, edges, reason)


def count_stars(energies_wh: np.ndarray, edges_wh: np.ndarray) -> np.ndarray:
    """Return STARS minus the number of edges below each energy.

    `energies_wh` is finite, of shape (..., models); `edges_wh` holds the ascending edges for the leading dimensions.
    """
    stars = np.full(energies_wh.shape, STARS, dtype=np.int8)
    for edge in np.moveaxis(np.asarray(edges_wh), -1, 0):
        stars -= energies_wh > (edge * (1 + TIE))[..., None]
    return stars


def stars_for(energy_wh: np.typing.ArrayLike, bands: Bands) -> pd.array:
    """Return the stars that energies (Wh per 1,000 queries, NaN when unavailable) earn within given bands.

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
    if ((energies <= 0) | np.isinf(energies)).any():
        raise DataError(
            "an energy is infinite, zero or negative; use NaN for an unavailable energy (a zero means a failed meter)"
        )
    unknown = np.isnan(energies) | (not bands.edges_wh)
    stars = count_stars(np.where(unknown, 1.0, energies), np.asarray(bands.edges_wh))
    return pd.arrays.IntegerArray(stars.astype(np.int64), unknown)
