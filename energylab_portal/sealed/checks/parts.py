"""The parts a run was made of: attestations, image, seal, data and task, against what is official."""

from __future__ import annotations

from energylab import tasks
from energylab.errors import EnergylabError
from energylab.parameters import Parameters
from energylab.record import PHASES
from energylab.tasks.base import Task
from energylab.tasks.models import model_class
from energylab.tasks.text import TextTask
from energylab_portal.sealed.checks.base import judged, same, undecided
from energylab_portal.sealed.official import Official
from energylab_portal.sealed.seal import gaps
from energylab_portal.sealed.statement import ATTESTATION_VERSION, ATTESTATIONS, ClosedRun
from energylab_portal.sealed.verdict import Check


def attestations(run: ClosedRun) -> Check:
    """All three, in the version known here."""
    said = run.attestations
    missing = [f"not attested: {text}" for name, text in ATTESTATIONS.items() if not getattr(said, name)]
    if said.version != ATTESTATION_VERSION:
        missing.append(f"version {said.version[:20]!r} of the attestations is not known here")
    return judged("attestations", missing, f"all three are attested (version {said.version})")


def image(run: ClosedRun, official: Official) -> Check:
    """The image is one the operator lists, or is built on one."""
    passed, words = official.image(run.image)
    return Check("image", passed, words)


def seal(run: ClosedRun) -> Check:
    """The container was closed off, as its daemon told."""
    return judged("seal", gaps(run.seal), "no network, read-only, no capability, limits on memory and processes")


def data(run: ClosedRun, official: Official) -> Check:
    """The queries are those of the task's data."""
    facts, record = run.record.data, run.record
    if run.data_checked_by == "container":
        if record.task.name in tasks.task_names(official.params):
            return Check("data", False, f"a plug-in is said to have brought {record.task.name}, a task known here")
        return undecided("data", "a plug-in brought its own data: its digest is the container's word")
    passed, words = official.rows(record.task.name, facts, record.protocol.seed)
    return Check("data", passed, words)


def task(run: ClosedRun, official: Official) -> Check:
    """The task's settings are what its file here says, but for those the record itself names as changed."""
    stated = run.record.task
    if run.data_checked_by == "container":
        return undecided("task", "a plug-in's task: its settings are the container's word")
    try:
        known = tasks.load_task(Parameters.check({**run.record.parameters, "params": official.params}))
    except EnergylabError as error:
        return Check("task", False, str(error)[:200])
    settings = known.settings
    published = settings.model_dump(mode="json")
    changed = {
        name for name, value in stated.settings.items() if name in published and not same(published[name], value)
    }
    problems = [f"{name} differs from the published one, and the record does not say so" for name in sorted(changed)]
    problems = [text for text, name in zip(problems, sorted(changed), strict=True) if name not in stated.overridden]
    absent = sorted({*known.resolved_settings(), "runs"} - stated.settings.keys())
    problems += [f"{name} is not stated" for name in absent] + _of_family(run, known)
    if stated.version != settings.version:
        problems.append(f"version {stated.version[:30]!r} of the task, {settings.version!r} is known here")
    said = f"with {', '.join(stated.overridden)} of its own" if stated.overridden else "with every setting as published"
    return judged("task", problems, f"{stated.name} {stated.version}, {said}")


def _of_family(run: ClosedRun, known: Task) -> list[str]:
    """Return where phases, size class and lengths of the queries are not those the task's family gives."""
    record, found = run.record, []
    if "preprocess" in known.phases and "preprocess" not in record.phases:
        found.append("the inputs are prepared in no phase, and that work is rated")
    if list(record.phases) != [phase for phase in PHASES if phase in record.phases]:
        found.append(f"the phases {', '.join(record.phases)[:80]} are unknown, twice there or out of order")
    count = record.model.parameters
    if count and record.model.model_class != model_class(count, known.settings.model_classes):
        found.append(f"{count:,} parameters are not of size class {record.model.model_class}")
    counted = any(window.input_tokens for window in record.windows)
    if isinstance(known, TextTask) and counted and "input_tokens" not in record.data.covariates:
        found.append("the lengths of the queries are not stated")
    found += [
        f"{name[:30]} is stated of {len(values)} of {record.data.queries} queries"
        for name, values in record.data.covariates.items()
        if len(values) != record.data.queries
    ]
    return found
