"""What a person sees while a study runs: how far, how long still, how much energy so far."""

from __future__ import annotations

import statistics
import textwrap
import time
from collections import Counter, defaultdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from energylab.energy import J_PER_WH
from energylab.record import Record
from energylab.studies.folder import JobState
from energylab.studies.plan import Job


def spent_j(record: Record) -> float:
    """Return all energy that a session is known to have used: windows, valid or not, warm-up and idle, in joules."""
    parts = [window.energy_j for window in record.windows] + [level.energy_j for level in record.idle]
    parts += [record.warm_up.energy_j] if record.warm_up else []
    return sum(part for part in parts if part is not None)


def spent_by_kind(states: dict[Job, JobState]) -> dict[str, float]:
    """Return the energy spent by all records, in joules, by energy kind: kinds are never added up."""
    total: dict[str, float] = defaultdict(float)
    for state in states.values():
        if state.record is not None:
            total[state.record.energy_kind] += spent_j(state.record)
    return dict(total)


def time_left_s(durations_s: list[float], left: int, parallel: int = 1) -> float | None:
    """Return the time that `left` jobs will take, judged by those that ended; None before the first has."""
    if not durations_s:
        return None
    return statistics.fmean(durations_s) * left / max(parallel, 1)


def format_energy(joules: dict[str, float]) -> str:
    """Write energies with their kind: ``1.25 Wh estimated``."""
    return " + ".join(f"{j / J_PER_WH:.3g} Wh {kind}" for kind, j in sorted(joules.items())) or "no energy yet"


def format_time(seconds: float | None) -> str:
    """Write a duration as people say it; a question mark when it is unknown."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def plain_console() -> Console:
    """Return a console that prints text as it is; wide where nobody watches, so that a log keeps its lines."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, markup=False, soft_wrap=True, width=160)


def brief(reason: str) -> str:
    """Return a reason on one line of at most 200 characters; the files of the job have all of it."""
    return textwrap.shorten(reason, 200, placeholder=" …")


class Watch:
    """Progress bar on a terminal, one line a job elsewhere.

    Parameters
    ----------
    states : dict of Job to JobState
        State before the run.
    parallel : int
        Jobs that run at once.
    console : rich.console.Console, optional
        Where to write.
    """

    def __init__(self, states: dict[Job, JobState], parallel: int = 1, console: Console | None = None) -> None:
        self.states = dict(states)
        self.parallel = parallel
        self.console = console or plain_console()
        self._started: dict[str, float] = {}
        self._durations: list[float] = []
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("jobs", total=len(states), completed=self._over(), note="")

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def __call__(self, event: str, job: Job, state: JobState) -> None:
        """Take note of one event of `energylab.studies.runner.run`."""
        now = time.monotonic()
        self.states[job] = state
        if event == "start":
            self._started[job.id] = now
            return
        self._durations.append(now - self._started.get(job.id, now))
        left = len(self.states) - self._over()
        time_left = format_time(time_left_s(self._durations, left, self.parallel))
        note = f"{time_left} left, {format_energy(spent_by_kind(self.states))}"
        word = "again" if event == "retry" else state.status
        reason = f": {brief(state.reason)}" if state.reason else ""
        self.console.print(
            f"{word:>8}  {job.label}  ({self._durations[-1]:.1f} s){reason}", highlight=False, markup=False
        )
        self._bar.update(self._task, completed=self._over(), note=note)

    def _over(self) -> int:
        return sum(state.status in ("done", "failed", "invalid") for state in self.states.values())


def print_counts(console: Console, states: dict[Job, JobState]) -> None:
    """Print how many jobs are in each state, and the energy of all records by kind."""
    counts = Counter(state.status for state in states.values())
    order = ("done", "measured", "running", "failed", "invalid", "left")
    text = ", ".join(f"{counts[status]} {status}" for status in order if counts[status])
    console.print(f"{len(states)} jobs: {text}; {format_energy(spent_by_kind(states))} spent", highlight=False)
