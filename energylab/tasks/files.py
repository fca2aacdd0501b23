"""Where the YAML file of a task is, and what it says once siblings are included and paths are made whole."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from energylab.errors import TaskError, unknown_name
from energylab.paths import named_file, params_root

ENTRY_POINT_GROUP = "energylab.tasks"
SUFFIXES = (".yaml", ".yml")


def is_path(name: str) -> bool:
    """Tell whether a task is named by its file: ``my_task.yaml``, ``examples/fill_mask/fill_mask.yaml``."""
    return name.endswith(SUFFIXES)


def find_file(name: str, params: str | Path | None = None) -> Path:
    """Return the YAML file of a task.

    Parameters
    ----------
    name : str
        A file name in ``params/tasks/`` without ``.yaml``, an entry point whose YAML lies beside its class, or the
        path of a YAML file, absolute or relative to the working folder or any folder above it.
    params : path, optional
        A folder laid out like ``params/``.

    Raises
    ------
    UnknownNameError
        If there is no such task; names the nearest.
    TaskError
        If there is no such file.
    """
    if is_path(name):
        return named_file(name, "task", TaskError)
    files = task_files(params)
    if name not in files:
        hint = "a new task is one file: params/tasks/NAME.yaml, or any path that ends in .yaml"
        raise unknown_name("task", name, files, hint=hint)
    return files[name]


def task_files(params: str | Path | None = None) -> dict[str, Path]:
    """Return the file of every task that has a name: those in ``params/tasks/``, and those other packages bring."""
    files = {file.stem: file for file in sorted((params_root(params) / "tasks").glob("*.yaml"))}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        file = _beside(point.module, point.name)
        if file is not None:
            files.setdefault(point.name, file)
    return files


def foreign_files(name: str, family: type, params: str | Path | None = None) -> dict[str, str]:
    """Return the sha256 of the YAML file and the class of a task from elsewhere; nothing for a task of this package.

    Parameters
    ----------
    name : str
        As in `find_file`.
    family : type
        The task's class.
    params : path, optional
        A folder laid out like ``params/``.
    """
    if family.__module__.startswith("energylab.") and not is_path(name):
        return {}
    files = (find_file(name, params), Path(inspect.getfile(family)))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def read_values(file: Path, params: str | Path | None = None, including: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read one task file; ``include: SIBLING`` takes the sibling's values, and this file's replace them one by one.

    Paths in the file (``sample``, ``architectures``, a ``family`` in a Python file) are relative to it.

    Raises
    ------
    TaskError
        If it is no mapping, or includes itself.
    UnknownNameError
        If there is no sibling of that name; names the nearest.
    """
    values = _mapping(file)
    values.setdefault("name", file.stem)
    for name in ("sample", "architectures"):
        if values.get(name) is not None:
            values[name] = (file.parent / str(values[name])).resolve()
    if isinstance(values.get("family"), str):
        values["family"] = _whole(values["family"], file.parent)
    sibling = values.pop("include", None)
    if sibling is None:
        return values
    if sibling in including or sibling == file.stem:
        raise TaskError(f"{file}: include goes round: {' -> '.join((*including, file.stem, str(sibling)))}")
    files = {**task_files(params), **{near.stem: near for near in file.parent.glob("*.yaml")}}
    if sibling not in files:
        raise unknown_name(f"task included by {file.name}", sibling, files)
    return {**read_values(files[sibling], params, (*including, file.stem)), **values}


def _mapping(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TaskError(f"{file}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise TaskError(f"{file}: holds {type(values).__name__}, not a mapping of settings")
    return values


def _whole(family: str, folder: Path) -> str:
    """Make the path in ``my_task.py:MyTask`` absolute; other families are left as they are."""
    module, colon, name = family.rpartition(":")
    return f"{(folder / module).resolve()}{colon}{name}" if module.endswith(".py") else family


def _beside(module: str, name: str) -> Path | None:
    """Return the YAML file beside a module, without importing it; None for a family without a task of its own."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / f"{name}.yaml"
    return file if file.is_file() else None
