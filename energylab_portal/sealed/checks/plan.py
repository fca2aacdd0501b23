"""Whether the windows are those the protocol plans: every query once a run, in the seed's order, with its tokens."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

from energylab.parameters import PROTOCOLS
from energylab.record import SCORED_PHASES, Window
from energylab_portal.sealed.checks.base import judged, undecided, valid_windows
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check


def _blocks(run: ClosedRun) -> dict[tuple[int, str], list[Window]]:
    """Return the valid windows of every run and phase, in the order of their blocks."""
    found: dict[tuple[int, str], list[Window]] = defaultdict(list)
    for window in valid_windows(run):
        found[window.run, window.phase].append(window)
    return {key: sorted(windows, key=lambda window: window.block) for key, windows in found.items()}


def size(run: ClosedRun) -> Check:
    """No more of anything than any run has: what bounds the time that the other checks take."""
    record = run.record
    counts = {
        "runs": (record.protocol.runs, 200),
        "queries": (record.data.queries, 100_000),
        "queries in all runs and phases": (record.protocol.runs * record.data.queries * len(record.phases), 2_000_000),
        "phases": (len(record.phases), 10),
        "meters": (len(record.meters), 64),
        "devices": (len(record.devices), 64),
        "timelines": (len(run.timelines), 64),
        "windows": (len(record.windows), 50_000),
        "readings": (len(run.readings), 200_000),
        "groups of windows": (len({(window.run, window.phase) for window in record.windows}), 2_000),
    }
    problems = [
        f"{count:,} {name}, at most {most:,} are taken" for name, (count, most) in counts.items() if count > most
    ]
    return judged("size", problems, f"{len(record.windows)} windows of {record.protocol.runs} runs")


def stated(run: ClosedRun) -> Check:
    """Nothing is left open that only a file from another program may leave open."""
    record = run.record
    facts = {
        "task.version": record.task.version,
        "model.source": record.model.source,
        "data.name": record.data.name,
        "data.source": record.data.source,
        "data.digest": record.data.digest,
        "protocol.seed": record.protocol.seed,
        "warm_up": record.warm_up,
        "host.processor": record.host.processor,
        "devices": record.devices or None,
    }
    missing = [*record.missing, *(name for name, value in facts.items() if value is None)]
    missing += [f"devices.{number}.name" for number, device in enumerate(record.devices) if device.name is None]
    for window in record.windows:
        missing += [f"windows.{window.index}" for value in (window.start_s, window.duration_s) if value is None]
    return judged("stated", [f"{name[:60]} is not stated" for name in missing], "everything a session knows is stated")


def coverage(run: ClosedRun) -> Check:
    """Every run holds every phase, and every phase every query exactly once."""
    record, blocks = run.record, _blocks(run)
    problems = [] if record.valid else ["the record itself says that it has no total"]
    measured_by, known = (record.protocol.name, record.protocol.version), ("steady", PROTOCOLS["steady"])
    if measured_by != known:
        problems.append(f"protocol {' '.join(measured_by)[:40]!r}; sealed runs are measured by {' '.join(known)!r}")
    stated = [record.protocol.settings.get("runs"), record.task.settings.get("runs")]  # anything, lists too
    if stated != [record.protocol.runs] * 2:
        problems.append("the number of runs is stated differently in different places")
    if record.task.settings.get("samples", record.data.queries) != record.data.queries:
        problems.append(f"{record.data.queries} queries are held, the task states {record.task.settings['samples']}")
    if not set(record.phases) & set(SCORED_PHASES):
        problems.append("no phase is one that is rated")
    expected = set(range(record.data.queries))
    for number in range(record.protocol.runs):
        for phase in record.phases:
            asked = Counter(query for window in blocks.get((number, phase), []) for query in window.queries)
            if set(asked) != expected or max(asked.values(), default=0) > 1:
                problems.append(f"run {number}, {phase}: {len(asked)} of {len(expected)} queries, or some twice")
    strangers = set(blocks) - {(number, phase) for number in range(record.protocol.runs) for phase in record.phases}
    problems += [f"run {number}, {phase[:20]} is not part of the plan" for number, phase in sorted(strangers)]
    problems += [f"{one.metric[:30]} scores {one.queries} answers" for one in record.quality
                 if not 0 <= one.queries <= record.data.queries]  # fmt: skip
    asked = f"{record.protocol.runs} runs of {record.data.queries} queries"
    return judged("coverage", problems, f"{asked}: every query once a phase and run")


def order(run: ClosedRun) -> Check:
    """The queries of every run come in the order that the seed gives it: a copied run has another's."""
    record = run.record
    problems = []
    for (number, phase), windows in sorted(_blocks(run).items()):
        planned = list(range(record.data.queries))
        random.Random(f"{record.protocol.seed}/{number}").shuffle(planned)
        if [query for window in windows for query in window.queries] != planned:
            problems.append(
                f"run {number}, {phase[:20]}: the queries are not in the order of seed {record.protocol.seed}"
            )
        if [window.block for window in windows] != list(range(len(windows))):
            problems.append(f"run {number}, {phase[:20]}: the blocks are not numbered one after the other")
    tries: dict[tuple[int, str, int], list[int]] = defaultdict(list)
    for window in record.windows:
        tries[window.run, window.phase, window.block].append(window.attempt)
    problems += [
        f"run {number}, {phase[:20]}, block {block}: the tries are numbered {str(numbers)[:40]}"
        for (number, phase, block), numbers in tries.items()
        if numbers != list(range(len(numbers)))
    ]
    return judged("order", problems, "the queries of every run are in the order of its seed")


def tokens(run: ClosedRun) -> Check:
    """Tokens in are those of the queries, tokens out those the task states; the same in every run."""
    record = run.record
    lengths = record.data.covariates.get("input_tokens")
    new = record.task.settings.get("new_tokens")
    problems = []
    by_phase: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for (number, phase), windows in sorted(_blocks(run).items()):
        counts = [(window.input_tokens, window.output_tokens) for window in windows]
        if any(value is None for pair in counts for value in pair[:1]) and lengths is None:
            continue
        given = sum(pair[0] or 0 for pair in counts)
        out = sum(pair[1] or 0 for pair in counts)
        by_phase[phase].add((given, out))
        # a special token more or less a query is a matter of counting
        if lengths is not None and abs(given - sum(lengths)) > record.data.queries and any(pair[0] for pair in counts):
            problems.append(f"run {number}, {phase}: {given} tokens in, the queries have {sum(lengths):.0f}")
        stated = {"prefill": 1, "generate": new if isinstance(new, int) else None}.get(phase)
        if stated is not None and any(pair[1] is not None for pair in counts):
            most = stated * record.data.queries
            if out > most or (record.task.name != "reasoning" and out != most):
                problems.append(f"run {number}, {phase}: {out} tokens out, the task states {most}")
    problems += [f"{phase}: the runs differ in their tokens" for phase, seen in by_phase.items() if len(seen) > 1]
    if not by_phase and not problems:
        return undecided("tokens", "the task counts no tokens")
    return judged("tokens", problems, "tokens in and out are those of the queries and of the task")
