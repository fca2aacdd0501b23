"""Fixed bands from a versioned file: a star then means the same next year."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from energylab.errors import ParameterError
from energylab.paths import params_root
from energylab.ratings.cohorts import Group
from energylab.ratings.schemes import STARS, Bands

DEFAULT_FILE = "reference-2025-02.yaml"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BandsOf(_Part):
    """The edges of one task and model class, in Wh per 1,000 queries, ascending."""

    task: str
    model_class: str | None = None
    edges_wh: tuple[float, float, float, float]

    @model_validator(mode="after")
    def _ascending(self) -> BandsOf:
        if not (self.edges_wh[0] > 0 and all(np.diff(self.edges_wh) > 0)):
            raise ValueError(f"edges_wh of {self.task} must be positive and ascend, not {self.edges_wh}")
        return self


class ReferenceFile(_Part):
    """A file of fixed bands: what it holds for, where it comes from, and the edges."""

    version: str
    source: str
    device: str | None  # the device model the bands hold for; null for any
    bands: tuple[BandsOf, ...]

    def find(self, group: Group) -> BandsOf | None:
        """Return the bands of a group's task and class, or None."""
        same = (part for part in self.bands if (part.task, part.model_class) == (group.task, group.model_class))
        return next(same, None)


@dataclass(frozen=True)
class Reference:
    """Fixed reference bands: models that join or leave move nobody's star.

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
        """The checked content of the file.

        Raises
        ------
        ParameterError
            If it is missing or not a file of reference bands.
        """
        path = Path(self.path) if self.path is not None else params_root() / "ratings" / DEFAULT_FILE
        return read_reference(path)

    def refusal(self, energies_wh: np.ndarray, group: Group) -> str:
        """Say why a group earns no stars: another device, or a task the file does not know."""
        device = self.file.device
        if device is not None and group.device is not None and group.device != device:
            return f"not rated: bands of {self.version} hold for {device}, this cohort ran on {group.device}"
        return "" if self.file.find(group) else f"not rated: {self.version} has no bands for {group.title}"

    def __call__(self, energies_wh: np.ndarray, group: Group) -> np.ndarray:
        """Return the file's edges for the group, whatever its energies; see `schemes.Scheme`."""
        found = self.file.find(group)
        if found is None:
            raise ParameterError(f"{self.version} has no bands for {group.title}; ask `refusal` first")
        return np.broadcast_to(np.asarray(found.edges_wh), (*energies_wh.shape[:-1], STARS - 1))


def read_reference(path: str | os.PathLike) -> ReferenceFile:
    """Read and check a file of reference bands.

    Raises
    ------
    ParameterError
        If it is missing or not a file of reference bands; names the first fault.
    """
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
    for part in bands:
        if part.edges_wh:
            entry = {
                "task": part.task,
                "model_class": part.model_class,
                "edges_wh": [_round(edge) for edge in part.edges_wh],
            }
            content["bands"].append({key: value for key, value in entry.items() if value is not None})
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _round(edge_wh: float) -> float:
    """Drop the digits that are rounding of binary fractions, far below a tie's tolerance."""
    return float(f"{edge_wh:.12g}")
