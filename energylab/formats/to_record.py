"""From a session of another program's file to a record: energy kind `imported`, missing facts listed, none made up."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from statistics import fmean
from typing import Any

import energylab
from energylab.energy import WH_PER_1000_QUERIES
from energylab.formats.common import Asked, Measure, Session
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

#: Facts of a measured record that no other program's file states, by their place in it.
_NEVER = (
    "task.version", "data.source", "data.digest", "devices.uuid", "devices.power_limit_w", "devices.driver", "warm_up",
    "idle", "quality",
)  # fmt: skip

#: Facts that some files state.
_SOME = (
    "model.source", "model.architecture", "model.parameters", "model.dtype", "model.attention", "data.name",
    "host.processor", "protocol.seed",
)  # fmt: skip


@dataclass(frozen=True)
class Total:
    """What is rated, in Wh per 1,000 queries: with and without the runs of which a measure is invalid."""

    runs: int
    invalid: int
    with_wh: float | None
    without_wh: float | None

    @property
    def shift(self) -> float | None:
        """By what share the invalid measures move the total: -0.1 is 10 % too low."""
        if not self.invalid or not self.without_wh or self.with_wh is None:
            return None
        return self.with_wh / self.without_wh - 1


def total(session: Session) -> Total:
    """Return the total of what is rated over the runs of a session."""
    rated = [[m.energies[session.component] for p, m in run.items() if p in SCORED_PHASES] for run in session.runs]
    sums = [None if None in run else sum(run) for run in rated]
    sound = [energy for energy, run in zip(sums, session.runs, strict=True) if not any(m.reasons for m in run.values())]
    known = [energy for energy in sums if energy is not None]
    return Total(len(sums), len(sums) - len(sound), *(_wh(session, values) for values in (known, sound)))


def _wh(session: Session, values_j: list[float]) -> float | None:
    return fmean(values_j) / session.queries * WH_PER_1000_QUERIES if values_j else None


def to_record(session: Session, file_name: str, content: bytes, format: str, asked: Asked, now: dt.datetime) -> Record:
    """Return the record of a session."""
    kept, left_out = _kept(session, asked)
    windows = tuple(_windows(session, kept))
    name, reasons = identity(session, format, asked)[:16], tuple(_reasons(kept))
    part = f", {session.part}" if session.part else ""
    origin = {
        "format": format,
        "file": file_name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "row": session.row,
        "unit": session.unit.name,
        "unit_proof": session.unit.how,
        "asked": asked.stated(),
        "total_wh_per_1000_queries": dict(vars(total(session))),
        "left_out": left_out,
        "notes": list(session.notes),
    }
    facts = {name: value for name, value in session.facts.items() if value is not None}
    facts |= {} if asked.model_class is None else {"model_class": asked.model_class}
    record = Record(
        record_id=f"imported-{name}",
        job_id=name,
        created_utc=session.created_utc or now,
        energylab_version=energylab.__version__,
        energy_kind="imported",
        task=TaskFacts(name=session.task, version=None, settings=dict(session.settings)),
        model=ModelFacts(**{"source": None, **facts, "name": session.model}),
        data=DataFacts(name=session.data, source=None, digest=None, queries=session.queries),
        protocol=ProtocolFacts(
            version=f"imported: {format}, {session.component} energy{part}",
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
    return record.model_copy(update={"missing": tuple(_missing(record, session))})


def identity(session: Session, format: str, asked: Asked) -> str:
    """Return the digest of what was measured: the other program's own name for it, or else its figures."""
    part = session.component
    figures = [{phase: [m.energies[part], m.duration_s] for phase, m in run.items()} for run in session.runs]
    measured = session.run_id or [figures, str(session.created_utc), session.settings, session.seed, session.facts]
    read = [asked.leave_out_invalid, session.component, session.part]
    what = [session.model, session.task, session.queries, [(d.name, d.index) for d in session.devices]]
    return hashlib.sha256(canonical_json([format, read, what, measured])).hexdigest()


def _kept(session: Session, asked: Asked) -> tuple[Runs, list[dict[str, Any]]]:
    """Return the runs to keep, and those the user left out because a measure of them is invalid."""
    kept, left_out = [], []
    for number, run in enumerate(session.runs):
        bad = {phase: [m.energies[session.component], *m.reasons] for phase, m in run.items() if m.reasons}
        if bad and asked.leave_out_invalid and len(session.runs) > 1:
            left_out.append({"run": number, "measures": bad})
        else:
            kept.append((number, run))
    return kept, left_out


def _windows(session: Session, kept: Runs) -> Iterable[Window]:
    measures = [(run, phase, measure) for run, phases in kept for phase, measure in phases.items()]
    for index, (run, phase, measure) in enumerate(measures):
        yield Window(
            index=index,
            run=run,
            phase=phase,
            block=0,
            attempt=0,
            queries=tuple(range(session.queries)),
            replications=1,
            start_s=None,
            duration_s=measure.duration_s,
            meters=tuple(
                MeterReadings(meter=session.meter[0], device=part, energy_j=measure.energies[part])
                for part in _parts(session, measure)
            ),
            energy_j=measure.energies[session.component],
            bound_j=measure.bound,
            input_tokens=measure.input_tokens,
            output_tokens=measure.output_tokens,
            valid=not measure.reasons,
            reasons=measure.reasons,
        )


def _parts(session: Session, *measures: Measure) -> list[str]:
    """Return the components that were metered, the rated one first."""
    others = {part for each in measures for part, energy in each.energies.items() if energy is not None}
    return [session.component, *sorted(others - {session.component})]


def _meters(session: Session) -> Iterable[MeterFacts]:
    name, where = session.meter
    for part in _parts(session, *(measure for run in session.runs for measure in run.values())):
        yield MeterFacts(name=name, source=where, kind="imported", device=part, scored=part == session.component)


def _reasons(kept: Runs) -> Iterable[str]:
    if not kept:
        yield "every run has an invalid measure"
    for run, phases in kept:
        for phase, measure in phases.items():
            if phase in SCORED_PHASES and measure.reasons:
                yield f"run {run}: {phase} has no total: {', '.join(measure.reasons)}"


def _missing(record: Record, session: Session) -> Iterable[str]:
    """Name every fact that a measured record would state and the file does not, by its place in the record."""
    classed = record.task.name in ("text_generation", "reasoning")
    stated = {
        **{place: attrgetter(place)(record) is not None for place in _SOME},
        "created_utc": session.created_utc is not None,
        "batch_size": session.settings.get("batch_size") is not None,
        "model.revision": record.model.revision is not None,
        "model.model_class": record.model.model_class is not None or not classed,
        "model.compiled": session.facts.get("compiled") is not None,
        "devices.name": record.devices[0].name is not None,
        "devices.count": session.devices_counted,
        "host.packages": bool(record.host.packages),
        "windows.duration_s": all(window.duration_s is not None for window in record.windows),
        "windows.bound_j": all(window.bound_j is not None for window in record.windows if window.valid),
    }
    return sorted([*_NEVER, *(name for name, known in stated.items() if not known)])
