"""One query at a time and several together give the same answers and count the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from energylab.taskcheck.bench import Bench
from energylab.taskcheck.report import Problem, Unseen
from energylab.taskcheck.values import same, short, tensors

ASKS = "batch 1 equals batch N: the same answers, the same tokens"


def look(bench: Bench) -> Iterator[Problem | Unseen]:
    """Ask every query alone, then all of them together."""
    rows = bench.rows
    alone = [bench.ask([row]) for row in rows]
    together = bench.ask(rows)
    lengths = [len(answers) for answers in alone]
    if lengths != [1] * len(rows) or len(together) != len(rows):
        said = f"{len(rows)} queries gave {sum(lengths)} answers one by one and {len(together)} together"
        yield Problem(said, "let answers() return exactly one answer a query, in the order of the rows")
        return
    differ = [number for number, one in enumerate(alone) if not same(one[0], together[number])]
    if differ:
        first = differ[0]
        said = (
            f"{len(differ)} of {len(rows)} answers change when the query is in a batch; query {first}: "
            f"{short(alone[first][0])} alone, {short(together[first])} together"
        )
        mend = "pass the attention mask to the model, pad on the side its answers are not read from, keep the order"
        yield Problem(said, mend)
    elif _numbers_differ(bench):
        mend = "pass the attention mask to the model, and normalise nothing over the batch"
        yield Problem(f"the numbers that {bench.last} returns for a query change when it is in a batch", mend)
    elif all(same(one[0], alone[0][0]) for one in alone):
        yield Unseen("the small model gives every query the same answer, so that an answer could not be told apart")
    yield from _tokens(bench)


def _numbers_differ(bench: Bench) -> bool:
    """Compare raw outputs, finer than answers, where those of a batch can be laid beside those of single queries."""
    rows, last = bench.rows, bench.last
    inputs = bench.inputs(rows)
    mask = inputs["attention_mask"].bool().cpu() if isinstance(inputs, Mapping) and "attention_mask" in inputs else None
    whole = list(tensors(bench.run(last, inputs)))
    for number, row in enumerate(rows):
        alone = tensors(bench.run(last, bench.inputs([row])))
        for one, many in zip(alone, whole, strict=False):
            beside = _of_query(many, number, len(rows), mask)
            alike = beside is not None and one.shape[:1] == (1,) and beside.shape == one.shape[1:]
            if alike and not same(one[0], beside):
                return True
    return False


def _of_query(many: Any, number: int, queries: int, mask: Any) -> Any:
    """Return one query's part of a batch's tensor, without the places of padding; None where it has no such part."""
    if many.shape[:1] != (queries,):
        return None
    token_by_token = mask is not None and many.shape[:2] == mask.shape and many.is_floating_point()
    return many[number][mask[number].to(many.device)] if token_by_token else many[number]


def _tokens(bench: Bench) -> Iterator[Problem]:
    rows, last = bench.rows, bench.last

    def counted(some: list) -> tuple[int | None, int | None]:
        inputs = bench.inputs(some)
        tokens = bench.call("count", bench.task.count, last, inputs, bench.run(last, inputs))
        return tokens.input, tokens.output

    alone = [counted([row]) for row in rows]
    whole = counted(rows)
    for name, place in (("input", 0), ("output", 1)):
        parts = [one[place] for one in alone]
        if None in parts or whole[place] is None:
            continue
        if sum(parts) != whole[place]:
            said = f"count() finds {sum(parts)} {name} tokens one by one and {whole[place]} together"
            yield Problem(said, "count what is not padding: inputs['attention_mask'].sum()")
