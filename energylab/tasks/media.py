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

from energylab.errors import ModelError
from energylab.tasks import models
from energylab.tasks.base import Row, Task, Tokens, all_finite


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


def alone(inputs: Sequence[Inputs]) -> dict[str, list[Any]]:
    """Return the tensors of single queries by name, as arrays without the dimension of the batch."""
    tensors = [one.groups[0].tensors for one in inputs]
    return {name: [one[name][0].numpy() for one in tensors] for name in tensors[0]}


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


def given_tokens(task: Task, blank: Row) -> int:
    """See with one blank query how many tokens at the head of an output were given, not generated."""
    try:
        return task.run("prefill", task.prepare([blank]))[0].shape[1] - 1
    except models.LIBRARY_ERRORS as error:
        raise ModelError(f"model {task.origin.name!r} cannot answer a query without a text: {error}") from error


def count_new(task: Any, phase: str, inputs: Inputs, outputs: Sequence[Any]) -> Tokens:
    """Check that exactly the stated number of tokens was generated; a picture or a sound has no tokens to count."""
    if phase not in ("prefill", "generate"):
        return Tokens()
    for ids in outputs:
        task.check_new_tokens(phase, ids.shape[1] - task.prompt_length)
    return Tokens(output=inputs.queries * (1 if phase == "prefill" else task.new_tokens))


def finite_first(task: Task, inputs: Inputs) -> bool:
    """Whether the logits of the first new token are finite, computed once more outside the windows."""
    first = {**task.generation("prefill"), "output_logits": True, "return_dict_in_generate": True}
    return all(all_finite(task.ask(group.tensors, first).logits) for group in inputs.groups)


def free_texts(task: Any, inputs: Inputs, outputs: Sequence[Any]) -> list[list[str]]:
    """Return the texts of every group; where they are scored, generated once more and free to stop.

    Forced past its own end a model goes on talking, which would spoil every score. Up to the stop both are the same.
    """
    if task.scored and task.facts.real_weights and task.parameters.data_source != "synthetic":
        free = {**task.generation("generate"), "min_new_tokens": 0}
        outputs = [task.ask(group.tensors, free) for group in inputs.groups]
    decode = task.processor.batch_decode
    return [
        [text.strip() for text in decode(ids[:, task.prompt_length :], skip_special_tokens=True)] for ids in outputs
    ]
