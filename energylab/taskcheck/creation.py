"""Creating the task does no work: thousands may be created to plan a study."""

from __future__ import annotations

from collections.abc import Iterator

from energylab.taskcheck.bench import Bench
from energylab.taskcheck.report import Problem
from energylab.taskcheck.watch import watched

ASKS = "creating the task touches no disk, no network and no model"


def look(bench: Bench) -> Iterator[Problem]:
    """Watch one creation."""
    bench.make()  # modules are imported by now
    parameters = bench.parameters()
    with bench.theirs("it is created"), watched(bench.family, {}) as seen:
        bench.family(bench.settings, parameters)
    mend = "move this work to load_rows, load or ready: they are called once a session, outside every window"
    for what in dict.fromkeys(seen.foreign):
        yield Problem(f"creating the task {what}", mend)
    if seen.model_calls:
        yield Problem("creating the task runs a model", mend)
