"""One archive of a study, to share and to cite."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import yaml

from energylab import __version__, store
from energylab.errors import StudyError
from energylab.record import Record
from energylab.studies.files import cannot_write
from energylab.studies.folder import JobState, StudyFolder
from energylab.studies.plan import Job, Plan

_README = """\
# {title}

A study of energylab {version}: {records} records of {jobs} planned jobs.

- `study.yaml`: what was planned; `lock.yaml`: frozen revisions of models and data, where they were fetched.
- `records/JOB_ID/record.json`: each session in full.
- `table.csv`: all of them as one table; `versions.txt`: the software that measured.

Read it: `energylab.read("records")`. Run it again: `energylab study run study.yaml`.
"""


def pack(
    plan: Plan, folder: StudyFolder, states: Mapping[Job, JobState], output: Path, authors: tuple[str, ...] = ()
) -> Path:
    """Write one archive: study, lock, versions, records, table, citation.

    The same records give the same bytes, whoever packs them, whenever.

    Parameters
    ----------
    plan : Plan
    folder : StudyFolder
    states : mapping of Job to JobState
        The plan's jobs; those with a record are packed, invalid ones too.
    output : pathlib.Path
        The ``.tar.gz`` to write.
    authors : tuple of str
        For the citation; the study's own when empty.

    Returns
    -------
    pathlib.Path
        `output`.

    Raises
    ------
    StudyError
        If there is no record yet, or the archive cannot be written.
    """
    recorded = {job: state for job, state in states.items() if state.record is not None}
    if not recorded:
        raise StudyError(f"study {plan.name!r} has no record yet; run it first")
    records = [state.record for state in recorded.values()]
    files = {f"records/{job.id}/{store.FILE_NAME}": state.record_path.read_bytes() for job, state in recorded.items()}
    files["study.yaml"] = plan.text.encode()
    if folder.lock_file.is_file():
        files["lock.yaml"] = folder.lock_file.read_bytes()
    files["table.csv"] = _table(recorded).encode()
    files["versions.txt"] = versions(records).encode()
    files["CITATION.cff"] = citation(plan, records, authors or plan.study.authors).encode()
    files["README.md"] = _readme(plan, len(records)).encode()
    try:
        output.write_bytes(archive(files, top=plan.name))
    except OSError as error:
        raise cannot_write(output, error) from error
    return output


def _table(recorded: Mapping[Job, JobState]) -> str:
    from energylab.table import record_rows, tidy_frame

    rows = [
        row
        for job, state in recorded.items()
        for row in record_rows(state.record, f"records/{job.id}/{store.FILE_NAME}")
    ]
    return tidy_frame(rows).sort_values("path", kind="stable").to_csv(index=False)


def _readme(plan: Plan, records: int) -> str:
    title = plan.study.title or plan.name
    return _README.format(title=title, version=__version__, records=records, jobs=len(plan.jobs))


def versions(records: list[Record]) -> str:
    """Return one line a package, ``name==version``; several versions, where records differ, with their counts."""
    seen: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for record in records:
        stated = {"python": record.host.python, **record.host.packages}
        for name, version in ((name, version) for name, version in stated.items() if version is not None):
            seen[name][version] += 1
    lines = []
    for name in sorted(seen):
        found = sorted(seen[name].items())
        several = f"  # {', '.join(f'{count} records with {version}' for version, count in found)}"
        lines.append(f"{name}=={found[0][0]}" + (several if len(found) > 1 else ""))
    return "\n".join(lines) + "\n"


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
            "abstract": f"{len(records)} energy measurements of AI models with energylab {__version__}.",
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
