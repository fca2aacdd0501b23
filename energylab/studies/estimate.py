"""What a study will cost: time and energy of each job, and where each figure comes from."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from energylab import tasks
from energylab.errors import EnergylabError
from energylab.record import Record
from energylab.studies.folder import JobState
from energylab.studies.plan import Job
from energylab.studies.progress import spent_j

#: Mean power of a board at batch size 1, to turn a published energy into a time: an assumption, said where it is used.
ASSUMED_POWER_W = 250.0

#: Model sources whose shape is the published model's; random weights of one shape cost about the same.
PUBLISHED_SHAPES = ("hub", "random")

Session = tuple[float, float]  # duration in seconds, energy in joules


@dataclass(frozen=True)
class Estimate:
    """What one job is likely to cost.

    Attributes
    ----------
    time_s : float
        Duration of the session.
    energy_j : float or None
        Energy of the session; None where nothing is known of it.
    basis : str
        ``records``: sessions of the same task, model and settings in this study; ``published``: the published figure
        of the model or of the one whose shape it has, and `ASSUMED_POWER_W`; ``similar``: sessions of other models on
        the same task in this study; ``floor``: no less than the protocol's windows, idle and warm-up take.
    """

    time_s: float
    energy_j: float | None
    basis: str


def estimates(states: Mapping[Job, JobState]) -> dict[Job, Estimate]:
    """Estimate every job of a study.

    Parameters
    ----------
    states : mapping of Job to JobState
        The plan's jobs, with the records there are.

    Returns
    -------
    dict of Job to Estimate
    """
    same, similar = _sessions(states, _setting), _sessions(states, lambda job: job.parameters.task)
    published = published_j_per_query()
    return {job: _estimate(job, same, similar, published) for job in states}


def _sessions(states: Mapping[Job, JobState], key: Callable[[Job], str]) -> dict[str, list[Session]]:
    known = defaultdict(list)
    for job, state in states.items():
        if state.record is not None:
            known[key(job)].append((session_s(state.record), spent_j(state.record)))
    return known


def _setting(job: Job) -> str:
    """Return what two repeats of one job share."""
    return job.parameters.model_copy(update={"repeat": 0}).job_id


def _estimate(
    job: Job,
    same: Mapping[str, list[Session]],
    similar: Mapping[str, list[Session]],
    published: Mapping[tuple[str, str], float],
) -> Estimate:
    p = job.parameters
    floor_s = floor_time_s(job)
    if sessions := same.get(_setting(job)):
        return _mean(sessions, "records")
    if p.model_source in PUBLISHED_SHAPES and (p.task, p.model) in published:
        # queries that take less than a window are repeated until it is full
        energy_j = max(published[p.task, p.model] * p.samples * p.runs, ASSUMED_POWER_W * windows_s(job))
        return Estimate(energy_j / ASSUMED_POWER_W + floor_s - windows_s(job), energy_j, "published")
    if sessions := similar.get(p.task):
        return _mean(sessions, "similar")
    return Estimate(floor_s, None, "floor")


def _mean(sessions: list[Session], basis: str) -> Estimate:
    time_s, energy_j = (statistics.fmean(values) for values in zip(*sessions, strict=True))
    return Estimate(time_s, energy_j, basis)


def floor_time_s(job: Job) -> float:
    """Return the time that the protocol takes at least: warm-up, three idle levels, a window a phase and run."""
    return job.parameters.warm_up_min_s + 3 * job.parameters.idle_s + windows_s(job)


def windows_s(job: Job) -> float:
    """Return the time of a session's windows at least: one a phase and run."""
    p = job.parameters
    return p.runs * phases(p.task, p.params) * p.window_s


@cache
def phases(task: str, params: str | None = None) -> int:
    """Return how many phases a task measures; one when the task is not installed here."""
    try:
        return len(tasks.load_settings(task, params)[0].phases)
    except EnergylabError:
        return 1


def session_s(record: Record) -> float:
    """Return how long a session took, from its first reading to its last, loading left out.

    Windows are timed from the moment the model was there: rest with its weights and the warm-up lie within.
    """
    ends = [w.start_s + w.duration_s for w in record.windows if None not in (w.start_s, w.duration_s)]
    return max(ends, default=0.0) + sum(level.duration_s for level in record.idle if level.level != "weights_resident")


@cache
def published_j_per_query() -> dict[tuple[str, str], float]:
    """Return the published energy of one query in joules by task and hub id; the mean where it was published twice."""
    from energylab import published

    table = published.load()
    table = table.assign(model=table["hub_id"].fillna(table["model"]), j=table["energy_j"] / table["queries"])
    return table.groupby(["task", "model"])["j"].mean().to_dict()


@dataclass(frozen=True)
class Total:
    """The cost of several jobs.

    Attributes
    ----------
    time_s : float
        On one device at a time; divided by the devices it is a lower bound.
    energy_j : float
        Of the jobs whose energy is known.
    unknown : int
        Jobs whose energy is not.
    by_basis : dict of str to int
        Jobs by the basis of their estimate.
    """

    time_s: float
    energy_j: float
    unknown: int
    by_basis: dict[str, int]


def total(parts: Iterable[Estimate]) -> Total:
    """Add up estimates."""
    parts = list(parts)
    bases = [part.basis for part in parts]
    return Total(
        time_s=sum(part.time_s for part in parts),
        energy_j=sum(part.energy_j for part in parts if part.energy_j is not None),
        unknown=sum(part.energy_j is None for part in parts),
        by_basis={basis: bases.count(basis) for basis in dict.fromkeys(bases)},
    )
