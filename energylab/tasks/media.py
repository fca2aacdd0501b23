"""Queries that are files: they stay encoded until ``preprocess`` decodes them, and go to the model without padding.

Pictures and clips differ in size. Padding them to one size changes what many models answer (a convolution sees the
padding, a group norm averages over it), so a batch is split into groups of equal shape, each one call of the model:
the answers of a batch are then those of its queries one by one. With batch size 1, as published, nothing changes.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylab.tasks import models
from energylab.tasks.base import Row


@dataclass(frozen=True)
class Group:
    """Queries of one shape."""

    positions: tuple[int, ...]  # their places in the batch
    tensors: dict[str, Any]  # what the model is called with; the first dimension is the query


@dataclass(frozen=True)
class Inputs:
    """What ``prepare`` makes of a batch."""

    groups: tuple[Group, ...]  # every query of the batch is in exactly one
    sizes: tuple[tuple[int, int], ...] = ()  # height and width of every picture in pixels, in the order of the batch

    @property
    def queries(self) -> int:
        """Number of queries in the batch."""
        return sum(len(group.positions) for group in self.groups)


def grouped(features: Sequence[Mapping[str, Any]], sizes: Iterable[tuple[int, int]] = ()) -> Inputs:
    """Join the features of single queries where all their shapes agree."""
    import torch

    alike: dict[Any, list[int]] = defaultdict(list)
    for position, feature in enumerate(features):
        alike[tuple((name, tuple(tensor.shape)) for name, tensor in feature.items())].append(position)
    groups = tuple(
        Group(
            tuple(positions),
            {name: torch.cat([features[position][name] for position in positions]) for name in features[positions[0]]},
        )
        for positions in alike.values()
    )
    return Inputs(groups, tuple(sizes))


def in_order(inputs: Inputs, answers: Iterable[Sequence[Any]]) -> list[Any]:
    """Bring one answer a query from the order of the groups into the order of the batch."""
    placed: dict[int, Any] = {}
    for group, values in zip(inputs.groups, answers, strict=True):
        placed.update(zip(group.positions, values, strict=True))
    return [placed[position] for position in range(inputs.queries)]


def open_file(row: Row, column: str, folder: Path) -> Row:
    """Replace the name of a file in a row by what the file holds; a row without a name is left to the checks."""
    return {**row, column: (folder / row[column]).read_bytes()} if isinstance(row.get(column), str) else row


def read_processor(
    origin: models.Origin, config: Any, loader: Callable[..., Any], what: str, values: Mapping[str, Any], **kwargs: Any
) -> Any:
    """Read a model's image processor or feature extractor; for a random model, make it from the values given."""
    if origin.folder is not None:
        return origin.read(loader, what, **kwargs)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        Path(folder, "preprocessor_config.json").write_text(json.dumps(dict(values)), encoding="utf-8")
        return models.Origin(origin.name, Path(folder)).read(loader, what, **kwargs)
