"""Real architectures as data: the true configuration of published models, one YAML file a family."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from energylab.errors import ModelError, unknown_name
from energylab.paths import params_root


class Row(BaseModel):
    """One model of a family: the values in which it differs from its relatives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    parameters: int = Field(gt=0)
    tasks: tuple[str, ...] = ()  # tasks it is measured in; for planning
    config: dict[str, Any] = {}
    options: dict[str, Any] = {}  # what a task family reads beside the configuration


class Family(BaseModel):
    """``params/architectures/FAMILY.yaml``: what the models of a family share, and its models as rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    model_type: str | None = None  # transformers' name of the configuration; None where the task builds it itself
    tokenizer: str | None = None  # kind of tokenizer, see energylab.tasks.tokenizers
    config: dict[str, Any] = {}  # values every row shares
    options: dict[str, Any] = {}
    models: tuple[Row, ...]


class Architecture(BaseModel):
    """One model's architecture, ready to be built: family values and row values joined.

    Attributes
    ----------
    model : str
        Hub id of the model whose shape this is.
    parameters : int
        Published number of parameters.
    config : dict
        Values for the configuration class of `model_type`.
    options : dict
        What task families read beside it (pooling, diffusion components, thinking switch …).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    model: str
    model_type: str | None
    tokenizer: str | None
    parameters: int
    tasks: tuple[str, ...]
    config: dict[str, Any]
    options: dict[str, Any]
    family_options: dict[str, Any]  # those shared by the family: they hold for its models without a row, too

    def build_config(self) -> Any:
        """Return the transformers configuration object.

        Raises
        ------
        ModelError
            If the library does not know the type or refuses a value.
        """
        from transformers import AutoConfig

        try:
            return AutoConfig.for_model(self.model_type, **self.config)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"architecture {self.model!r} (family {self.family}): {error}") from error


def architectures(params: str | Path | None = None, more: Path | None = None) -> dict[str, Architecture]:
    """Return every architecture by model name.

    Parameters
    ----------
    params : path, optional
        A folder laid out like ``params/``.
    more : pathlib.Path, optional
        A further folder of families: that of a task from elsewhere.

    Raises
    ------
    ModelError
        If a file is not a family, or two rows have one name.
    """
    folders = [params_root(params) / "architectures"]
    if more is not None:
        if not more.is_dir():
            raise ModelError(f"architectures: {more} is not a folder; name one that holds FAMILY.yaml files")
        folders.append(more)
    files = [file for folder in folders for file in sorted(folder.glob("*.yaml"))]
    stamps = tuple((str(file), file.stat().st_mtime_ns) for file in files)
    return dict(_all(stamps))


def find_architecture(model: str, params: str | Path | None = None, more: Path | None = None) -> Architecture:
    """Return the architecture of `model`; folders as in `architectures`.

    Raises
    ------
    UnknownNameError
        If no family has such a row; names the nearest.
    """
    known = architectures(params, more)
    if model not in known:
        raise unknown_name("architecture", model, known, hint="a new one is a row in params/architectures/FAMILY.yaml")
    return known[model]


@lru_cache(maxsize=8)
def _all(stamps: tuple[tuple[str, int], ...]) -> dict[str, Architecture]:
    found: dict[str, Architecture] = {}
    for file, _ in stamps:
        for architecture in _read(Path(file)):
            if architecture.model in found:
                raise ModelError(
                    f"{file}: model {architecture.model!r} is already in {found[architecture.model].family}.yaml"
                )
            found[architecture.model] = architecture
    return found


def _read(file: Path) -> list[Architecture]:
    try:
        family = Family.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ModelError(f"{file}: not a family of architectures: {error}") from error
    return [
        Architecture(
            family=family.family,
            model=row.model,
            model_type=family.model_type,
            tokenizer=family.tokenizer,
            parameters=row.parameters,
            tasks=row.tasks,
            config=merged(family.config, row.config),
            options=merged(family.options, row.options),
            family_options=family.options,
        )
        for row in family.models
    ]


def merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Join two mappings, the second winning, and mappings inside them likewise (a vision part, a text part)."""
    both = dict(shared)
    for key, value in own.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if nested else value
    return both
