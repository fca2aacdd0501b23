"""What a release keeps of a record: enough to judge the figure and to measure it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

from energylab.energy import WH_PER_1000_QUERIES, PhaseTotal, totals
from energylab.parameters import Parameters
from energylab.record import SCORED_PHASES, Record
from energylab.release.schema import (
    Machine,
    PhaseFigure,
    QualityFigure,
    SessionFacts,
    WindowPoint,
    significant,
)

_DRAWN = 4  # significant digits of what is only drawn


def session_energy_wh(record: Record) -> float | None:
    """Return a session's energy in Wh per 1,000 queries: scored phases summed, runs averaged.

    Returns
    -------
    float or None
        None when a scored phase of some run is unavailable: never a mean of the survivors.
    """
    runs: dict[int, list[PhaseTotal]] = {}
    for total in totals(record):
        if total.phase in SCORED_PHASES:
            runs.setdefault(total.run, []).append(total)
    if not record.valid or not runs or any(total.energy_j is None for run in runs.values() for total in run):
        return None
    return fmean(sum(total.energy_j / total.queries for total in run) for run in runs.values()) * WH_PER_1000_QUERIES


def machine(record: Record) -> Machine:
    """Return the machine a session ran on."""
    return Machine(
        devices=tuple(device.name or "device not stated" for device in record.devices),
        boards=tuple(sorted(device.uuid for device in record.devices if device.uuid)),
        driver=record.devices[0].driver,
        meters=tuple(
            sorted({f"{meter.name}: {meter.source} ({meter.kind})" for meter in record.meters if meter.scored})
        ),
        processor=record.host.processor,
        cores=record.host.cores,
        memory_bytes=record.host.memory_bytes,
        system=record.host.system,
        python=record.host.python,
        packages=dict(sorted(record.host.packages.items())),
        git_commit=record.host.git_commit,
        energylab_version=record.energylab_version,
        protocol_version=record.protocol.version,
    )


def session_facts(record: Record, machine_index: int) -> SessionFacts:
    """Return one session as a release names it."""
    energy_wh = session_energy_wh(record)
    return SessionFacts(
        record_id=record.record_id,
        digest=record.digest(),
        job_id=record.job_id,
        repeat=record.repeat,
        created_utc=record.created_utc,
        energy_wh=None if energy_wh is None else significant(energy_wh),
        queries=record.queries,
        runs=record.protocol.runs,
        valid=record.valid,
        reasons=record.reasons,
        machine=machine_index,
        parameters=repeatable(record),
        windows=tuple(_window_point(window) for window in record.windows),
    )


def repeatable(record: Record) -> dict[str, Any]:
    """Return the notebook's parameters that differ from its defaults; empty for a session the notebook did not make."""
    if record.model.source == "function" or not record.parameters:
        return {}
    defaults = Parameters().identity
    identity = Parameters.check(record.parameters).identity
    always = ("task", "model", "model_source", "data_source")
    return {name: identity[name] for name in sorted(identity) if name in always or identity[name] != defaults[name]}


def _window_point(window: Any) -> WindowPoint:
    power_w = window.mean_power_w
    return WindowPoint(
        run=window.run,
        phase=window.phase,
        start_s=None if window.start_s is None else significant(window.start_s, _DRAWN + 2),
        duration_s=None if window.duration_s is None else significant(window.duration_s, _DRAWN),
        mean_power_w=None if power_w is None or power_w < 0 else significant(power_w, _DRAWN),
        valid=window.valid,
        reasons=window.reasons,
    )


def phase_figures(records: Sequence[Record]) -> tuple[PhaseFigure, ...]:
    """Return the phases of a model over its sessions, in the order they ran."""
    parts = [total for record in records if record.valid for total in totals(record)]
    names = dict.fromkeys(total.phase for record in records for total in totals(record))
    return tuple(_phase_figure(name, [t for t in parts if t.phase == name], records) for name in names)


def _phase_figure(phase: str, totals: Sequence[PhaseTotal], records: Iterable[Record]) -> PhaseFigure:
    windows = [window for record in records for window in record.windows if window.phase == phase]
    invalid = [window for window in windows if not window.valid]
    energy_wh = _mean_wh(totals, lambda total: total.energy_j)
    timed = energy_wh is not None and all(total.duration_s for total in totals)
    return PhaseFigure(
        phase=phase,
        scored=phase in SCORED_PHASES,
        energy_wh=energy_wh,
        bound_wh=_mean_wh(totals, lambda total: total.bound_j),
        mean_power_w=_mean_power_w(totals) if timed else None,
        windows=len(windows),
        invalid_windows=len(invalid),
        reasons=tuple(sorted({reason for window in invalid for reason in window.reasons})),
    )


def _mean_power_w(totals: Sequence[PhaseTotal]) -> float:
    return significant(sum(total.energy_j for total in totals) / sum(total.duration_s for total in totals))


def _mean_wh(totals: Sequence[PhaseTotal], of: Callable[[PhaseTotal], float | None]) -> float | None:
    values = [of(total) for total in totals]
    if not values or any(value is None for value in values):
        return None
    return significant(fmean(v / t.queries for v, t in zip(values, totals, strict=True)) * WH_PER_1000_QUERIES)


def output_tokens(records: Sequence[Record]) -> float | None:
    """Return a model's output tokens per 1,000 queries; None where no scored phase counts them."""
    shares = [
        1000.0 * total.output_tokens / total.queries
        for record in records
        for total in totals(record)
        if total.phase in SCORED_PHASES and total.output_tokens
    ]
    return significant(fmean(shares)) if shares else None


def quality_figures(records: Sequence[Record]) -> tuple[QualityFigure, ...]:
    """Return each metric's mean over sessions; without a value where it would be meaningless."""
    metrics: dict[str, list[Any]] = {}
    for record in records:
        for quality in record.quality:
            metrics.setdefault(quality.metric, []).append(quality)
    return tuple(_quality_figure(metric, found) for metric, found in metrics.items())


def _quality_figure(metric: str, found: Sequence[Any]) -> QualityFigure:
    values = [quality.value for quality in found]
    known = not any(value is None for value in values)
    why = next((quality.meaningless for quality in found if quality.meaningless), None)
    return QualityFigure(metric=metric, value=significant(fmean(values), 6) if known else None, meaningless=why)
