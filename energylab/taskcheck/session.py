"""A short session, from the queries to the record, by the protocol itself."""

from __future__ import annotations

from collections.abc import Iterator

from energylab import measuring
from energylab.energy import scored_totals
from energylab.errors import EnergylabError
from energylab.record import SCORED_PHASES, Record
from energylab.taskcheck.bench import Bench
from energylab.taskcheck.report import Problem, Unseen
from energylab.tasks import unused as unused_of

ASKS = "a short session leaves a record: every phase measured, every query answered, and it reads back as it was"

#: Seconds: a session that is over at once, by the meter that every machine has. Its energies are not looked at.
_SHORT = {"window_s": 0.05, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.3}


def look(bench: Bench) -> Iterator[Problem | Unseen]:
    """Measure a few queries once, and look at what is left."""
    unused = dict.fromkeys(unused_of(bench.parameters(), bench.family))
    parameters = bench.parameters(samples=4, runs=1, meter="estimate", **_SHORT, **unused)
    with bench.theirs("a session is measured"):
        record = measuring.measure(parameters=parameters)
    failed = {failure.message for window in record.windows for failure in window.failures}
    for message in sorted(failed):
        yield Problem(f"a query failed inside a window: {message}", "let check_row refuse such a row beforehand")
    if "unscored" in record.extra:
        mend = "let answers(), score() and extra() go without an error, and return plain numbers and texts"
        yield Problem(f"the answers of a session were not scored: {record.extra['unscored']}", mend)
    if not failed:
        yield from _totals(record)
    yield from _reads_back(record)


def _totals(record: Record) -> Iterator[Problem | Unseen]:
    rated = {total.phase for total in scored_totals(record) if total.valid}
    lost = [phase for phase in record.phases if phase in SCORED_PHASES and phase not in rated]
    if lost and not record.valid:
        yield Unseen(f"{', '.join(lost)} has no total on this machine just now: {'; '.join(record.reasons)}")
    elif lost:
        yield Problem(f"{', '.join(lost)} is rated and was not measured", "name every phase once in phases")


def _reads_back(record: Record) -> Iterator[Problem]:
    try:
        same = Record.model_validate_json(record.model_dump_json()).digest() == record.digest()
    except (ValueError, TypeError, EnergylabError) as error:
        yield Problem(f"the record cannot be written: {error}", "let extra() return plain numbers and texts")
        return
    if not same:
        mend = "let extra() and resolved_settings() return plain numbers, texts, lists and mappings"
        yield Problem("the record does not read back as it was", mend)
