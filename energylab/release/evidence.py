"""Facts that a release keeps of its records: enough to judge a figure and to measure it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from energylab import overheads, store
from energylab.energy import WH_PER_1000_QUERIES, PhaseTotal, energy_j_per_query, totals
from energylab.parameters import Parameters, of_protocol
from energylab.ratings.right_answers import per_right_answer
from energylab.record import SCORED_PHASES, Quality, Record, Window
from energylab.release.schema import (
    Machine,
    PerRightFigure,
    PhaseFigure,
    QualityFigure,
    SessionFacts,
    SpentFigure,
    StandbyFigure,
    WindowPoint,
    significant,
)

if TYPE_CHECKING:
    import pandas as pd

_DRAWN = 4  # significant digits of values that are only drawn

#: Key of a model: task, size class (empty for none), name.
Key = tuple[str, str, str]


@dataclass
class Evidence:
    """Records by model, oldest first, and their machines, each once."""

    records: Mapping[Key, list[Record]]
    machines: list[Machine] = field(default_factory=list)

    @classmethod
    def of(cls, table: pd.DataFrame) -> Evidence:
        """Read the records of a tidy table's rows."""
        if "path" not in table or "session" not in table:
            return cls({})
        from_record = table["path"].astype("string").str.endswith(".json").fillna(False)
        paths = table.loc[from_record, ["path", "session"]].drop_duplicates()["path"]
        found: dict[Key, list[Record]] = {}
        read = (store.read_record(Path(path)) for path in paths)
        for record in sorted(read, key=lambda record: (record.created_utc, record.record_id)):
            found.setdefault((record.task.name, record.model.model_class or "", record.model.name), []).append(record)
        return cls(found)

    def behind(self, key: Key) -> list[Record]:
        """Return the records of one model, oldest first; none for figures from a table."""
        return self.records.get(key, [])

    def imported_from(self) -> tuple[str, ...]:
        """Return the files that imported records came from: format, name and sha256 of each, once."""
        origins = [record.extra.get("import") for behind in self.records.values() for record in behind]
        found = {f"{each['format']}: {each['file']}, sha256 {each['sha256']}." for each in origins if each}
        return tuple(sorted(found))

    def figures(self, key: Key, energy_wh: float) -> dict[str, Any]:
        """Return the fields of a model of `energy_wh` that come from its records; empty for figures from a table."""
        records = self.behind(key)
        if not records:
            return {}
        parts = [totals(record) for record in records]
        latest = records[-1].model
        return {
            **{name: getattr(latest, name) for name in ("revision", "commit", "architecture", "quantisation")},
            "output_tokens": _output_tokens(parts),
            "quality": _quality(records),
            "phases": _phases(records, parts),
            "sessions": tuple(map(self._session, records, parts)),
            "per_right": _per_right(records),
            "standby": _standby(records, energy_wh),
            "spent": _spent(records),
        }

    def _session(self, record: Record, parts: Sequence[PhaseTotal]) -> SessionFacts:
        facts = _machine(record)
        if facts not in self.machines:
            self.machines.append(facts)
        scored = [total for total in parts if total.phase in SCORED_PHASES]
        energy_j = energy_j_per_query(scored) if record.valid else None
        return SessionFacts(
            record_id=record.record_id,
            digest=record.digest(),
            job_id=record.job_id,
            repeat=record.repeat,
            created_utc=record.created_utc,
            energy_wh=None if energy_j is None else significant(energy_j * WH_PER_1000_QUERIES),
            queries=record.queries,
            runs=record.protocol.runs,
            valid=record.valid,
            reasons=record.reasons,
            machine=self.machines.index(facts),
            parameters=_repeatable(record),
            windows=tuple(map(_window_point, record.windows)),
        )


def _machine(record: Record) -> Machine:
    host, scored = record.host, [meter for meter in record.meters if meter.scored]
    named = ("processor", "cores", "memory_bytes", "system", "python", "git_commit")
    return Machine(
        devices=tuple(device.name or "device not stated" for device in record.devices),
        boards=tuple(sorted(device.uuid for device in record.devices if device.uuid)),
        driver=record.devices[0].driver,
        meters=tuple(sorted({f"{meter.name}: {meter.source} ({meter.kind})" for meter in scored})),
        packages=dict(sorted(host.packages.items())),
        energylab_version=record.energylab_version,
        protocol_version=record.protocol.version,
        **{name: getattr(host, name) for name in named},
    )


def _repeatable(record: Record) -> dict[str, Any]:
    """Return the notebook's parameters that differ from its defaults; empty for a session the notebook did not make."""
    if record.model.source == "function" or not record.parameters:
        return {}
    asked = Parameters.check(of_protocol(record.parameters))
    defaults, identity = Parameters().identity, asked.identity
    always = ("task", "model", "model_source", "data_source")
    told = (name for name in identity if name in always or name not in defaults or identity[name] != defaults[name])
    repeatable = {name: identity[name] for name in sorted(told)}
    if asked.task != asked.task_name:  # a task of one's own is found by its file
        repeatable["task"] = Path(asked.task).name
    return repeatable


def _window_point(window: Window) -> WindowPoint:
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


def _phases(records: Sequence[Record], parts: Sequence[Sequence[PhaseTotal]]) -> tuple[PhaseFigure, ...]:
    """Return the phases of a model over its sessions, in the order they ran."""
    names = dict.fromkeys(total.phase for session in parts for total in session)
    valid = [session for record, session in zip(records, parts, strict=True) if record.valid]
    windows = [window for record in records for window in record.windows]
    return tuple(
        _phase(
            name,
            [[total for total in session if total.phase == name] for session in valid],
            [window for window in windows if window.phase == name],
        )
        for name in names
    )


def _phase(phase: str, sessions: Sequence[Sequence[PhaseTotal]], windows: Sequence[Window]) -> PhaseFigure:
    invalid = [window for window in windows if not window.valid]
    parts = [total for session in sessions for total in session]
    energy_wh = _mean_wh(sessions, lambda total: total.energy_j)
    timed = energy_wh is not None and all(total.duration_s for total in parts)
    return PhaseFigure(
        phase=phase,
        scored=phase in SCORED_PHASES,
        energy_wh=energy_wh,
        bound_wh=_mean_wh(sessions, lambda total: total.bound_j),
        mean_power_w=significant(sum(t.energy_j for t in parts) / sum(t.duration_s for t in parts)) if timed else None,
        windows=len(windows),
        invalid_windows=len(invalid),
        reasons=tuple(sorted({reason for window in invalid for reason in window.reasons})),
    )


def _mean_wh(sessions: Sequence[Sequence[PhaseTotal]], of: Callable[[PhaseTotal], float | None]) -> float | None:
    """Return the mean over sessions of what is pooled over each session's queries, as the rated energy is."""
    sessions = [session for session in sessions if session]
    if not sessions or any(of(total) is None for session in sessions for total in session):
        return None
    pooled = [sum(map(of, session)) / sum(total.queries for total in session) for session in sessions]
    return significant(fmean(pooled) * WH_PER_1000_QUERIES)


def _output_tokens(parts: Sequence[Sequence[PhaseTotal]]) -> float | None:
    """Return a model's output tokens per 1,000 queries; None where no scored phase counts them."""
    counted = [total for session in parts for total in session if total.phase in SCORED_PHASES and total.output_tokens]
    return significant(fmean(1000.0 * each.output_tokens / each.queries for each in counted)) if counted else None


def _quality(records: Sequence[Record]) -> tuple[QualityFigure, ...]:
    """Return each metric's mean over sessions; without a value where it would be meaningless."""
    metrics: dict[str, list[Quality]] = {}
    for quality in (quality for record in records for quality in record.quality):
        metrics.setdefault(quality.metric, []).append(quality)
    figures = []
    for metric, found in metrics.items():
        values = [quality.value for quality in found]
        value = None if None in values else significant(fmean(values), 6)
        why = next((quality.meaningless for quality in found if quality.meaningless), None)
        figures.append(QualityFigure(metric=metric, value=value, meaningless=why))
    return tuple(figures)


def _per_right(records: Sequence[Record]) -> PerRightFigure | None:
    found = per_right_answer(records)
    if found is None:
        return None
    ends = _six({"energy_wh": found.wh, "low_wh": found.low, "high_wh": found.high})
    return PerRightFigure(metric=found.metric, unit=found.unit, **ends, note=found.note)


def _standby(records: Sequence[Record], energy_wh: float) -> StandbyFigure | None:
    found = overheads.standby((record for record in records if record.valid), energy_wh)
    return None if found is None or found.power_w < 0 else StandbyFigure(**_six(vars(found)))


def _spent(records: Sequence[Record]) -> SpentFigure | None:
    """Return what measuring the model took; None where it was not measured here."""
    imported = any(record.energy_kind == "imported" for record in records)
    return None if imported else SpentFigure(**_six(vars(overheads.spent(records))))


def _six(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Round figures, and tuples of them, to six significant digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(rounded, value))
        return significant(value, 6) if isinstance(value, float) else value

    return {name: rounded(value) for name, value in figures.items()}
