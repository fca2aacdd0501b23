"""Phases do what they say: preprocess prepares, the others run the model, and each does its work every time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from energylab.record import SCORED_PHASES
from energylab.taskcheck.bench import NEW_TOKENS, Bench
from energylab.taskcheck.report import Problem, Unseen
from energylab.taskcheck.values import same
from energylab.taskcheck.watch import Seen, watched

ASKS = "phases do what they say: preprocess prepares the rows, the others run the model anew each time"


def look(bench: Bench) -> Iterator[Problem | Unseen]:
    """Count the model's passes in every phase, twice with the same inputs."""
    phases = bench.task.phases
    if not set(phases) & (set(SCORED_PHASES) - {"preprocess"}):
        mend = f"measure the model's work in one of {', '.join(p for p in SCORED_PHASES if p != 'preprocess')}"
        yield Problem(f"no phase of {phases} is rated but preprocess", mend)
    if "prefill" in phases and "generate" not in phases:
        yield Problem(
            "there is a prefill and no generate", "prefill is a part of generate, measured apart: add generate"
        )
    if "preprocess" in phases:
        yield from _preprocess(bench)
    calls = {}
    for phase in (phase for phase in phases if phase != "preprocess"):
        calls[phase] = passes(bench, phase)
    yield from _passes(bench, calls)


def passes(bench: Bench, phase: str) -> tuple[int, int]:
    """Return how often the model ran in two calls of a phase with the same inputs."""
    inputs = bench.inputs(bench.rows[:2])
    return _count(bench, phase, inputs).model_calls, _count(bench, phase, inputs).model_calls


def _count(bench: Bench, phase: str, inputs: Any) -> Seen:
    with watched(bench.family, {}) as seen:
        bench.run(phase, inputs)
    return seen


def _preprocess(bench: Bench) -> Iterator[Problem]:
    first, second = bench.rows[:1], bench.rows[1:2]
    with watched(bench.family, {}) as seen:
        once = bench.inputs(first)
    if seen.model_calls:
        mend = "move what runs a network to the next phase: preprocess is the work of the host"
        yield Problem(f"preprocess runs a network {seen.model_calls} time(s)", mend)
    if bench.inputs(first) is once:
        mend = "make the inputs anew each time: work done before the window is not measured"
        yield Problem("preprocess hands out the same object again: it did its work before the window", mend)
    if same(once, bench.inputs(second)):
        yield Problem("two different queries give the same inputs", "make the inputs from the rows that are given")


def _passes(bench: Bench, calls: dict[str, tuple[int, int]]) -> Iterator[Problem | Unseen]:
    if not any(first for first, _ in calls.values()) and not _is_torch(bench.task):
        yield Unseen("the model is no torch module, so that its passes could not be counted")
        return
    for phase, (first, again) in calls.items():
        if first == 0:
            yield Problem(f"{phase} never runs the model", f"call the model in {phase}(inputs) and return its outputs")
        elif again < first:
            mend = "compute the outputs anew each time: the protocol repeats a phase to fill its window"
            yield Problem(f"{phase} ran the model {first} time(s), and {again} when called again", mend)
    if calls.get("generate", (NEW_TOKENS,))[0] < NEW_TOKENS:
        said = f"generate ran the model {calls['generate'][0]} time(s) for {NEW_TOKENS} new tokens"
        yield Problem(said, "generate exactly new_tokens tokens, one pass each: Task.generation does it")
    if "prefill" in calls and calls["prefill"][0] >= calls.get("generate", (0,))[0] > 0:
        yield Problem("prefill runs the model as often as generate", "let prefill give the first token alone")


def _is_torch(task: Any) -> bool:
    import torch

    parts = getattr(getattr(task, "model", None), "components", None)
    candidates = [getattr(task, "model", None), *(parts.values() if isinstance(parts, dict) else ())]
    return any(isinstance(one, torch.nn.Module) for one in candidates)
