"""The model and the queries load."""

from __future__ import annotations

from collections.abc import Iterator

from energylab.devices import resolve_devices
from energylab.errors import EnergylabError
from energylab.protocol.workload import checked_phases
from energylab.taskcheck.bench import Bench
from energylab.taskcheck.report import Problem

ASKS = "queries and model load, and an unknown model is refused by name"


def look(bench: Bench) -> Iterator[Problem]:
    """Load it, look at its phases and its facts, and ask for a model that is not there."""
    task, rows = bench.loaded
    with bench.theirs("its phases are looked up"):
        checked_phases(task)
    counts = bench.call("covariates", task.covariates, rows)
    for name, values in counts.items():
        if len(values) != len(rows):
            mend = "return exactly one number a row, in the order of the rows"
            yield Problem(f"covariates[{name!r}] has {len(values)} values for {len(rows)} queries", mend)
    stranger = bench.make(model="no-such-architecture")
    try:
        stranger.check("cpu", resolve_devices("cpu", 1))
    except EnergylabError:
        return
    mend = (
        "let check() find the model as energylab.tasks.models.prepare does, so that a wrong name ends a session early"
    )
    yield Problem("check() accepts a model that does not exist", mend)
