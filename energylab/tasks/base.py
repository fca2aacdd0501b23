"""What every task is: settings as data, and a small class that says how to load, ask and score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from energylab.errors import TaskError
from energylab.parameters import Parameters
from energylab.record import DataFacts, DeviceFacts, ModelFacts, Quality

Row = dict[str, Any]  # one row of a data set: the task's columns


class DatasetSettings(BaseModel):
    """The published data set of a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str  # on the hub
    split: str = "train"  # of the data set
    config: str | None = None  # of the data set, where it has several
    revision: str | None = None  # None: the newest
    columns: dict[str, str]  # the task's column name -> the data set's


class TaskSettings(BaseModel):
    """``params/tasks/NAME.yaml``: the published settings of a task. Families add fields by subclassing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # the file's, without .yaml
    title: str  # for people
    version: str  # moves with every change of a published setting
    family: str  # the class: module:Class, or FILE.py:Class beside the YAML file
    dataset: DatasetSettings | None = None  # the published data; None: there is none, and data_source "hub" is refused
    samples: int = Field(ge=1)  # queries of one run
    runs: int = Field(10, ge=1)  # runs of one session
    batch_size: int = Field(1, ge=1)  # queries a batch
    dtype: str = "float32"  # precision
    quantisation: str | None = None  # None: as the checkpoint
    attention: str | None = None  # None: the library's choice
    compile: bool = False  # torch.compile the model
    cache: Literal["static"] | None = None  # of keys and values, where a task decodes
    model_classes: dict[Literal["A", "B", "C"], float | None] | None = None  # largest parameter count, None: no limit
    sample: Path | None = None  # folder of the sample data; in the file, relative to it
    check_models: tuple[str, ...] = ()  # small architectures on which `energylab task check` tries the task
    architectures: Path | None = None  # folder of architecture families beyond those in params/; relative to the file

    @field_validator("model_classes")
    @classmethod
    def _ends_open(cls, value: dict[str, float | None] | None) -> dict[str, float | None] | None:
        if value is not None and (not value or list(value.values())[-1] is not None):
            raise ValueError("the last class must have no limit (null), so that every model has a class")
        return value


@dataclass(frozen=True)
class Tokens:
    """Tokens of one batch, read from shapes after the window; None where a task has none."""

    input: int | None = None
    output: int | None = None


class Task(ABC):
    """One task, ready to be loaded. Creating one touches no disk, no device and no network.

    The protocol calls, in this order: `load_rows`, `load_model`, then for every window and outside it
    ``inputs = preprocess(rows)``, and inside it the method named like the phase: ``preprocess(rows)``,
    ``forward(inputs)``, ``prefill(inputs)``, ``generate(inputs)`` or ``call(inputs)``. Nothing else runs inside a
    window, so these methods do the model's work alone. Counting and scoring come after the windows.

    Attributes
    ----------
    phases : tuple of str
        The phases this family measures, in order.
    Settings : type
        The settings class of the family.
    columns : tuple of str
        Columns every row has; references come last.
    may_cache : bool
        Whether the parameter ``cache`` means something to this family.
    """

    phases: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]
    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    may_cache: ClassVar[bool] = False

    def __init__(self, settings: TaskSettings, parameters: Parameters) -> None:
        self.settings = settings
        self.parameters = parameters
        self.device: str | None = None

    @property
    def batch_size(self) -> int:
        """Queries a batch: the parameter, or the task's published value."""
        return self.parameters.batch_size or self.settings.batch_size

    @property
    def dtype(self) -> str:
        """Precision: the parameter, or the task's published value."""
        return self.parameters.dtype or self.settings.dtype

    def resolved_settings(self) -> dict[str, Any]:
        """Return every setting that takes part, as used (families add theirs)."""
        return {"samples": self.parameters.samples, "batch_size": self.batch_size, "dtype": self.dtype}

    def overridden(self) -> tuple[str, ...]:
        """Return the names of resolved settings that differ from the published ones."""
        published = self.settings.model_dump()
        used = {**self.resolved_settings(), "runs": self.parameters.runs}
        return tuple(sorted(name for name, value in used.items() if name in published and published[name] != value))

    @abstractmethod
    def load_rows(self) -> tuple[list[Row], DataFacts]:
        """Load the queries from the parameter's data source.

        Raises
        ------
        DataError
            If a column is missing, a row is unusable, or there are fewer rows than ``samples``.
        """

    def check(self, device: str, facts: Sequence[DeviceFacts]) -> int | None:  # noqa: B027 - not every task has a model
        """Refuse by name, before anything is loaded or any device is touched, what cannot be done.

        Parameters
        ----------
        device : str
            The first device in torch's words: ``cpu``, ``cuda:0``.
        facts : sequence of DeviceFacts
            The devices the model is to run on.

        Returns
        -------
        int or None
            Number of the model's parameters; None where the task has no model to look at.

        Raises
        ------
        ModelError
            Names every option the devices lack, or says why the model does not fit.
        """

    @abstractmethod
    def load_model(self, device: str) -> ModelFacts:
        """Load the model onto `device` from the parameter's model source.

        Raises
        ------
        ModelError
            If it is missing, gated, of another task, or does not fit the device.
        """

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Return what is known of every query beforehand, by name: one value a row.

        Called after `load_model`, since a count of tokens needs the model's tokenizer.
        """
        return {}

    def rehearse(self, rows: Sequence[Row]) -> None:  # noqa: B027 - most tasks have nothing that depends on the longest row
        """Bring about, outside every window, what depends on the queries: memory, compiled code. After `load_model`."""

    @abstractmethod
    def preprocess(self, rows: Sequence[Row]) -> Any:
        """Turn rows into model inputs, on the CPU: the ``preprocess`` phase."""

    def count(self, phase: str, inputs: Any, outputs: Any) -> Tokens:
        """Count the tokens of one batch after its window; checks that exactly the stated number was generated.

        `inputs` are the model's inputs, for the phase ``preprocess`` too: those it made.

        Raises
        ------
        TaskError
            If the model generated another number of tokens than stated.
        """
        return Tokens()

    def keep(self, phase: str, outputs: Any) -> Any:
        """Return what of a batch's outputs is kept until its window ends, for `count` and `answers`: ids, a label.

        Called inside the window, so it waits for no device. All else is dropped at once. Only ``prefill``, ``generate``
        and the last phase of the first run keep anything; elsewhere `count` gets None.
        """
        return outputs

    def marks(self, phase: str, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return the marks of a window over these rows, after it: of `energylab.protocol.validity.MARKS`."""
        return ()

    # ---- what the published protocols ask for beside the phases

    def load_processor_alone(self, device: str) -> None:
        """Load what `preprocess` needs without the model: published protocols preprocess first."""
        raise TaskError(f"{type(self).__name__} cannot preprocess before its model is loaded; use protocol=steady")

    def preprocess_set(self, rows: Sequence[Row]) -> Any:
        """Preprocess the whole set by a filter and one batched map; returns the set `fetch` takes queries from."""
        return [self.preprocess([row]) for row in rows]

    def fetch(self, prepared: Any, queries: tuple[int, ...]) -> Any:
        """Return stored queries as the model's inputs: inside the window, before the phase is called with them."""
        return prepared[queries[0]]

    def short_call(self, phase: str) -> Callable[[Any], Any]:
        """Return the warm-up's short call: two tokens, two denoising steps; else the phase itself."""
        return getattr(self, phase)

    @abstractmethod
    def answers(self, inputs: Any, outputs: Any) -> list[Any]:
        """Turn the outputs of the last phase into one plain answer a query, outside the windows."""

    @abstractmethod
    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Score all answers against the rows' references."""

    def right_answers(self, rows: Sequence[Row]) -> list[Any] | None:
        """Return what `answers` would give for a model that is always right; None where nobody knows.

        `energylab task check` scores them, to see that `score` tells right from wrong.
        """
        return None

    def extra(self, answers: Sequence[Any]) -> dict[str, Any]:
        """Return what the record should hold of the answers beside their quality, by name."""
        return {}

    def synchronize(self) -> None:
        """Wait until the model's devices have finished: called at the edges of every window.

        They alone: to ask another one would start a context there, and be a stranger to whoever measures on it.
        """
        if not (self.device and self.device.startswith("cuda")):
            return
        import torch

        first = int(self.device.partition(":")[2] or 0)
        for index in range(first, first + self.parameters.gpus):
            torch.cuda.synchronize(index)
