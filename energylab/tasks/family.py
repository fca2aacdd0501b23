"""The base of the task families here: where rows and models come from, and when quality means something."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from energylab.errors import TaskError
from energylab.record import DataFacts, DeviceFacts, ModelFacts, Quality
from energylab.tasks import data, models
from energylab.tasks.base import Row, Task
from energylab.tasks.machine import Machine


class ModelTask(Task):
    """A task whose model is loaded in this process. A family fills in the hooks below.

    Attributes
    ----------
    references : tuple of str
        Columns that only the scoring needs; a data set may lack them, and quality is then not stated.
    may_miss : tuple of str
        Parts of a model that a checkpoint may lack because the task does not use them.
    model : object
        The loaded model, after `load_model`.
    processor : object
        Its tokenizer or processor, after `load_model`.
    origin : Origin
        Where its files are, after `load_model`.
    facts : ModelFacts
        What was loaded, after `load_model`.
    """

    references: ClassVar[tuple[str, ...]] = ()
    may_miss: ClassVar[tuple[str, ...]] = ()

    model: Any = None
    processor: Any = None
    origin: models.Origin | None = None
    facts: ModelFacts | None = None

    # ---- hooks of a family

    @abstractmethod
    def auto_class(self, config: Any) -> str:
        """Return the name of the transformers Auto class that serves this task for a configuration."""

    @abstractmethod
    def load_processor(self, loaded: models.Loaded) -> Any:
        """Return the tokenizer or processor that belongs to the loaded model."""

    @abstractmethod
    def synthesise(self, count: int, seed: int) -> list[Row]:
        """Make up `count` rows with the published distribution of lengths or sizes."""

    @abstractmethod
    def check_row(self, row: Row) -> str | None:
        """Return what makes a row unusable (an empty text, a corrupt image), or None."""

    def open_row(self, row: Row, folder: Path) -> Row:
        """Replace file names in a row of the sample data by what the files hold; nothing to do for text."""
        return row

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Finish loading: settings that follow from the model. Returns what the record should say of them."""
        return {}

    # ---- what every family shares

    def resolved_settings(self) -> dict[str, Any]:
        """Return every setting that takes part, as used."""
        parameters, settings = self.parameters, self.settings
        return {
            **super().resolved_settings(),
            "quantisation": parameters.quantisation or settings.quantisation,
            "attention": parameters.attention or settings.attention,
            "compile": parameters.compile or settings.compile,
        }

    def load_rows(self) -> tuple[list[Row], DataFacts]:
        """Load the queries; see `energylab.tasks.data.load_rows`."""
        required = [column for column in self.columns if column not in self.references]
        return data.load_rows(self.settings, self.parameters, required, self.synthesise, self.check_row, self.open_row)

    def check(self, device: str, facts: Sequence[DeviceFacts]) -> int:
        """Find the model and refuse what cannot be done with it; see `energylab.tasks.models.prepare`."""
        request = models.ModelRequest.of(self.parameters, self.settings, device)
        return self.refuse(request, Machine.described(request.device, facts))

    def refuse(self, request: models.ModelRequest, machine: Machine) -> int:
        """Refuse a model before it is loaded, else count it; a family without a transformers model replaces this."""
        return models.prepare(request, self.auto_class, machine).count

    def load_model(self, device: str) -> ModelFacts:
        """Load the model and its processor; see `energylab.tasks.models.load_model`."""
        request = models.ModelRequest.of(self.parameters, self.settings, device)
        return self._hold(request, self.build(request))

    def build(self, request: models.ModelRequest) -> models.Loaded:
        """Load the model; a family whose model is no transformers model replaces this."""
        return models.load_model(request, self.auto_class, self.may_miss)

    def _hold(self, request: models.ModelRequest, loaded: models.Loaded) -> ModelFacts:
        self.device = request.device
        self.model, self.origin = loaded.model, loaded.origin
        self.processor = self.load_processor(loaded)
        settings = {**loaded.facts.settings, **self.ready(loaded)}
        self.facts = loaded.facts.model_copy(update={"settings": settings})
        return self.facts

    def right_answers(self, rows: Sequence[Row]) -> list[Any] | None:
        """Return the reference column where there is one; a family whose answers have another form replaces this."""
        return [row[self.references[0]] for row in rows] if len(self.references) == 1 else None

    def no_quality(self, metric: str, rows: Sequence[Row]) -> Quality | None:
        """Say why quality would be meaningless here; None when it can be scored.

        Parameters
        ----------
        metric : str
            Name of the metric that is asked for.
        rows : sequence of dict
            The rows with their references.
        """
        absent = [column for column in self.references if any(row.get(column) is None for row in rows)]
        if self.facts is None:
            raise TaskError("quality is scored after load_model")
        if not self.facts.real_weights:
            why = "the model has random weights"
        elif self.parameters.data_source == "synthetic":
            why = "synthetic queries have no right answers"
        elif absent:
            why = f"the data has no reference column {', '.join(absent)}"
        else:
            return None
        return Quality(metric=metric, value=None, queries=len(rows), meaningless=why)
