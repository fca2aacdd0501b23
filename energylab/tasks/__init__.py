"""Tasks: what is asked of a model. A task is a YAML file of settings and the class of its family."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from energylab.errors import TaskError
from energylab.parameters import Parameters
from energylab.registry import Registry
from energylab.tasks.base import Task, TaskSettings
from energylab.tasks.files import ENTRY_POINT_GROUP, find_file, foreign_files, read_values, task_files

__all__ = [
    "ENTRY_POINT_GROUP",
    "FAMILIES",
    "find_file",
    "foreign_files",
    "load_settings",
    "load_task",
    "task_names",
]

#: Classes of tasks by short name: those that other packages register. A task's file names its class itself.
FAMILIES = Registry("task family", {}, group=ENTRY_POINT_GROUP)

#: Parameters that only some tasks have a use for, and which; elsewhere they would be left out in silence.
OF_SOME_TASKS = {
    "new_tokens": "tasks that generate text",
    "diffusion_steps": "task='image_generation'",
    "thinking": "task='reasoning'",
    "quality_model": "task='image_generation'",
}


def task_names(params: str | Path | None = None) -> list[str]:
    """Return the name of every task: files in ``params/tasks/``, and tasks other packages bring with their class."""
    return sorted(task_files(params))


def load_settings(
    name: str, params: str | Path | None = None, protocol: str = "steady"
) -> tuple[type[Task], TaskSettings]:
    """Read the settings of one task, and find the class of its family.

    Parameters
    ----------
    name : str
        A file name in ``params/tasks/`` without ``.yaml``, an entry point whose YAML lies beside its class, or the
        path of a YAML file.
    params : path, optional
        A folder laid out like ``params/``.
    protocol : str
        The measuring protocol, under which some published settings differ.

    Returns
    -------
    (type, TaskSettings)
        The family's class, not yet created, and its settings.

    Raises
    ------
    UnknownNameError
        If there is no such task; names the nearest.
    TaskError
        If the file is not what the family expects; names every field that is wrong.
    """
    file = find_file(name, params)
    values = read_values(file, params)
    values |= (values.get("protocols") or {}).get(protocol, {})
    family = FAMILIES.get(str(values.get("family", "")))
    if not (inspect.isclass(family) and issubclass(family, Task)):
        raise TaskError(f"{file}: family {values['family']!r} is {family!r}, which is not a subclass of Task")
    try:
        return family, family.Settings.model_validate(values)
    except ValidationError as error:
        raise TaskError("\n".join(_explain(file, problem) for problem in error.errors())) from None


def load_task(parameters: Parameters) -> Task:
    """Create the task that `parameters` name. Touches no model, no data and no device.

    Parameters
    ----------
    parameters : Parameters
        Checked parameters of a session.

    Returns
    -------
    Task
        Ready to load its rows and its model.

    Raises
    ------
    UnknownNameError
        If there is no such task; names the nearest.
    TaskError
        If the task's file is not what its family expects, or the task has no use for a parameter that is given.
    """
    family, settings = load_settings(parameters.task, parameters.params, getattr(parameters, "protocol", "steady"))
    for name in useless(parameters, family):
        raise TaskError(
            f"{name}={getattr(parameters, name)!r} is for {OF_SOME_TASKS[name]}; task {parameters.task!r} has no use "
            "for it: leave it out"
        )
    if parameters.cache is not None and not family.may_cache:
        raise TaskError(
            f"cache={parameters.cache!r}: task {parameters.task!r} keeps no keys and values of fixed size; leave it "
            "out, or choose text_generation or reasoning"
        )
    task = family(settings, parameters)
    if parameters.model_source != "endpoint":
        return task
    from energylab.tasks.served import ServedTask

    return ServedTask(task, parameters)


def useless(parameters: Parameters, family: type[Task]) -> list[str]:
    """Return the parameters that are given, and that a family neither has as a setting nor names as its own."""
    known = {*family.Settings.model_fields, *dir(family)}
    return [name for name in OF_SOME_TASKS if getattr(parameters, name) is not None and name not in known]


def _explain(file: Path, problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "settings"
    given = "" if problem["type"] == "missing" else f" = {problem['input']!r}"
    return f"{file}: {field}{given}: {problem['msg']}"
