"""A study file and its jobs: parsing, checks, ids, random order, frozen revisions."""

from __future__ import annotations

import ast
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from energylab import tasks
from energylab.errors import ParameterError, StudyError, problem_text, unknown_name
from energylab.files import read_yaml, write_whole
from energylab.parameters import Parameters
from energylab.paths import params_root, shipped
from energylab.record import Record
from energylab.tasks.architectures import find_architecture

#: Parameters that the study sets for each job, so that a study file may not set them.
GIVEN_BY_STUDY = ("repeat", "attempt", "output_folder", "record", "params")


class SlurmSettings(BaseModel):
    """Slurm settings of a study's jobs; fields have the meaning of Slurm's options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str | None = None  # partition to submit to
    account: str | None = None  # account to charge
    qos: str | None = None  # quality of service
    constraint: str | None = None  # required features of a node
    gres: str | None = Field(None, description="GRES of one GPU, e.g. gpu:h100; the number of GPUs is appended")
    exclusive: bool = Field(True, description="no other job on the node, since it would influence the energy")
    time_limit_min: int = Field(240, ge=1)  # of one job, in minutes
    cpus: int = Field(4, ge=1)  # processors per job
    memory_gb: int | None = Field(None, ge=1)  # memory per job; None: the cluster's default
    max_parallel: int = Field(16, ge=1, description="jobs of the study that may run at the same time")
    signal_delay_s: int = Field(90, ge=1, description="warning before the time limit, so that the job can be requeued")
    setup: tuple[str, ...] = Field((), description="shell lines before each job: modules, environment")


class StudyFile(BaseModel):
    """The content of ``params/studies/NAME.yaml``.

    A sweep maps parameter names to a value or a list of values; every combination is one job. An item of a list may be
    a mapping, which sets several parameters together; ``settings`` is a list of such mappings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""  # shown to readers
    authors: tuple[str, ...] = ()  # for the citation of its archive
    seed: int = 0  # of the random order of jobs
    repeats: int = Field(1, ge=1)  # sessions of every setting
    notebook: str = "notebooks/01-benchmark.ipynb"  # executed by every job
    parameters: dict[str, Any] = {}  # of every job, unless a sweep sets another value
    sweeps: tuple[dict[str, Any], ...] = ()  # one job per combination of values
    include: tuple[dict[str, Any], ...] = ()  # further single jobs
    exclude: tuple[dict[str, Any], ...] = ()  # jobs that match all values of one mapping are left out
    time_limit_s: float | None = Field(None, gt=0)  # of one job
    slurm: SlurmSettings = SlurmSettings()  # settings for Slurm


@dataclass(frozen=True)
class Job:
    """One session that a study plans."""

    id: str
    parameters: Parameters = field(compare=False)
    values: dict[str, Any] = field(compare=False)
    setting: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Task, model, settings and repeat in a few words."""
        repeat = f"repeat {self.parameters.repeat}" if self.parameters.repeat else ""
        parts = (self.parameters.task_name, self.parameters.model, self.setting, repeat)
        return " · ".join(part for part in parts if part)

    def owns(self, record: Record) -> bool:
        """Whether a record belongs to this job, at any revision of the model."""
        at = self.parameters.model_copy(update={"revision": record.parameters.get("revision")})
        return record.job_id in (self.id, self.parameters.job_id, at.job_id)


@dataclass(frozen=True)
class Plan:
    """The jobs of a study in the order of execution."""

    name: str
    study: StudyFile
    text: str
    jobs: tuple[Job, ...]
    duplicates: tuple[Job, ...] = ()
    source: Path | None = None

    @cached_property
    def notebook(self) -> Path:
        """The executed notebook: in the working folder or above, in the repository, or in the installed package."""
        here = Path.cwd()
        for path in (*(folder / self.study.notebook for folder in (here, *here.parents)), shipped(self.study.notebook)):
            if path.is_file():
                return path.resolve()
        raise StudyError(
            f"notebook {self.study.notebook!r} is neither in {here} nor in a folder above; correct its path"
        )


def load(path: str | Path, name: str | None = None, params: str | Path | None = None,
         results: str | Path = "results") -> Plan:  # fmt: skip
    """Read a study file, by its path or its name in ``params/studies/`` or in `results`, and plan its jobs.

    The parameters of every job are checked; `check` also compares them with notebook and tasks.
    """
    file = find(path, params, results)
    name = name or (file.resolve().parent.name if file.name == "study.yaml" else file.stem)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise StudyError(f"study name {name!r}: use only letters, digits, '.', '_' and '-' (it names a folder)")
    return from_text(_text_of(file), name, file)


def from_text(text: str, name: str, source: Path | None = None) -> Plan:
    """Plan the jobs of a study from its text."""
    study = parse(text, source or name)
    jobs, duplicates = expand(study)
    return Plan(name, study, text, order(jobs, study.seed), duplicates, source)


def check(plan: Plan, params: str | Path | None = None) -> None:
    """Check a plan against the notebook's parameters, the tasks and the architectures, before anything starts."""
    own = notebook_parameters(plan.notebook)
    wanted = {name for job in plan.jobs for name in job.values} | {"output_folder", "attempt", "record"}
    for name in sorted(wanted - own):  # papermill would only log it
        raise unknown_name("parameter", name, own, f"{plan.notebook.name} does not have it")
    names = sorted({job.parameters.task for job in plan.jobs})
    folders = {name: tasks.load_settings(name, params)[1].architectures for name in names}
    random = [job.parameters for job in plan.jobs if job.parameters.model_source == "random"]
    for task, model in sorted({(p.task, p.model) for p in random}):
        find_architecture(model, params, folders[task])


def find(path: str | Path, params: str | Path | None = None, results: str | Path = "results") -> Path:
    """Return the study file for a path, a name in ``params/studies/``, or a study that was run or unpacked."""
    path, folder = Path(path), params_root(params) / "studies"
    named = [folder / f"{path.name.removesuffix('.yaml')}.yaml", Path(results) / path.name / "study.yaml"]
    for file in (path, *(named if path.parent == Path() else ())):
        if file.is_file():
            return file
    known = sorted({file.stem for file in folder.glob("*.yaml")} | {f.parent.name for f in run_studies(results)})
    raise unknown_name("study", str(path), known, "give the path of a study's YAML file, or one of these names")


def run_studies(results: str | Path) -> list[Path]:
    """Return the study files of all studies with a folder."""
    return sorted(Path(results).glob("*/study.yaml"))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not a text in UTF-8 ({error.reason}); name a study's YAML file") from None
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror}; name a study's YAML file") from error


def parse(text: str, source: str | Path = "study") -> StudyFile:
    """Read the YAML text of a study."""
    content = read_yaml(text, source)
    if not isinstance(content, dict):
        raise StudyError(f"{source}: a study must be a mapping with keys among {', '.join(StudyFile.model_fields)}")
    unknown = [key for key in content if key not in StudyFile.model_fields]
    if unknown:
        raise StudyError(f"{source}: {unknown_name('key', str(unknown[0]), StudyFile.model_fields)}")
    try:
        study = StudyFile.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(_explained(problem) for problem in error.errors())
        raise StudyError(f"{source}: {problems}") from None
    if not study.sweeps and not study.include:
        raise StudyError(f"{source}: no jobs; write at least one mapping under sweeps or include")
    return study


def _explained(problem: Any) -> str:
    """Return the message for one wrong key of a study file, with its value."""
    key, value = ".".join(map(str, problem["loc"])), problem["input"]
    if isinstance(value, Mapping) and key in ("sweeps", "include", "exclude"):
        return f"{key}: must be a list of mappings, each with a dash (- task: …), but is a single mapping"
    return f"{key}={value!r}: {problem_text(problem)}"


def expand(study: StudyFile) -> tuple[list[Job], tuple[Job, ...]]:
    """Turn sweeps into jobs: combinations, then exclude, then include, each `repeats` times."""
    rows = [row for sweep in study.sweeps for row in combinations({**study.parameters, **sweep})]
    rows = [row for row in rows if not any(_matches(row, pattern) for pattern in study.exclude)]
    rows += [row for single in study.include for row in combinations({**study.parameters, **single})]
    jobs: dict[str, Job] = {}
    duplicates = []
    for repeat, row in itertools.product(range(study.repeats), rows):
        job = _job(row, repeat, study.parameters)
        if job.id in jobs:
            duplicates.append(job)
        jobs.setdefault(job.id, job)
    return list(jobs.values()), tuple(duplicates)


def combinations(sweep: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one mapping of plain values for every combination of the lists in `sweep`."""
    axes = []
    for name, value in sweep.items():
        items = value if isinstance(value, list) else [value]
        if not items:
            raise StudyError(f"{name}: an empty list gives no jobs; remove it or add a value")
        axes.append([item if isinstance(item, dict) else {name: item} for item in items])
    for chosen in itertools.product(*axes):
        yield {name: value for part in chosen for name, value in part.items()}


def order(jobs: list[Job], seed: int) -> tuple[Job, ...]:
    """Put jobs in random order within each repeat, so that drift of the machine does not affect single models.

    The order depends only on the seed and the jobs' ids, not on the layout of the file.
    """
    ordered: list[Job] = []
    by_repeat = sorted(jobs, key=lambda job: (job.parameters.repeat, job.id))
    for repeat, block in itertools.groupby(by_repeat, key=lambda job: job.parameters.repeat):
        shuffled = list(block)
        random.Random(f"{seed}/{repeat}").shuffle(shuffled)
        ordered += shuffled
    return tuple(ordered)


def _job(row: dict[str, Any], repeat: int, shared: Mapping[str, Any]) -> Job:
    given = [name for name in GIVEN_BY_STUDY if name in row]
    if given:
        raise ParameterError(f"parameter {given[0]}={row[given[0]]!r} is set by the study itself; remove it")
    values = {**row, "repeat": repeat}
    try:
        parameters = Parameters.check(values)
    except ParameterError as error:
        raise ParameterError(f"{row.get('task', '?')} · {row.get('model', '?')}: {error}") from None
    missing = [name for name in ("task", "model") if not row.get(name)]
    if missing:  # otherwise the notebook's default would be measured
        raise StudyError(f"a job without {' and '.join(missing)}: {row}; add it to its sweep")
    setting = ", ".join(f"{n}={v}" for n, v in row.items() if n not in ("task", "model") and shared.get(n) != v)
    return Job(parameters.job_id, parameters, values, setting)


def _matches(row: Mapping[str, Any], pattern: Mapping[str, Any]) -> bool:
    unknown = [name for name in pattern if name not in Parameters.model_fields]
    if unknown:
        raise StudyError(f"exclude: {unknown_name('parameter', unknown[0], Parameters.model_fields)}")
    return all(
        row.get(name) in wanted if isinstance(wanted, list) else row.get(name) == wanted
        for name, wanted in pattern.items()
    )


def notebook_parameters(notebook: Path) -> set[str]:
    """Return the names assigned in the notebook's parameters cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8")).get("cells", ())
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    if not tagged:
        raise StudyError(f"{notebook}: no cell has the tag 'parameters', so it takes no parameters; tag one")
    body = ast.walk(ast.parse("".join(tagged[0]["source"])))
    assigned = [node for node in body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = (t for node in assigned for t in (node.targets if isinstance(node, ast.Assign) else [node.target]))
    return {target.id for target in targets if isinstance(target, ast.Name)}


class LockedModel(BaseModel):
    """A model at the commit that was fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    revision: str | None  # as stated in the study
    commit: str


class LockedData(BaseModel):
    """A task's data set at the commit that was fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    name: str
    commit: str | None
    digest: str  # of the rows used


class Lock(BaseModel):
    """The content of ``results/NAME/lock.yaml``: frozen revisions, at which jobs run offline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    created_utc: datetime
    energylab: str
    models: tuple[LockedModel, ...] = ()
    data: tuple[LockedData, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Lock | None:
        """Return the lock in a file, or None if nothing was fetched."""
        if not path.is_file():
            return None
        try:
            return cls.model_validate(read_yaml(path.read_text(encoding="utf-8"), path))
        except ValidationError as error:
            raise StudyError(f"{path} is not a lock: {error}; fetch again") from error

    def write(self, path: Path) -> None:
        """Write the lock."""
        write_whole(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def freeze(plan: Plan, lock: Lock | None) -> Plan:
    """Return the plan with every hub model at its frozen commit; the jobs keep their ids."""
    if lock is None:
        return plan
    commits = {(entry.model, entry.revision): entry.commit for entry in lock.models}
    return replace(plan, jobs=tuple(_frozen(job, commits) for job in plan.jobs))


def _frozen(job: Job, commits: Mapping[tuple[str, str | None], str]) -> Job:
    p = job.parameters
    if p.model_source != "hub":
        return job
    if (p.model, p.revision) not in commits:
        raise StudyError(
            f"model {p.model!r} (revision {p.revision}) is not in lock.yaml, because the study was changed; run "
            "`energylab study fetch` again"
        )
    commit = commits[p.model, p.revision]
    parameters = p.model_copy(update={"revision": commit})
    return replace(job, parameters=parameters, values={**job.values, "revision": commit})
