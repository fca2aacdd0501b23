"""Tasks: what is asked of a model. A task is a YAML file of settings that names a class, which does the work.

To add one, write ``params/tasks/NAME.yaml``, or a YAML file anywhere with a class beside it (``family: my.py:MyTask``).
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from energylab.errors import TaskError, problem_text, unknown_name
from energylab.parameters import Parameters
from energylab.paths import named_file, params_root
from energylab.registry import import_object
from energylab.tasks.base import Task, TaskSettings

#: Installed packages add a task by an entry point of this group; ``NAME.yaml`` is in the folder of the module it names.
ENTRY_POINT_GROUP = "energylab.tasks"

#: Parameters that only some tasks use, with these tasks: those with a setting of this name, or with it in ``takes``.
OF_SOME_TASKS = {
    "new_tokens": "tasks that generate text",
    "cache": "task='text_generation' and 'reasoning'",
    "diffusion_steps": "task='image_generation'",
    "thinking": "task='reasoning'",
    "quality_model": "task='image_generation'",
}


def load_task(parameters: Parameters) -> Task:
    """Create the task that `parameters` name, without loading model or data or using a device.

    Raises
    ------
    UnknownNameError
        If there is no such task; names the nearest.
    TaskError
        If the task's file is not what its class expects, or a given parameter is not used by the task.
    """
    family, settings = load_settings(parameters.task, parameters.params, parameters.protocol)
    for name in unused(parameters, family):
        raise TaskError(
            f"{name}={getattr(parameters, name)!r} is not used by task {parameters.task!r}, only by "
            f"{OF_SOME_TASKS[name]}; leave it out"
        )
    task = family(settings, parameters)
    if parameters.model_source != "endpoint":
        return task
    from energylab.tasks.served import ServedTask

    return ServedTask(task, parameters)


def unused(parameters: Parameters, family: type[Task]) -> list[str]:
    """Return the given parameters that a family neither has as a setting nor lists in ``takes``."""
    known = {*family.Settings.model_fields, *family.takes}
    return [name for name in OF_SOME_TASKS if getattr(parameters, name) is not None and name not in known]


def load_settings(
    name: str, params: str | Path | None = None, protocol: str = "steady"
) -> tuple[type[Task], TaskSettings]:
    """Read the settings of one task, and import its class."""
    file = find_file(name, params)
    values = _read(file, params)
    values |= (values.get("protocols") or {}).get(protocol, {})
    named = str(values.get("family", ""))
    if ":" not in named:
        raise TaskError(
            f"{file}: family={named!r} names no class; write module:Class, or FILE.py:Class for a file in this folder"
        )
    family = import_object(named, f"{file}: family")
    if not (inspect.isclass(family) and issubclass(family, Task)):
        raise TaskError(f"{file}: family {named!r} is {family!r}; it must be a subclass of energylab.tasks.base.Task")
    try:
        return family, family.Settings.model_validate(values)
    except ValidationError as error:
        raise TaskError("\n".join(_explain(file, problem) for problem in error.errors())) from None


def task_names(params: str | Path | None = None) -> list[str]:
    """Return the name of every task: files in ``params/tasks/``, and tasks of other packages."""
    return sorted(_files(params))


def is_path(name: str) -> bool:
    """Whether a task is given as a file: ``my_task.yaml``, ``examples/fill_mask/fill_mask.yaml``."""
    return name.endswith((".yaml", ".yml"))


def find_file(name: str, params: str | Path | None = None) -> Path:
    """Return the YAML file of a task; a path is absolute, or relative to the working folder or any above it."""
    if is_path(name):
        return named_file(name, "task", TaskError)
    files = _files(params)
    if name not in files:
        hint = "to add a task, write params/tasks/NAME.yaml, or give the path of a .yaml file"
        raise unknown_name("task", name, files, hint=hint)
    return files[name]


def foreign_files(name: str, family: type, params: str | Path | None = None) -> dict[str, str]:
    """Return the sha256 of the YAML file and the class of a task that is not part of this package; else nothing."""
    if family.__module__.startswith("energylab.") and not is_path(name):
        return {}
    files = (find_file(name, params), Path(inspect.getfile(family)))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _files(params: str | Path | None) -> dict[str, Path]:
    files = {file.stem: file for file in sorted((params_root(params) / "tasks").glob("*.yaml"))}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        spec = importlib.util.find_spec(point.module)
        file = Path(spec.origin).parent / f"{point.name}.yaml" if spec is not None and spec.origin else None
        if file is not None and file.is_file():
            files.setdefault(point.name, file)
    return files


def _read(file: Path, params: str | Path | None, including: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read one task file; ``include: OTHER`` takes the values of another task, which this file overrides one by one.

    Paths in the file (``sample``, ``architectures``, a ``family`` in a Python file) are relative to it.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TaskError(f"{file}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise TaskError(f"{file}: holds {type(values).__name__}; write a mapping of settings (see params/tasks)")
    values.setdefault("name", file.stem)
    for name in ("sample", "architectures"):
        if values.get(name) is not None:
            values[name] = (file.parent / str(values[name])).resolve()
    module, colon, kind = str(values.get("family", "")).rpartition(":")
    if module.endswith(".py"):
        values["family"] = f"{(file.parent / module).resolve()}{colon}{kind}"
    sibling = values.pop("include", None)
    if sibling is None:
        return values
    if sibling in (*including, file.stem):
        raise TaskError(f"{file}: include is circular: {' -> '.join((*including, file.stem, str(sibling)))}")
    files = {**_files(params), **{near.stem: near for near in file.parent.glob("*.yaml")}}
    if sibling not in files:
        raise unknown_name(f"task included by {file.name}", sibling, files)
    return {**_read(files[sibling], params, (*including, file.stem)), **values}


def _explain(file: Path, problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "settings"
    given = "" if problem["type"] == "missing" else f" = {problem['input']!r}"
    return f"{file}: {field}{given}: {problem_text(problem)}"
