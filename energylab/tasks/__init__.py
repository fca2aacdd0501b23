"""Tasks: what is asked of a model. A task is a YAML file of settings and the class of its family."""

from __future__ import annotations

import importlib.util
import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from energylab.errors import TaskError, unknown_name
from energylab.parameters import Parameters
from energylab.paths import params_root
from energylab.registry import Registry
from energylab.tasks.base import Task, TaskSettings

__all__ = ["ENTRY_POINT_GROUP", "FAMILIES", "load_settings", "load_task", "task_names"]

ENTRY_POINT_GROUP = "energylab.tasks"

#: Task families of this package, and those other packages register in the entry point group.
FAMILIES = Registry(
    "task family",
    {
        name: f"energylab.tasks.{name}:{target}"
        for name, target in {
            "image_captioning": "ImageCaptioning",
            "image_classification": "ImageClassification",
            "image_generation": "ImageGeneration",
            "object_detection": "ObjectDetection",
            "sentence_similarity": "SentenceSimilarity",
            "speech_recognition": "SpeechRecognition",
            "text_generation": "TextGeneration",
            "reasoning": "Reasoning",
            "summarization": "Summarization",
            "question_answering": "QuestionAnswering",
            "text_classification": "TextClassification",
        }.items()
    },
    group=ENTRY_POINT_GROUP,
)


def task_names(params: str | Path | None = None) -> list[str]:
    """Return the name of every task: files in ``params/tasks/``, and tasks other packages bring with their class."""
    return sorted(_task_files(params))


def load_settings(name: str, params: str | Path | None = None) -> tuple[type[Task], TaskSettings]:
    """Read the settings of one task, and find the class of its family.

    Parameters
    ----------
    name : str
        A file name in ``params/tasks/`` without ``.yaml``, or an entry point whose YAML lies beside its class.
    params : path, optional
        A folder laid out like ``params/``.

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
    files = _task_files(params)
    if name not in files:
        raise unknown_name("task", name, files, hint="a new task is one file: params/tasks/NAME.yaml")
    file = files[name]
    values = _read(file, files)
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
        If the task's file is not what its family expects.
    """
    family, settings = load_settings(parameters.task, parameters.params)
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


def _task_files(params: str | Path | None) -> dict[str, Path]:
    files = {file.stem: file for file in sorted((params_root(params) / "tasks").glob("*.yaml"))}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        file = _beside(point.module, point.name)
        if file is not None:
            files.setdefault(point.name, file)
    return files


def _beside(module: str, name: str) -> Path | None:
    """Return the YAML file beside a module, without importing it; None for a family without a task of its own."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / f"{name}.yaml"
    return file if file.is_file() else None


def _read(file: Path, files: dict[str, Path], including: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read one task file; ``include: SIBLING`` takes the sibling's values, and this file's replace them one by one."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TaskError(f"{file}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise TaskError(f"{file}: holds {type(values).__name__}, not a mapping of settings")
    values.setdefault("name", file.stem)
    if values.get("sample") is not None:
        values["sample"] = (file.parent / str(values["sample"])).resolve()
    sibling = values.pop("include", None)
    if sibling is None:
        return values
    if sibling in including or sibling == file.stem:
        raise TaskError(f"{file}: include goes round: {' -> '.join((*including, file.stem, str(sibling)))}")
    if sibling not in files:
        raise unknown_name(f"task included by {file.name}", sibling, files)
    return {**_read(files[sibling], files, (*including, file.stem)), **values}


def _explain(file: Path, problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "settings"
    given = "" if problem["type"] == "missing" else f" = {problem['input']!r}"
    return f"{file}: {field}{given}: {problem['msg']}"
