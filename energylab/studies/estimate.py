"""Estimated time and energy of a study's jobs, with the source of each estimate."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from energylab import tasks
from energylab.energy import J_PER_WH
from energylab.errors import EnergylabError
from energylab.publish.text import plural
from energylab.record import Record
from energylab.studies.plan import Job
from energylab.studies.state import JobState

#: Assumed mean power of a board at batch size 1, to compute a time from a published energy; shown with the estimate.
ASSUMED_POWER_W = 250.0

#: Model sources with the published architecture; random weights need about the same energy.
PUBLISHED_SHAPES = ("hub", "random")

#: Sources of estimates in words.
BASES = {
    "records": "estimated from records of the same jobs in this study",
    "published": f"estimated from the published energy of the architecture (one H100), and {ASSUMED_POWER_W:g} W",
    "similar": "estimated from records of other models on the same task in this study",
    "floor": "without an estimate; the time shown is a lower bound without loading",
}


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of one job: seconds, joules (None if unknown), and a key of `BASES` as source."""

    time_s: float
    energy_j: float | None
    basis: str


def estimates(states: Mapping[Job, JobState], on_gpu: bool) -> dict[Job, Estimate]:
    """Estimate every job of a study from its records so far and, on a GPU, from published figures."""
    known: dict[str, list[tuple[float, float]]] = defaultdict(list)  # seconds and joules, by setting and by task
    for job, state in states.items():
        if state.record is not None:
            for key in (_setting(job), job.parameters.task):
                known[key].append((session_s(state.record), spent_j(state.record)))
    published = published_j_per_query() if on_gpu else {}
    return {job: _estimate(job, known, published) for job in states}


def _setting(job: Job) -> str:
    """Return a key that is equal for all repeats of one job."""
    return job.parameters.model_copy(update={"repeat": 0}).job_id


def _estimate(job: Job, known: Mapping, published: Mapping[tuple[str, str], float]) -> Estimate:
    p = job.parameters
    windows_s = p.runs * phases(p.task, p.params) * p.window_s
    floor_s = p.warm_up_min_s + 3 * p.idle_s + windows_s
    if sessions := known.get(_setting(job)):
        return Estimate(*map(statistics.fmean, zip(*sessions, strict=True)), "records")
    if p.model_source in PUBLISHED_SHAPES and p.device != "cpu" and (p.task, p.model) in published:
        # queries that take less than a window are repeated until it is full
        energy_j = max(published[p.task, p.model] * p.samples * p.runs, ASSUMED_POWER_W * windows_s)
        return Estimate(energy_j / ASSUMED_POWER_W + floor_s - windows_s, energy_j, "published")
    if sessions := known.get(p.task):
        return Estimate(*map(statistics.fmean, zip(*sessions, strict=True)), "similar")
    return Estimate(floor_s, None, "floor")


@cache
def phases(task: str, params: str | None = None) -> int:
    """Return the number of phases of a task; 1 if the task is not installed here."""
    try:
        return len(tasks.load_settings(task, params)[0].phases)
    except EnergylabError:
        return 1


def session_s(record: Record) -> float:
    """Return the duration of a session from its first to its last reading, without loading.

    Times of windows start after loading, so they include idle power with the weights and the warm-up.
    """
    ends = [w.start_s + w.duration_s for w in record.windows if None not in (w.start_s, w.duration_s)]
    return max(ends, default=0.0) + sum(level.duration_s for level in record.idle if level.level != "weights_resident")


def spent_j(record: Record) -> float:
    """Return the known energy of a session in joules: all windows, warm-up and idle levels."""
    parts = [window.energy_j for window in record.windows] + [level.energy_j for level in record.idle]
    parts += [record.warm_up.energy_j] if record.warm_up else []
    return sum(part for part in parts if part is not None)


@cache
def published_j_per_query() -> dict[tuple[str, str], float]:
    """Return the published energy of one query in joules by task and hub id; the mean if it was published twice."""
    from energylab import published

    table = published.load()
    table = table.assign(model=table["hub_id"].fillna(table["model"]), j=table["energy_j"] / table["queries"])
    return table.groupby(["task", "model"])["j"].mean().to_dict()


def summary_lines(parts: Iterable[Estimate]) -> list[str]:
    """Return the total cost of several jobs on one device, and the sources of the estimates."""
    parts = list(parts)
    known = [part.energy_j for part in parts if part.energy_j is not None]
    bases = Counter(part.basis for part in parts)
    about = "at least" if "floor" in bases else "about"
    energy = [f"about {sum(known) / J_PER_WH / 1000:.3g} kWh"] if known else []
    energy += [f"{jobs(len(parts) - len(known))} of unknown energy"] if len(known) < len(parts) else []
    time_s = sum(part.time_s for part in parts)
    total = f"{jobs(len(parts))} to do: {about} {format_time(time_s)} on one device at a time, {' and '.join(energy)}"
    return [total, *(f"  {jobs(count)} {BASES[basis]}" for basis, count in bases.items())]


def jobs(count: int) -> str:
    """Return a number of jobs in words."""
    return plural(count, "job")


def format_time(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
