"""Exactly the stated number of tokens is generated, and another number is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from energylab.errors import EnergylabError
from energylab.taskcheck.bench import NEW_TOKENS, Bench
from energylab.taskcheck.report import Problem, Unseen

ASKS = "token counts are exact: those given, and where it generates those asked for, no more and no fewer"


def look(bench: Bench) -> Iterator[Problem | Unseen]:
    """Count in two batches of different length, and hand over outputs with a token too few."""
    yield from _given(bench)
    if "generate" not in bench.task.phases:
        return
    stated = bench.task.resolved_settings().get("new_tokens")
    if stated != NEW_TOKENS:
        mend = "add new_tokens to the settings class and to resolved_settings(), as Task.generation does"
        yield Problem(f"new_tokens={NEW_TOKENS} was asked for, resolved_settings() says {stated!r}", mend)
    for phase, each in (("prefill", 1), ("generate", NEW_TOKENS)):
        if phase in bench.task.phases:
            yield from _generated(bench, phase, each)


def _given(bench: Bench) -> Iterator[Problem]:
    """Compare the tokens known beforehand with those that the model was given."""
    known = bench.call("covariates", bench.task.covariates, bench.rows).get("input_tokens")
    if known is None or "preprocess" not in bench.task.phases:
        return
    inputs = bench.inputs(bench.rows)
    counted = bench.call("count", bench.task.count, "preprocess", inputs, inputs).input
    if sum(known) != counted:
        said = f"covariates() says {sum(known):g} input tokens, count() finds {counted}"
        yield Problem(
            said, "count the tokens of every query as the model is given them: special tokens in, padding out"
        )


def _generated(bench: Bench, phase: str, each: int) -> Iterator[Problem | Unseen]:
    rows = bench.rows
    inputs = bench.inputs(rows)
    outputs = bench.run(phase, inputs)
    found = bench.call("count", bench.task.count, phase, inputs, outputs).output
    if found != each * len(rows):
        said = f"{phase}: count() finds {found} output tokens, {each} a query for {len(rows)} queries were asked for"
        yield Problem(said, "set min_new_tokens = max_new_tokens, and count what was generated")
        return
    shorter = _without_last(outputs)
    if shorter is None:
        yield Unseen(f"{phase} returns no tensor of ids, so that a missing token could not be tried")
        return
    try:
        bench.task.count(phase, inputs, shorter)
    except EnergylabError:
        return
    said = f"{phase}: outputs with one token too few are counted as if nothing were wrong"
    yield Problem(said, "raise TaskError in count() when the model generated another number than new_tokens")


def _without_last(outputs: Any) -> Any:
    """Return outputs with the last token of every query cut off; None where they have another form."""
    if hasattr(outputs, "shape") and len(outputs.shape) == 2:
        return outputs[:, :-1]
    if isinstance(outputs, list) and outputs and all(hasattr(one, "shape") and len(one.shape) == 2 for one in outputs):
        return [one[:, :-1] for one in outputs]
    return None
