"""What tasks share that generate text: usable padding, and answers of models whose prompt is a picture or a sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from energylab.errors import ModelError
from energylab.tasks import models
from energylab.tasks.base import Row, Task, Tokens, all_finite
from energylab.tasks.media import Inputs


def set_padding(settings: Any, pad: int | None) -> None:
    """Replace a padding id that generation cannot use: none, or a negative one."""
    if settings.pad_token_id is None or settings.pad_token_id < 0:
        settings.pad_token_id = pad


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
