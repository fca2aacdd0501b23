"""Revisions of models and data, fetched and frozen, so that jobs run offline and mean the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from energylab import __version__, tasks
from energylab.errors import ModelError, StudyError
from energylab.studies.files import write_whole
from energylab.studies.folder import JobState, StudyFolder
from energylab.studies.plan import Job, Plan
from energylab.tasks import hub

#: Told to every job of a locked study: nothing is asked of the hub.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

#: Files of a model besides its weights.
_SMALL = ("*.json", "*.txt", "*.model", "*.py", "*.jinja", "*.vocab", "*.tiktoken")
_WEIGHTS = (("*.safetensors",), ("*.bin",))


class LockedModel(BaseModel):
    """A model at the commit that was fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    revision: str | None  # as the study asks for it
    commit: str


class LockedData(BaseModel):
    """A task's data set at the commit that was fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    name: str
    commit: str | None
    digest: str  # of the rows used


class Lock(BaseModel):
    """The content of ``results/NAME/lock.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    created_utc: datetime
    energylab: str
    models: tuple[LockedModel, ...] = ()
    data: tuple[LockedData, ...] = ()


def read(folder: StudyFolder) -> Lock | None:
    """Return the study's lock, or None when nothing was fetched.

    Raises
    ------
    StudyError
        If the file is not a lock.
    """
    if not folder.lock_file.is_file():
        return None
    try:
        return Lock.model_validate(yaml.safe_load(folder.lock_file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise StudyError(f"{folder.lock_file} is not a lock: {error}; fetch again") from error


def apply(plan: Plan, lock: Lock | None) -> Plan:
    """Return the plan with every hub model at its frozen commit; a job at another commit is another job.

    Raises
    ------
    StudyError
        If the study names a model that was not fetched.
    """
    if lock is None:
        return plan
    commits = {(entry.model, entry.revision): entry.commit for entry in lock.models}
    return replace(plan, jobs=tuple(_locked(job, commits) for job in plan.jobs))


def _locked(job: Job, commits: Mapping[tuple[str, str | None], str]) -> Job:
    p = job.parameters
    if p.model_source != "hub":
        return job
    if (p.model, p.revision) not in commits:
        raise StudyError(
            f"model {p.model!r} (revision {p.revision}) is not in lock.yaml; the study has changed, fetch again"
        )
    commit = commits[p.model, p.revision]
    parameters = p.model_copy(update={"revision": commit})
    return replace(job, id=parameters.job_id, parameters=parameters, values={**job.values, "revision": commit})


def environment(lock: Lock | None) -> dict[str, str]:
    """Return what the jobs of a study are told: a locked one runs offline."""
    return dict(OFFLINE) if lock is not None else {}


def fetch(plan: Plan, folder: StudyFolder, params: str | None = None) -> Lock:
    """Download every hub model and data set of a study, and freeze their commits.

    Parameters
    ----------
    plan : Plan
        As loaded, without a lock applied.
    folder : StudyFolder
        Gets ``lock.yaml``.
    params : str, optional
        Folder laid out like ``params/``.

    Returns
    -------
    Lock

    Raises
    ------
    ModelError, DataError
        If one is missing, gated or not reachable; what has arrived is kept.
    """
    folder.prepare(plan)
    models = {(p.model, p.revision) for p in (job.parameters for job in plan.jobs) if p.model_source == "hub"}
    lock = Lock(
        created_utc=datetime.now(UTC).replace(microsecond=0),
        energylab=__version__,
        models=tuple(_fetch_model(*model) for model in sorted(models, key=str)),
        data=tuple(_fetch_data(job, params) for job in _one_a_data_set(plan)),
    )
    content = lock.model_dump(mode="json")
    write_whole(folder.lock_file, yaml.safe_dump(content, sort_keys=False))
    return lock


def _fetch_model(model: str, revision: str | None) -> LockedModel:
    commit = hub.resolve_commit(model, revision, "model", ModelError)
    for weights in _WEIGHTS:
        path = hub.snapshot(model, commit, "model", (*_SMALL, *weights), ModelError)
        if any(next(path.rglob(pattern), None) for pattern in weights):
            return LockedModel(model=model, revision=revision, commit=commit)
    raise ModelError(f"model {model!r} at {commit} holds no weights (*.safetensors or *.bin)")


def _one_a_data_set(plan: Plan) -> list[Job]:
    """Return, for each task with hub data, the job that asks most queries of it."""
    largest: dict[str, Job] = {}
    for job in plan.jobs:
        p = job.parameters
        if p.data_source == "hub" and (p.task not in largest or p.samples > largest[p.task].parameters.samples):
            largest[p.task] = job
    return [largest[task] for task in sorted(largest)]


def _fetch_data(job: Job, params: str | None) -> LockedData:
    _, facts = tasks.load_task(job.parameters.model_copy(update={"params": params})).load_rows()
    return LockedData(task=job.parameters.task_name, name=facts.name, commit=facts.commit, digest=facts.digest)


def strays(lock: Lock | None, states: Mapping[Job, JobState]) -> list[str]:
    """Return records measured on another commit of the data than the lock's, one line each."""
    commits: dict[str, Any] = {entry.task: entry.commit for entry in lock.data} if lock else {}
    records = (state.record for state in states.values() if state.record is not None)
    return [
        f"{r.task.name} · {r.model.name}: data at {r.data.commit}, locked at {commits[r.task.name]}"
        for r in records
        if r.data.source == "hub" and r.task.name in commits and r.data.commit != commits[r.task.name]
    ]
