"""The settings of a task: what may stand in ``params/tasks/NAME.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Plain(BaseModel):
    """Base of settings: frozen, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetSettings(Plain):
    """The published data set of a task."""

    id: str  # on the hub
    split: str = "train"  # of the data set
    config: str | None = None  # of the data set, where it has several
    revision: str | None = None  # None: the newest
    columns: dict[str, str]  # the task's column name -> the data set's


class Deviation(Plain):
    """Something that is not asked of a model as the published runner asks it; such a record is not official."""

    what: str  # the difference, in one sentence
    why: str  # why it stands
    models: tuple[str, ...] = ()  # model types it concerns; empty: all
    protocols: tuple[str, ...] = ()  # protocols it concerns; empty: all


class TaskSettings(Plain):
    """``params/tasks/NAME.yaml``: the published settings of a task. Families add fields by subclassing."""

    name: str  # the file's, without .yaml
    title: str  # for people
    version: str  # moves with every change of the work
    family: str  # the task's class: module:Class, or file.py:Class beside the YAML file
    dataset: DatasetSettings | None = None  # the published data; None: there is none, and data_source "hub" is refused
    samples: int = Field(ge=1)  # queries of one run
    runs: int = Field(10, ge=1)  # runs of one session
    batch_size: int = Field(1, ge=1)  # queries a batch
    dtype: str = "float32"  # precision; "checkpoint": as stored
    quantisation: str | None = None  # None: as the checkpoint
    attention: str | None = None  # None: the library's choice
    attention_of: dict[str, str] = {}  # model type -> attention the published runner's library used
    compile: bool = False  # torch.compile the model
    model_classes: dict[Literal["A", "B", "C"], float | None] | None = None  # largest parameter count, None: no limit
    sample: Path | None = None  # folder of the sample data; in the file, relative to it
    check_models: tuple[str, ...] = ()  # small architectures on which `energylab task check` tries the task
    architectures: Path | None = None  # folder of architecture families beyond those in params/; relative to the file
    deviations: tuple[Deviation, ...] = ()  # from the published work
    protocols: dict[str, dict[str, Any]] = {}  # protocol name -> settings that differ under it

    @field_validator("model_classes")
    @classmethod
    def _ends_open(cls, value: dict[str, float | None] | None) -> dict[str, float | None] | None:
        if value is not None and (not value or list(value.values())[-1] is not None):
            raise ValueError("the last class must have no limit (null), so that every model has a class")
        return value
