"""Architectures of published models: their true configurations, one YAML file per family."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from energylab.errors import ModelError, problem_text, unknown_name
from energylab.paths import params_root
from energylab.tasks.base import Plain


class Architecture(Plain):
    """Architecture of one model: a row of ``params/architectures/FAMILY.yaml`` merged with the values of its family.

    A family file has the same fields, and ``models``: one row per model with the values that differ.
    """

    family: str
    model: str  # hub id of the model whose shape this is
    parameters: int = Field(gt=0)  # published number
    model_type: str | None = None  # transformers' name of the configuration; None where the task builds it itself
    tokenizer: str | None = None  # kind of tokenizer, see energylab.tasks.tokenizers
    tasks: tuple[str, ...] = ()  # tasks it is measured in; for planning
    config: dict[str, Any] = {}  # values for the configuration class
    options: dict[str, Any] = {}  # other values that task families read (diffusion components, thinking switch …)
    family_options: dict[str, Any] = {}  # options of the family; they also hold for its models without a row

    def build_config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.for_model(self.model_type, **self.config)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"architecture {self.model!r} (family {self.family}): {error}") from error


def architectures(params: str | Path | None = None, more: Path | None = None) -> dict[str, Architecture]:
    """Return every architecture by model name: those of ``params/``, and of a task's own folder."""
    if more is not None and not more.is_dir():
        raise ModelError(f"architectures: {more} is not a folder; name a folder of FAMILY.yaml files")
    folders = [params_root(params) / "architectures", *([more] if more else [])]
    files = [file for folder in folders for file in sorted(folder.glob("*.yaml"))]
    found: dict[str, Architecture] = {}
    for one in (one for file in files for one in _read(file, file.stat().st_mtime_ns)):
        if one.model in found:
            raise ModelError(f"{one.family}: model {one.model!r} is already in {found[one.model].family}.yaml")
        found[one.model] = one
    return found


def find_architecture(model: str, params: str | Path | None = None, more: Path | None = None) -> Architecture:
    """Return the architecture of `model`, or name the nearest; folders as in `architectures`."""
    known = architectures(params, more)
    if model not in known:
        raise unknown_name("architecture", model, known, hint="a new one is a row in params/architectures/FAMILY.yaml")
    return known[model]


@lru_cache(maxsize=200)
def _read(file: Path, changed_ns: int) -> tuple[Architecture, ...]:
    try:
        shared = dict(yaml.safe_load(file.read_text(encoding="utf-8")))
        rows, options = shared.pop("models"), shared.get("options", {})
        joined = [merged({name: shared.get(name, {}) for name in ("config", "options")}, row) for row in rows]
        return tuple(_architecture(file, {**shared, **row, "family_options": options}) for row in joined)
    except (OSError, yaml.YAMLError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{file}: not a family of architectures: {error!s} (see params/README.md)") from error


def _architecture(file: Path, values: dict[str, Any]) -> Architecture:
    try:
        return Architecture.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"`{one['loc'][0]}` {problem_text(one)}" for one in error.errors())
        model = values.get("model")
        raise ModelError(f"{file}, model {model!r}: {problems}; see the fields in params/README.md") from error


def merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Merge two mappings, and mappings inside them likewise; values of the second override those of the first."""
    both = dict(shared)
    for key, value in own.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if nested else value
    return both
