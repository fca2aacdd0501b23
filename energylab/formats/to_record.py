"""From a session of another program's file to a record: energy kind `imported`, missing facts listed, none made up."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import energylab
from energylab.formats.common import Asked, Measure, Session, totals
from energylab.record import (
    SCORED_PHASES,
    DataFacts,
    MeterFacts,
    MeterReadings,
    ModelFacts,
    ProtocolFacts,
    Record,
    TaskFacts,
    Window,
    canonical_json,
)

Runs = list[tuple[int, Mapping[str, Measure]]]


def to_record(session: Session, file_name: str, content: bytes, format: str, asked: Asked, now: dt.datetime) -> Record:
    """Return the record of a session."""
    kept, left_out = _kept(session, asked)
    windows = tuple(_windows(session, kept))
    name = identity(session, format, asked)
    reasons = tuple(_reasons(session, kept))
    part = f", {session.part}" if session.part else ""
    origin = {
        "format": format,
        "file": file_name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "row": session.row,
        "unit": session.unit.name,
        "unit_proof": session.unit.how,
        "asked": asked.stated(),
        "totals_wh_per_1000_queries": [dict(vars(total)) for total in totals(session)],
        "left_out": left_out,
        "notes": list(session.notes),
    }
    facts = {name: value for name, value in session.facts.items() if value is not None}
    facts |= {} if asked.model_class is None else {"model_class": asked.model_class}
    record = Record(
        record_id=f"imported-{name[:16]}",
        job_id=name[:16],
        created_utc=session.created_utc or now,
        energylab_version=energylab.__version__,
        energy_kind="imported",
        task=TaskFacts(name=session.task, version=None, settings=dict(session.settings)),
        model=ModelFacts(**{"source": None, **facts, "name": session.model}),
        data=DataFacts(**{"name": None, "source": None, "digest": None, **session.data, "queries": session.queries}),
        protocol=ProtocolFacts(
            version=f"imported: {asked.cohort or format}, {session.component} energy{part}",
            seed=session.seed,
            runs=max(len(kept), 1),
            settings=dict(session.protocol),
        ),
        devices=session.devices,
        meters=tuple(_meters(session)),
        host=session.host,
        phases=tuple(dict.fromkeys(window.phase for window in windows)),
        idle=(),
        warm_up=None,
        windows=windows,
        extra={"import": origin, **session.extra},
        valid=not reasons,
        reasons=reasons,
    )
    return record.model_copy(update={"missing": tuple(missing(record, session))})


def identity(session: Session, format: str, asked: Asked) -> str:
    """Return the digest of what was measured, and of how the user asked to read it; of no file's name or place.

    Where the other program names its runs, the name stands for the figures: they may have grown since.
    """
    figures = [{phase: [m.energy_j, m.duration_s] for phase, m in run.items()} for run in session.runs]
    measured = session.run_id or [figures, str(session.created_utc), session.settings, session.seed, session.facts]
    read = [asked.cohort, asked.leave_out_invalid, session.component, session.part]
    what = [session.model, session.task, session.queries, [(d.name, d.index) for d in session.devices]]
    return hashlib.sha256(canonical_json([format, read, what, measured])).hexdigest()


def _kept(session: Session, asked: Asked) -> tuple[Runs, list[dict[str, Any]]]:
    """Return the runs to keep, and those the user left out because a measure of them is invalid."""
    kept, left_out = [], []
    for number, run in enumerate(session.runs):
        bad = {phase: measure.checked() for phase, measure in run.items() if not measure.valid}
        if bad and asked.leave_out_invalid and len(session.runs) > 1:
            left_out.append({"run": number, "measures": {p: [m.energy_j, *m.reasons] for p, m in bad.items()}})
        else:
            kept.append((number, run))
    return kept, left_out


def _windows(session: Session, kept: Runs) -> Iterable[Window]:
    queries, (name, _) = tuple(range(session.queries)), session.meter
    measures = [(run, phase, measure.checked()) for run, phases in kept for phase, measure in phases.items()]
    for index, (run, phase, measure) in enumerate(measures):
        others = [MeterReadings(meter=name, device=part, energy_j=j) for part, j in sorted(measure.others.items())]
        yield Window(
            index=index,
            run=run,
            phase=phase,
            block=0,
            attempt=0,
            queries=queries,
            replications=1,
            start_s=None,
            duration_s=measure.duration_s,
            meters=(MeterReadings(meter=name, device=session.component, energy_j=measure.energy_j), *others),
            energy_j=measure.energy_j,
            bound_j=measure.bound_j,
            input_tokens=measure.input_tokens,
            output_tokens=measure.output_tokens,
            valid=measure.valid,
            reasons=measure.reasons,
        )


def _reasons(session: Session, kept: Runs) -> Iterable[str]:
    if not kept:
        yield "every run has an invalid measure"
    for run, phases in kept:
        for phase, measure in phases.items():
            if phase in SCORED_PHASES and not measure.valid:
                yield f"run {run}: {phase} has no total: {', '.join(measure.checked().reasons)}"


def _meters(session: Session) -> Iterable[MeterFacts]:
    name, where = session.meter
    yield MeterFacts(name=name, source=where, kind="imported", device=session.component, scored=True)
    others = {part for run in session.runs for measure in run.values() for part in measure.others}
    for part in sorted(others):
        yield MeterFacts(name=name, source=where, kind="imported", device=part, scored=False)


def missing(record: Record, session: Session) -> Iterable[str]:
    """Name every fact that a measured record would state and the file does not, by its place in the record."""
    model, data, device, host = record.model, record.data, record.devices[0], record.host
    timed = all(window.duration_s is not None for window in record.windows)
    bounded = all(window.bound_j is not None for window in record.windows if window.valid)
    classed = record.task.name in ("text_generation", "reasoning")
    stated = {
        "created_utc": session.created_utc,
        "task.version": record.task.version,
        "batch_size": record.task.settings.get("batch_size"),
        "model.source": model.source,
        "model.revision": model.commit or model.revision,
        "model.architecture": model.architecture,
        "model.parameters": model.parameters,
        "model.model_class": model.model_class or not classed or None,
        "model.dtype": model.dtype,
        "model.compiled": session.facts.get("compiled"),
        "model.attention": model.attention,
        "data.name": data.name,
        "data.source": data.source,
        "data.digest": data.digest,
        "devices.name": device.name,
        "devices.count": session.devices_counted or None,
        "devices.uuid": device.uuid,
        "devices.power_limit_w": device.power_limit_w,
        "devices.driver": device.driver,
        "host.processor": host.processor,
        "host.packages": host.packages or None,
        "protocol.seed": record.protocol.seed,
        "warm_up": record.warm_up,
        "idle": record.idle or None,
        "windows.duration_s": timed or None,
        "windows.bound_j": bounded or None,
        "quality": record.quality or None,
    }
    return (name for name, value in stated.items() if value is None)
