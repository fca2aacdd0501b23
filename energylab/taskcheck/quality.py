"""Quality is scored: it tells right answers from wrong ones, and says why where it would mean nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from energylab.record import Quality
from energylab.taskcheck.bench import Bench
from energylab.taskcheck.report import Problem, Unseen
from energylab.taskcheck.values import same
from energylab.tasks.base import Row

ASKS = "quality is scored: right answers score otherwise than wrong ones, and random weights score nothing"


def look(bench: Bench) -> Iterator[Problem | Unseen]:
    """Score the small model's answers, then right answers, wrong ones, and rows without references."""
    answers = bench.ask(bench.rows)
    found = _score(bench, answers, bench.rows)
    if not found:
        mend = "return a Quality a metric; with value=None and the reason in meaningless where it means nothing"
        yield Problem("score() returns nothing: energy without quality rewards the worst model", mend)
        return
    for one in found:
        if one.value is not None and not bench.task.facts.real_weights:
            mend = "begin score() with `meaningless = self.no_quality(metric, rows)` and return it if it is not None"
            yield Problem(f"{one.metric} is {one.value:g} for a model with random weights", mend)
        yield from _whole(one, len(bench.rows))
    with _as_if_real(bench):
        yield from _with_weights(bench, answers)


def _with_weights(bench: Bench, answers: list[Any]) -> Iterator[Problem | Unseen]:
    """Look at scores as they would be with real weights."""
    for one in _score(bench, answers, bench.rows):
        yield from _whole(one, len(bench.rows))
    with bench.theirs("a single answer is scored: give a reason in place of a value where a metric needs more"):
        alone = bench.task.score(answers[:1], bench.rows[:1])
    for one in alone:
        yield from _whole(one, 1)
    yield from _right_and_wrong(bench)
    yield from _without_references(bench, answers)


def _right_and_wrong(bench: Bench) -> Iterator[Problem | Unseen]:
    rows = bench.rows
    right = bench.call("right_answers", bench.task.right_answers, rows)
    if right is None:
        if getattr(bench.family, "references", ()):
            mend = "write right_answers(rows): what answers() would give for a model that is always right"
            yield Problem("right_answers() returns None though the rows have references", mend)
        else:
            yield Unseen("the task has no references, so that right answers could not be scored")
        return
    best = _score(bench, right, rows)
    silent = [one for one in best if one.value is None]
    if silent:
        yield Unseen(f"{silent[0].metric} of right answers has no value: {silent[0].meaningless}")
        return
    wrong = [_shifted(right, by) for by in range(1, len(right))]
    wrong = [answers for answers in wrong if any(not same(a, b) for a, b in zip(answers, right, strict=True))]
    if not wrong:
        yield Unseen("all rows of the check have the same right answer, so that wrong ones could not be made of them")
    elif all(_values(_score(bench, answers, rows)) == _values(best) for answers in wrong):
        said = f"right answers and other rows' answers both score {best[0].metric} = {best[0].value:g}"
        yield Problem(said, "compare each answer with its own row's reference in score()")


def _without_references(bench: Bench, answers: list[Any]) -> Iterator[Problem]:
    references = getattr(bench.family, "references", ())
    if not references:
        return
    bare = [{name: value for name, value in row.items() if name not in references} for row in bench.rows]
    mend = "say Quality(value=None, meaningless='the data has no reference column …'); self.no_quality() does"
    for one in _score(bench, answers, bare):
        if one.value is not None:
            yield Problem(f"{one.metric} is {one.value:g} for rows without a reference", mend)


def _whole(one: Quality, queries: int) -> Iterator[Problem]:
    if one.value is None and not one.meaningless:
        yield Problem(f"{one.metric} has neither a value nor a reason", "give the reason in meaningless")
    if one.value is not None and not math.isfinite(one.value):
        yield Problem(f"{one.metric} is {one.value}", "return None with a reason where the metric is not defined")
    if not 0 < one.queries <= queries:
        yield Problem(
            f"{one.metric} is said of {one.queries} of {queries} queries", "count the queries that were scored"
        )


def _score(bench: Bench, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Quality, ...]:
    return bench.call("score", bench.task.score, answers, rows)


def _values(found: Sequence[Quality]) -> list[float | None]:
    return [one.value for one in found]


def _shifted(answers: list[Any], by: int) -> list[Any]:
    return [*answers[by:], *answers[:by]]


@contextmanager
def _as_if_real(bench: Bench) -> Iterator[None]:
    """Let the task take its random weights for real ones, so that its score can be seen."""
    task = bench.task
    kept = task.facts
    task.facts = kept.model_copy(update={"real_weights": True})
    try:
        yield
    finally:
        task.facts = kept
