"""The base class of tasks: a task loads a model, prepares queries, runs phases and scores answers.

A protocol calls `load_rows`, `check`, `load`; then outside the windows ``inputs = prepare(rows)`` and inside them
``run(phase, inputs)``. Published protocols use `open`, `prepare_all` and `fetch` instead of `prepare`. Only the model's
work runs inside a window, and `run` returns only what counting and scoring need.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from energylab.errors import TaskError
from energylab.parameters import Parameters
from energylab.record import DataFacts, DeviceFacts, ModelFacts, Quality

Row = dict[str, Any]  # one row of a data set: the task's columns

SHORT_CALLS = 10  # warm-up calls of the published runner after one full call


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
    """A difference from the work of the published runner; a record with one is not official."""

    what: str  # the difference, in one sentence
    why: str  # its reason
    models: tuple[str, ...] = ()  # model types it concerns; empty: all
    protocols: tuple[str, ...] = ()  # protocols it concerns; empty: all


class TaskSettings(Plain):
    """``params/tasks/NAME.yaml``: the published settings of a task. Families add fields by subclassing."""

    name: str  # file name without .yaml
    title: str  # heading in the documentation
    version: str  # increased with every change of the work
    family: str  # the task's class: module:Class, or file.py:Class in the folder of the YAML file
    dataset: DatasetSettings | None = None  # the published data; None: there is none, and data_source "hub" is refused
    samples: int = Field(ge=1)  # queries of one run
    runs: int = Field(10, ge=1)  # runs of one session
    batch_size: int = Field(1, ge=1)  # queries per batch
    dtype: str = "float32"  # precision; "checkpoint": as stored
    quantisation: str | None = None  # None: as in the checkpoint
    attention: str | None = None  # None: the library's choice
    attention_of: dict[str, str] = {}  # model type -> attention implementation in the published runner's library
    compile: bool = False  # torch.compile the model
    model_classes: dict[Literal["A", "B", "C"], float | None] | None = None  # largest parameter count, None: no limit
    sample: Path | None = None  # folder of the sample data, relative to the YAML file
    check_models: tuple[str, ...] = ()  # small architectures for `energylab task check`
    architectures: Path | None = None  # folder of more architecture families, relative to the YAML file
    deviations: tuple[Deviation, ...] = ()  # from the published work
    protocols: dict[str, dict[str, Any]] = {}  # protocol name -> settings that differ under it

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
    """One task, ready to be loaded. Creating one uses no disk, device or network.

    Attributes
    ----------
    phases : tuple of str
        Measured phases in order; final after `open`, since some depend on the kind of model.
    columns, references : tuple of str
        Columns of a row; references are those used only by scoring, which a data set may lack.
    takes : tuple of str
        Parameters of `energylab.tasks.OF_SOME_TASKS` that the family uses without a field in its settings.
    optional_parts : tuple of str
        Parts of a model that the task does not use, so that a checkpoint may lack them.
    model, processor, config, origin, facts
        The loaded parts, set by `load`; processor, config and origin already by `open`.
    """

    phases: ClassVar[tuple[str, ...]] = ("preprocess", "forward")
    columns: ClassVar[tuple[str, ...]]
    references: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[tuple[str, ...]] = ()
    optional_parts: ClassVar[tuple[str, ...]] = ()
    Settings: ClassVar[type[TaskSettings]] = TaskSettings

    model: Any = None
    processor: Any = None
    config: Any = None
    origin: Any = None
    facts: ModelFacts | None = None
    device: str | None = None
    scored: bool = False  # whether every row has its references, after `load_rows`
    _prepared: Any = None

    def __init__(self, settings: TaskSettings, parameters: Parameters) -> None:
        self.settings = settings
        self.parameters = parameters

    # ---- hooks of a family

    def auto_class(self, config: Any) -> str:
        """Return the name of the transformers Auto class that serves this task for a configuration."""
        raise TaskError(f"{type(self).__name__} has no auto_class(config); write it to name the model class")

    def read_processor(self) -> Any:
        """Return the tokenizer or processor that belongs to the model."""
        raise TaskError(f"{type(self).__name__} has no read_processor(); write it to read the tokenizer or processor")

    def fit(self) -> dict[str, Any]:
        """Set phases and longest input from configuration and processor. Returns facts for the record."""
        return {}

    def ready(self) -> dict[str, Any]:
        """Finish loading, after the model was loaded. Returns facts for the record."""
        return {}

    def open_row(self, row: Row, folder: Path) -> Row:
        """Replace file names in a row of the sample data by the content of the files."""
        return row

    @abstractmethod
    def check_row(self, row: Row) -> str | None:
        """Return why a row is unusable (no text, a corrupt picture), or None."""

    @abstractmethod
    def synthesise(self, count: int, seed: int) -> list[Row]:
        """Generate `count` rows with the published distribution of lengths or sizes."""

    @abstractmethod
    def prepare(self, rows: Sequence[Row]) -> Any:
        """Turn rows into model inputs, on the CPU: the phase ``preprocess``."""

    def features(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        """Return every model input by name, one unpadded value per row; used only by published protocols."""
        raise TaskError(f"{type(self).__name__} has no features(rows); write it, or use protocol='steady'")

    def keep(self, outputs: Any) -> Any:
        """Return the part of a forward pass's outputs that scoring needs; the rest is freed."""
        return outputs.logits

    @abstractmethod
    def answers(self, inputs: Any, outputs: Any) -> list[Any]:
        """Turn the outputs of the last phase into one answer per query, outside the windows."""

    @abstractmethod
    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Score all answers against the rows' references."""

    # ---- settings

    @property
    def batch_size(self) -> int:
        return self.parameters.batch_size or self.settings.batch_size

    @property
    def new_tokens(self) -> int | None:
        """Tokens to generate per query: the parameter, or the task's published value; None if it generates none."""
        return self.parameters.new_tokens or getattr(self.settings, "new_tokens", None)

    def given(self, *names: str) -> dict[str, Any]:
        """Return parameters by name; the task's published value replaces a parameter that is not given."""
        return {name: getattr(self.parameters, name) or getattr(self.settings, name) for name in names}

    def resolved_settings(self) -> dict[str, Any]:
        """Return the value of every setting that affects the work."""
        used = self.given("batch_size", "dtype", "quantisation", "attention", "compile")
        tokens = {} if self.new_tokens is None else {"new_tokens": self.new_tokens}
        return {"samples": self.parameters.samples, **used, **tokens}

    def overridden(self) -> tuple[str, ...]:
        """Return the names of settings that differ from the published ones."""
        published = self.settings.model_dump()
        used = {**self.resolved_settings(), "runs": self.parameters.runs}
        return tuple(sorted(name for name, value in used.items() if name in published and published[name] != value))

    def deviations(self) -> tuple[str, ...]:
        """Return how the loaded model's work deviates from the published work under this protocol."""
        kind = getattr(self.config, "model_type", None)
        return tuple(
            one.what
            for one in self.settings.deviations
            if (not one.models or kind in one.models)
            and (not one.protocols or self.parameters.protocol in one.protocols)
        )

    # ---- rows

    def load_rows(self) -> tuple[list[Row], DataFacts]:
        """Load the queries from the parameters' data source; DataError if a row is unusable or rows are missing."""
        from energylab.tasks import data

        rows, facts = data.load_rows(self)
        self.scored = all(row.get(column) is not None for column in self.references for row in rows)
        return rows, facts

    def input_columns(self) -> list[str]:
        """Return the columns that are input to the model."""
        return [column for column in self.columns if column not in self.references]

    def is_empty(self, row: Row) -> bool:
        """Whether the published runner drops a row because one of its inputs is the empty text."""
        return any(row.get(column) == "" for column in self.input_columns())

    # ---- loading

    def check(self, device: str, facts: Sequence[DeviceFacts]) -> int | None:
        """Refuse options that these devices cannot provide, before weights are read or a device is used.

        `device` is the name of the first device in torch: ``cpu``, ``cuda:0``. Returns the number of the model's
        parameters, or None if the model is not available here (a server).
        """
        from energylab.tasks.machine import Machine

        request = self.request(device)
        self._prepared = self.find(request, Machine.described(request.device, facts))
        return self._prepared.count

    def request(self, device: str) -> Parameters:
        """Return the parameters for loading the model: completed by the task's values, with torch's device name.

        Precision and attention may depend on the model's configuration.
        """
        from energylab.tasks import models

        wanted = self.given("dtype", "quantisation", "attention", "compile")
        wanted["device"] = "cuda:0" if device == "cuda" else device
        if wanted["dtype"] == "checkpoint" or (self.settings.attention_of and wanted["attention"] is None):
            config = models.read_config(models.locate(self.parameters, self.settings.architectures))
            wanted["attention"] = wanted["attention"] or self.settings.attention_of.get(config.model_type)
            if wanted["dtype"] == "checkpoint":
                wanted["dtype"] = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
        return self.parameters.model_copy(update=wanted)

    def find(self, request: Parameters, machine: Any = None) -> Any:
        """Locate a model and check the request; see `energylab.tasks.models.prepare`."""
        from energylab.tasks import models

        return models.prepare(request, self.settings.architectures, self.auto_class, machine)

    def open(self, device: str) -> dict[str, Any]:
        """Read configuration and processor, which `prepare` needs, but no weights. Returns facts for the record."""
        if self._prepared is None:
            self._prepared = self.find(self.request(device))
        if self.processor is None:
            self.origin, self.config = self._prepared.origin, self._prepared.config
            self.processor = self.read_processor()
        return self.fit()

    def load(self, device: str) -> ModelFacts:
        """Load processor and model onto `device`; ModelError if it is missing, gated, unsuitable or too large."""
        from energylab.tasks import models

        facts = self.open(device)
        self.model, self.device = self.build(), self._prepared.request.device
        self.facts = models.describe(self._prepared, self.model, self.settings.model_classes)
        settings = {**self.facts.settings, **facts, **self.ready()}
        self.facts = self.facts.model_copy(update={"settings": settings})
        return self.facts

    def build(self) -> Any:
        """Load the model that was found; a family with a model of another library overrides this."""
        from energylab.tasks import models

        return models.load(self._prepared, self.optional_parts)

    # ---- queries under a published protocol

    def prepare_all(self, rows: Sequence[Row]) -> Any:
        """Preprocess a whole set as the published runner does: a filter, then one batched map into an Arrow table.

        Needs `open`, not `load`: the published runner preprocesses before it loads the model.
        """
        import datasets

        datasets.disable_progress_bars()
        wanted = self.input_columns()
        table = datasets.Dataset.from_list([{column: row[column] for column in wanted} for row in rows])
        table = table.filter(self._wanted, load_from_cache_file=False)
        options = {"batched": True, "writer_batch_size": 50, "remove_columns": wanted, "load_from_cache_file": False}
        return table.map(self._mapped, **options).with_format("torch")

    def _wanted(self, row: Row) -> bool:
        return not self.is_empty(row)

    def _mapped(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        names = list(columns)
        return self.features([dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)])

    def fetch(self, table: Any, queries: Sequence[int]) -> Any:
        """Read the inputs of one batch from the table of `prepare_all`; called inside the loop, as published."""
        if len(queries) > 1:
            raise TaskError(f"batch_size={len(queries)}: a published protocol runs one query at a time; set it to 1")
        return table[queries[0] : queries[0] + 1]

    # ---- phases

    def run(self, phase: str, inputs: Any) -> Any:
        """Run one phase on one batch: on rows in ``preprocess``, on inputs from `prepare` or `fetch` in the others."""
        return self.prepare(inputs) if phase == "preprocess" else self.call(phase, inputs)

    def call(self, phase: str, inputs: Any) -> Any:
        """Call the model once; a family that needs several calls per batch, or none, overrides this."""
        return self.ask(inputs, self.generation(phase))

    def ask(self, tensors: Any, generation: dict[str, Any] | None) -> Any:
        """Copy tensors to the device and run the model once: forward, or ``generate`` if `generation` is given."""
        import torch

        from energylab.tasks.models import moved

        with torch.inference_mode():
            here = moved(tensors, self.device, self.model.dtype)
            return self.keep(self.model(**here)) if generation is None else self.model.generate(**here, **generation)

    def generation(self, phase: str, new_tokens: int | None = None) -> dict[str, Any] | None:
        """Return the arguments of the library's ``generate`` for a phase; None for a forward pass.

        As in the published runner: an exact number of tokens, greedy, one beam. All other settings (penalties,
        suppressed tokens, languages) are those of the checkpoint.
        """
        if phase not in ("prefill", "generate"):
            return None
        tokens = 1 if phase == "prefill" else new_tokens or self.new_tokens
        return {
            "num_return_sequences": 1, "max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False,
            "use_cache": True, "num_beams": 1,
        }  # fmt: skip

    def run_short(self, inputs: Any) -> None:
        """Make one short call; the published protocol's warm-up makes `SHORT_CALLS` of them after a full one."""
        if self.phases[-1] == "generate":
            self.ask(inputs, self.generation("generate", new_tokens=2))
        else:
            self.run(self.phases[-1], inputs)

    def warm_up_longest(self, rows: Sequence[Row]) -> None:
        """Allocate and compile for the longest batch before measuring, if compile or cache is set. After `load`."""
        cache = self.parameters.cache or getattr(self.settings, "cache", None)
        if not (self.given("compile")["compile"] or cache):
            return
        lengths = next(iter(self.covariates(rows).values()), [0] * len(rows))
        longest = sorted(range(len(rows)), key=lambda row: -lengths[row])[: self.batch_size]
        inputs = self.prepare([rows[row] for row in longest])
        measured = [phase for phase in self.phases if phase != "preprocess"]
        for phase in measured * 2:  # the second call runs compiled code
            self.run(phase, inputs)
        self.synchronize()

    def shelve(self, inputs: Any) -> Any:
        """Move large inputs of a batch out of the host's memory until they are used; called outside windows."""
        return inputs

    def synchronize(self) -> None:
        """Wait until the model's devices have finished; called at the edges of every window."""
        if not (self.device and self.device.startswith("cuda")):
            return
        import torch

        first = int(self.device.partition(":")[2] or 0)
        for index in range(first, first + self.parameters.gpus):
            torch.cuda.synchronize(index)

    # ---- after the windows

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Return covariates of the queries by name, one value per row; the first is the length. After `load`."""
        return {}

    def count(self, phase: str, inputs: Any, outputs: Any) -> Tokens:
        """Count the tokens of one batch; TaskError if the model generated the wrong number."""
        return Tokens()

    def check_new_tokens(self, phase: str, found: int) -> None:
        """Check the number of new tokens per query: one in ``prefill``, `new_tokens` in ``generate``."""
        stated = 1 if phase == "prefill" else self.new_tokens
        if found != stated:
            raise TaskError(f"{phase}: the model generated {found} token(s) per query instead of {stated}")

    def finite(self, inputs: Any, outputs: Any) -> bool:
        """Whether the outputs of one batch are finite numbers; called once per query, outside the windows."""
        return all_finite(outputs)

    def right_answers(self, rows: Sequence[Row]) -> list[Any] | None:
        """Return the answers of a model that is always right; None if unknown.

        `energylab task check` uses them to check that `score` distinguishes right from wrong answers.
        """
        return [row[self.references[0]] for row in rows] if len(self.references) == 1 else None

    def extra(self, answers: Sequence[Any]) -> dict[str, Any]:
        """Return more facts about the answers by name, for the record's ``extra``."""
        return {}

    def no_quality(self, metric: str, rows: Sequence[Row]) -> Quality | None:
        """Return a quality without a value that says why it cannot be scored; None if it can be scored."""
        if self.facts is None:
            raise TaskError("quality can be scored only after load(); call it first")
        absent = [column for column in self.references if any(row.get(column) is None for row in rows)]
        if not self.facts.real_weights:
            return unscored(metric, rows, "the model has random weights")
        if self.parameters.data_source == "synthetic":
            return unscored(metric, rows, "synthetic queries have no right answers")
        if absent:
            return unscored(metric, rows, f"the data has no reference column {', '.join(absent)}")
        return None


def unscored(metric: str, rows: Sequence[Row], why: str) -> Quality:
    return Quality(metric=metric, value=None, queries=len(rows), meaningless=why)


def mean_quality(metric: str, scores: Sequence[float], **details: Any) -> tuple[Quality]:
    return (Quality(metric=metric, value=fmean(scores), queries=len(scores), scores=tuple(scores), details=details),)


def rouge_l(references: Sequence[Sequence[str]], answers: Sequence[str]) -> list[Any]:
    """Return each answer's ROUGE-L (precision, recall, fmeasure) against the most similar of its references."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(references, answers, strict=True)
    return [scorer.score_multi(texts, answer)["rougeL"] for texts, answer in pairs]


def all_finite(outputs: Any) -> bool:
    """Whether every floating-point tensor among a phase's outputs is finite."""
    import torch

    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, list | tuple):
        return all(all_finite(one) for one in outputs)
    if isinstance(outputs, torch.Tensor) and outputs.is_floating_point():
        return bool(torch.isfinite(outputs).all())
    return True
