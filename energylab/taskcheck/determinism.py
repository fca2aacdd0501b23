"""The same task, seed and queries give the same work and the same answers."""

from __future__ import annotations

from collections.abc import Iterator

from energylab.taskcheck.bench import QUERIES, Bench
from energylab.taskcheck.report import Problem
from energylab.taskcheck.values import same, short

ASKS = "deterministic: the same seed gives the same queries, model and answers; another seed other queries"


def look(bench: Bench) -> Iterator[Problem]:
    """Ask twice, load twice, draw synthetic queries three times."""
    rows = bench.rows
    inputs = bench.inputs(rows)
    first, again = (bench.answers(inputs, bench.run(bench.last, inputs)) for _ in range(2))
    if not all(same(a, b) for a, b in zip(first, again, strict=True)):
        mend = "put the model in evaluation mode, decode greedily, and leave the inputs as they are"
        yield Problem(f"the same inputs give other answers the second time: {_difference(first, again)}", mend)
    else:
        yield from _loaded_again(bench, first)
    yield from _synthetic(bench)


def _loaded_again(bench: Bench, first: list) -> Iterator[Problem]:
    task, rows = bench.load()
    inputs = task.prepare(rows)
    answers = bench.call("answers", task.answers, inputs, task.run(bench.last, inputs))
    if not all(same(a, b) for a, b in zip(first, answers, strict=True)):
        said = f"loaded again with the same seed it answers differently: {_difference(first, answers)}"
        yield Problem(said, "draw random weights and anything else from parameters.seed")


def _synthetic(bench: Bench) -> Iterator[Problem]:
    drawn = []
    for seed in (0, 0, 1):
        task = bench.make(data_source="synthetic", seed=seed)
        rows, facts = bench.call("load_rows", task.load_rows)
        drawn.append(facts.digest)
        if len(rows) != QUERIES:
            said = f"{QUERIES} synthetic queries were asked for, {len(rows)} made"
            yield Problem(said, "let synthesise(count, seed) return exactly count rows")
    if drawn[0] != drawn[1]:
        yield Problem("synthetic queries of the same seed differ", "draw from numpy.random.default_rng(seed) alone")
    if drawn[0] == drawn[2]:
        yield Problem("synthetic queries of two seeds are equal", "draw from numpy.random.default_rng(seed)")


def _difference(a: list, b: list) -> str:
    first = next(number for number, (x, y) in enumerate(zip(a, b, strict=True)) if not same(x, y))
    return f"query {first}: {short(a[first])}, then {short(b[first])}"
