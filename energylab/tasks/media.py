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
from energylab.tasks.models import moved


@dataclass(frozen=True)
class Group:
    """Queries of one shape.

    Attributes
    ----------
    positions : tuple of int
        Their places in the batch.
    tensors : dict of str to torch.Tensor
        What the model is called with; the first dimension is the query.
    """

    positions: tuple[int, ...]
    tensors: dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What ``preprocess`` makes of a batch.

    Attributes
    ----------
    groups : tuple of Group
        Every query of the batch is in exactly one.
    sizes : tuple of (int, int)
        Height and width of every picture in pixels, in the order of the batch; empty for sound.
    """

    groups: tuple[Group, ...]
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def queries(self) -> int:
        """Number of queries in the batch."""
        return sum(len(group.positions) for group in self.groups)


def grouped(features: Sequence[Mapping[str, Any]], sizes: Iterable[tuple[int, int]] = ()) -> Inputs:
    """Join the features of single queries where all their shapes agree.

    Parameters
    ----------
    features : sequence of mapping
        For each query its tensors, each with a first dimension of 1.
    sizes : iterable of (int, int), optional
        Kept beside them.

    Returns
    -------
    Inputs
        Groups in the order of their first query.
    """
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


def by_group(call: Callable[..., Any], inputs: Inputs, device: str, dtype: Any) -> list[Any]:
    """Call a model, or a method of one, with each group's tensors; the inputs stay on the host as they are."""
    import torch

    with torch.inference_mode():
        return [call(**moved(group.tensors, device, dtype)) for group in inputs.groups]


def in_order(inputs: Inputs, answers: Iterable[Sequence[Any]]) -> list[Any]:
    """Bring one answer a query from the order of the groups into the order of the batch.

    Parameters
    ----------
    inputs : Inputs
        The batch.
    answers : iterable of sequence
        For each group the answers of its queries.
    """
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
    """Read a model's image processor or feature extractor; for a random model, make it from the values given.

    Parameters
    ----------
    origin : Origin
        Where the model came from.
    config : transformers.PretrainedConfig
        Its configuration, which says the kind of processor.
    loader : callable
        For example ``AutoImageProcessor.from_pretrained``.
    what : str
        What is read, for messages.
    values : mapping
        What ``preprocessor_config.json`` would hold; only used where there are no files.
    **kwargs
        Passed to `loader`.

    Raises
    ------
    ModelError
        If the model has no such processor.
    """
    if origin.folder is not None:
        return origin.read(loader, what, **kwargs)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        Path(folder, "preprocessor_config.json").write_text(json.dumps(dict(values)), encoding="utf-8")
        return models.Origin(origin.name, Path(folder)).read(loader, what, **kwargs)
