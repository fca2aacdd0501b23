"""Fetch and freeze the models and data of a study, and pack it as one archive to share and cite."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import yaml

from energylab import __version__, store, tasks
from energylab.errors import ModelError, StudyError
from energylab.files import cannot_write
from energylab.publish.text import plural
from energylab.record import Record
from energylab.studies.plan import Job, Lock, LockedData, LockedModel, Plan
from energylab.studies.state import Attempt, JobState, Outcome, StudyFolder
from energylab.tasks import hub

#: Files of a model besides its weights.
_SMALL = ("*.json", "*.txt", "*.model", "*.py", "*.jinja", "*.vocab", "*.tiktoken")
_WEIGHTS = (("*.safetensors",), ("*.bin",))

_README = """\
# {title}

A study of energylab {version}: {records} of {jobs}.

- `study.yaml`: the study; `lock.yaml`: frozen revisions of models and data, if they were fetched.
- `JOB_ID/attempt-N/record.json`: the records of all sessions.
- `table.csv`: all sessions as one table; `versions.txt`: versions of the software.

Read it: `energylab.read("{name}")`. Continue it from the folder above: `energylab study status {name} --results .`,
`energylab study run {name} --results .`.
"""


def fetch(plan: Plan, folder: StudyFolder, params: str | None = None) -> Lock:
    """Download every hub model and data set of a study, and freeze their commits in its ``lock.yaml``."""
    folder.prepare(plan)
    models = {(p.model, p.revision) for p in (job.parameters for job in plan.jobs) if p.model_source == "hub"}
    lock = Lock(
        created_utc=datetime.now(UTC).replace(microsecond=0),
        energylab=__version__,
        models=tuple(_fetch_model(*model) for model in sorted(models, key=str)),
        data=tuple(_fetch_data(job, params) for job in _one_a_data_set(plan)),
    )
    lock.write(folder.lock_file)
    return lock


def _fetch_model(model: str, revision: str | None) -> LockedModel:
    commit = hub.resolve_commit(model, revision, "model", ModelError)
    for weights in _WEIGHTS:
        path = hub.snapshot(model, commit, "model", (*_SMALL, *weights), ModelError)
        if any(next(path.rglob(pattern), None) for pattern in weights):
            return LockedModel(model=model, revision=revision, commit=commit)
    raise ModelError(f"model {model!r} at {commit} has no weights (*.safetensors or *.bin); choose another revision")


def _one_a_data_set(plan: Plan) -> list[Job]:
    """Return for each task with hub data the job with most queries."""
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
    """Return records whose model or data has another commit than the lock, one line each."""
    data = {entry.task: entry.commit for entry in lock.data} if lock else {}
    found = []
    for job, record in ((job, state.record) for job, state in states.items() if lock and state.record):
        locked = job.parameters.revision
        if record.model.source == "hub" and record.model.commit not in (None, locked):
            found.append(f"{job.label}: model at {record.model.commit}, locked at {locked}")
        if record.data.source == "hub" and record.data.commit != data.get(record.task.name, record.data.commit):
            found.append(f"{job.label}: data at {record.data.commit}, locked at {data[record.task.name]}")
    return found


def pack(
    plan: Plan, folder: StudyFolder, states: Mapping[Job, JobState], output: Path, authors: tuple[str, ...] = ()
) -> Path:
    """Write one archive of study, lock, versions, records, table and citation; unpacked, it is a study's folder.

    Equal records give equal bytes. All jobs with a record are packed, including invalid ones. By default the authors of
    the citation are those of the study.
    """
    recorded = {f"{job.id}/{state.record_path.parent.name}": state for job, state in states.items() if state.record}
    if not recorded:
        raise StudyError(f"study {plan.name!r} has no records yet; run it first")
    records = [state.record for state in recorded.values()]
    files = {f"{place}/{store.FILE_NAME}": state.record_path.read_bytes() for place, state in recorded.items()}
    files |= {f"{place}/outcome.json": _outcome(state).encode() for place, state in recorded.items()}
    files["study.yaml"] = plan.text.encode()
    if folder.lock_file.is_file():
        files["lock.yaml"] = folder.lock_file.read_bytes()
    files["table.csv"] = _table({f"{place}/{store.FILE_NAME}": state.record for place, state in recorded.items()})
    files["versions.txt"] = versions(records).encode()
    files["CITATION.cff"] = citation(plan, records, authors or plan.study.authors).encode()
    facts = {"name": plan.name, "version": __version__, "records": plural(len(records), "record"),
             "jobs": plural(len(plan.jobs), "planned job")}  # fmt: skip
    files["README.md"] = _README.format(title=plan.study.title or plan.name, **facts).encode()
    try:
        output.write_bytes(archive(files, top=plan.name))
    except OSError as error:
        raise cannot_write(output, error) from error
    return output


def _outcome(state: JobState) -> str:
    """Return the outcome of a packed attempt: finished if the job was done, with the time of its record."""
    known = Attempt(state.record_path.parent).outcome
    end, duration_s = ("interrupted", None) if state.status == "measured" else ("finished", known and known.duration_s)
    ended_utc = state.record.created_utc
    return Outcome(end=end, duration_s=duration_s, ended_utc=ended_utc).model_dump_json(indent=1)


def _table(records: Mapping[str, Record]) -> bytes:
    from energylab.table import record_rows, tidy_frame

    rows = [row for path, record in records.items() for row in record_rows(record, path)]
    return tidy_frame(rows).sort_values("path", kind="stable").to_csv(index=False).encode()


def versions(records: list[Record]) -> str:
    """Return one line per package, ``name==version``; if records differ, one line per version."""
    found = {(name, v) for r in records for name, v in {"python": r.host.python, **r.host.packages}.items() if v}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found))


def citation(plan: Plan, records: list[Record], authors: tuple[str, ...]) -> str:
    """Return a ``CITATION.cff``, dated by the last record."""
    names = [{"name": name} for name in authors] or [{"name": f"Unnamed authors of the study {plan.name}"}]
    return yaml.safe_dump(
        {
            "cff-version": "1.2.0",
            "message": "If you use these measurements, please cite them.",
            "type": "dataset",
            "title": plan.study.title or plan.name,
            "authors": names,
            "date-released": max(record.created_utc for record in records).date(),
            "abstract": f"{plural(len(records), 'energy measurement')} of AI models with energylab {__version__}.",
        },
        sort_keys=False,
        allow_unicode=True,
    )


def archive(files: Mapping[str, bytes], top: str) -> bytes:
    """Return a ``.tar.gz`` of `files` under one folder, the same bytes for the same content."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size = len(files[name])
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return packed.getvalue()
