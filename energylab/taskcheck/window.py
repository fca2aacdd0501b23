"""Nothing but the model's work inside a window."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType

from energylab.taskcheck.bench import Bench
from energylab.taskcheck.report import Problem
from energylab.taskcheck.values import tensors
from energylab.taskcheck.watch import watched

ASKS = "nothing inside a window but the model's work: no file, no print, no log, no scoring, no gradients"

#: Methods of a task that belong outside the windows.
_OUTSIDE = ("answers", "score", "count", "covariates", "right_answers", "load_rows", "load", "extra")


def look(bench: Bench) -> Iterator[Problem]:
    """Watch every phase once, after a first call that imports what it needs."""
    task, rows = bench.task, bench.rows[:2]
    methods = _methods(bench)
    for phase in task.phases:
        given = rows if phase == "preprocess" else bench.inputs(rows)
        bench.run(phase, given)
        extra = {} if phase in ("preprocess", "call") else _preparing(bench)
        with watched(bench.family, {**methods, **extra}) as seen:
            outputs = bench.run(phase, given)
        for what in dict.fromkeys(seen.foreign):
            yield Problem(f"{phase} {what}", _mend(what, phase))
        if any(tensor.requires_grad for tensor in tensors(outputs)):
            mend = "put the call of the model under `with torch.inference_mode():`"
            yield Problem(f"{phase} records gradients, as for training", mend)


def _methods(bench: Bench) -> dict[CodeType, str]:
    """Return the code of every method that belongs outside the windows."""
    found: dict[CodeType, str] = {}
    for kind in bench.family.__mro__:
        for name in _OUTSIDE:
            method = kind.__dict__.get(name)
            if hasattr(method, "__code__"):
                found[method.__code__] = f"calls {name}()"
    return found


def _preparing(bench: Bench) -> dict[CodeType, str]:
    """Return the code of what prepares inputs: tokenizers, and the task's own prepare."""
    from transformers import PreTrainedTokenizerBase

    found = {PreTrainedTokenizerBase.__call__.__code__: "tokenises", PreTrainedTokenizerBase.decode.__code__: "decodes"}
    for kind in bench.family.__mro__:
        method = kind.__dict__.get("prepare")
        if hasattr(method, "__code__"):
            found[method.__code__] = "calls prepare()"
    return found


def _mend(what: str, phase: str) -> str:
    if "prepare" in what or "tokenises" in what:
        return f"{phase}(inputs) is given what prepare made: use it, and prepare nothing again"
    if "()" in what or "decodes" in what:
        return f"return the model's outputs as they are; answers() and score() read them after the window of {phase}"
    return "move this out of the phase: into load or ready before the windows, or answers after them"
