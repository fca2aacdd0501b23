"""Queries that are files: ``preprocess`` decodes them, and they are not padded.

Pictures and clips differ in size. Padding them to one size changes the answers of many models (a convolution sees the
padding, a group norm averages over it). A batch is therefore split into groups of equal shape with one model call
each, so that an answer does not depend on its batch. With batch size 1, as published, this makes no difference.
"""

from __future__ import annotations

import json
import tempfile
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from energylab.errors import DataError, ModelError
from energylab.tasks import models
from energylab.tasks.base import Row, Task, Tokens


@dataclass(frozen=True)
class Group:
    """Queries of one shape."""

    positions: tuple[int, ...]  # their positions in the batch
    tensors: dict[str, Any]  # inputs of the model; the first dimension is the query


@dataclass(frozen=True)
class Inputs:
    """Prepared inputs of a batch."""

    groups: tuple[Group, ...]  # every query of the batch is in exactly one
    sizes: tuple[tuple[int, int], ...] = ()  # height and width of every picture in pixels, in the order of the batch

    def in_order(self, answers: Iterable[Sequence[Any]]) -> list[Any]:
        placed: dict[int, Any] = {}
        for group, values in zip(self.groups, answers, strict=True):
            placed.update(zip(group.positions, values, strict=True))
        return [placed[position] for position in range(len(placed))]


def grouped(features: Sequence[Mapping[str, Any]], sizes: Iterable[tuple[int, int]] = ()) -> Inputs:
    """Join the features of single queries whose shapes all agree."""
    import torch

    alike: dict[Any, list[int]] = defaultdict(list)
    for position, feature in enumerate(features):
        alike[tuple((name, tuple(tensor.shape)) for name, tensor in feature.items())].append(position)
    groups = []
    for positions in alike.values():
        names = features[positions[0]]
        joined = {name: torch.cat([features[position][name] for position in positions]) for name in names}
        groups.append(Group(tuple(positions), joined))
    return Inputs(tuple(groups), tuple(sizes))


class MediaTask(Task):
    """A task whose queries are encoded files; decoding them is part of ``preprocess``, as published."""

    medium: ClassVar[str]  # the column that holds the file
    open_ended: bool = False  # whether a query may take more tokens than stated
    prompt_length: int = 0  # tokens of the prompt at the start of an output, found by one trial

    @abstractmethod
    def decode(self, encoded: bytes) -> Any:
        """Decode a file, or raise DataError."""

    # ---- rows

    def open_row(self, row: Row, folder: Path) -> Row:
        name = row.get(self.medium)
        return {**row, self.medium: (folder / name).read_bytes()} if isinstance(name, str) else row

    def check_row(self, row: Row) -> str | None:
        """Refuse a file that is missing or cannot be decoded."""
        if not isinstance(row[self.medium], bytes):
            return f"column {self.medium!r} holds {type(row[self.medium]).__name__}, not an encoded file"
        try:
            self.decode(row[self.medium])
        except DataError as error:
            return str(error)
        return None

    # ---- queries

    def features(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        tensors = [self.prepare([row]).groups[0].tensors for row in rows]
        return {name: [one[name][0].numpy() for one in tensors] for name in tensors[0]}

    def _wanted(self, row: Row) -> bool:
        self.decode(row[self.medium])
        return True

    def fetch(self, table: Any, queries: Sequence[int]) -> Inputs:
        return Inputs((Group((0,), super().fetch(table, queries)),))

    def call(self, phase: str, inputs: Inputs) -> list[Any]:
        """Call the model once for each shape; return the kept outputs of each call."""
        return [self.ask(group.tensors, self.generation(phase)) for group in inputs.groups]

    # ---- models that generate text

    def measure_prompt(self, blank: bytes) -> None:
        """Find by one blank query how many tokens at the start of an output are prompt."""
        try:
            output = self.run("prefill", self.prepare([{self.medium: blank}]))
        except models.LIBRARY_ERRORS as error:
            raise ModelError(f"model {self.origin.name!r} cannot answer without a text prompt: {error}") from error
        self.prompt_length = output[0].shape[1] - 1

    def count(self, phase: str, inputs: Inputs, outputs: Any) -> Tokens:
        if phase not in ("prefill", "generate"):
            return Tokens()
        stated = 1 if phase == "prefill" else self.new_tokens
        found = [ids.shape[1] - self.prompt_length for ids in outputs]
        for new in found:
            if not (self.open_ended and new > stated):
                self.check_new_tokens(phase, new)
        return Tokens(output=sum(len(ids) * new for ids, new in zip(outputs, found, strict=True)))

    def free_texts(self, inputs: Inputs, outputs: Sequence[Any]) -> list[str]:
        """Return the generated texts; if they are scored, they are generated again and may end early.

        Text that a model is forced to generate after its end would spoil the score; up to the end both texts agree.
        """
        if self.scored and self.facts.real_weights and self.parameters.data_source != "synthetic":
            free = {**self.generation("generate"), "min_new_tokens": 0}
            outputs = [self.ask(group.tensors, free) for group in inputs.groups]
        new = [ids[:, self.prompt_length :] for ids in outputs]
        texts = [self.processor.batch_decode(ids, skip_special_tokens=True) for ids in new]
        return inputs.in_order([[text.strip() for text in group] for group in texts])


def read_processor(origin: models.Origin, config: Any, loader: Callable[..., Any], option: str, **kwargs: Any) -> Any:
    """Read a model's image processor or feature extractor; for random weights, make it from the architecture."""
    what = option.replace("_", " ")
    if origin.architecture is None:
        return origin.read(loader, what, **kwargs)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        values = origin.architecture.options.get(option, {})
        Path(folder, "preprocessor_config.json").write_text(json.dumps(dict(values)), encoding="utf-8")
        return models.Origin(origin.name, Path(folder)).read(loader, what, **kwargs)
