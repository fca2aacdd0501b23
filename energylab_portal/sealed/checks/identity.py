"""Whether the record is this run's and no other's: its ids, its public name, its commitments, its place in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from energylab.errors import BundleError
from energylab_portal.sealed import privacy
from energylab_portal.sealed.checks.base import judged
from energylab_portal.sealed.statement import ClosedRun, measurement_id
from energylab_portal.sealed.verdict import Check

#: How far a machine's clock may run ahead of this one, and how long loading and scoring may take beside the windows.
AHEAD, BESIDE_S = timedelta(days=1), 86_400.0


def identity(run: ClosedRun) -> Check:
    """Ids follow from what was measured: the same measurement under another id would count as a second session."""
    record = run.record
    problems = []
    if record.record_id != measurement_id(run.readings):
        problems.append("the record's id is not that of its readings: a measurement handed in under another name")
    if record.job_id != privacy.public_job_id(record.model.name, record.parameters):
        problems.append("the job's id is not that of its parameters")
    if record.model.source != "path":
        problems.append(f"the model's source is {record.model.source!r}; a sealed run's is a folder")
    try:
        privacy.check_alias(record.model.name)
    except BundleError as error:
        problems.append(str(error))
    return judged("identity", problems, "record and job have the ids of what was measured")


def commitments(run: ClosedRun) -> Check:
    """Everything that was left out is committed to, each with a salt of its own."""
    missing = sorted(privacy.COMMITTED - run.commitments.keys())
    problems = [f"nothing is committed to for {', '.join(missing)}"] if missing else []
    strangers = sorted(run.commitments.keys() - privacy.COMMITTED)
    problems += [f"{name[:40]!r} is nothing that is left out" for name in strangers]
    if len(set(run.commitments.values())) < len(run.commitments):
        problems.append("two commitments are the same: they were not made with salts of their own")
    return judged("commitments", problems, f"{len(run.commitments)} private parts are committed to")


def when(run: ClosedRun) -> Check:
    """The run lies in the past, and took no more than a day beside its timeline."""
    problems = []
    if run.finished_utc > datetime.now(UTC) + AHEAD:
        problems.append(f"the run ended {run.finished_utc:%Y-%m-%d}, which is still to come")
    took_s = (run.finished_utc - run.started_utc).total_seconds()
    watched_s = max((line.samples[-1].time_s - line.samples[0].time_s for line in run.timelines if line.samples),
                    default=0.0)  # fmt: skip
    if took_s > watched_s + BESIDE_S:
        problems.append(f"the run took {took_s:.0f} s, {watched_s:.0f} s of which are on the timeline")
    return judged("dates", problems, f"measured on {run.started_utc:%Y-%m-%d}")
