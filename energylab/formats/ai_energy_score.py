"""The AI Energy Score runner's files: its report, its summaries, and the table of a batch of runs.

The runner's ``benchmark_report.json`` has ``config``, ``summary`` and ``energy``, one energy for all prompts. The
summaries ``GPU_ENERGY_SUMMARY.json`` and ``GPU_ENERGY_WH.txt`` are made from a report of the runner or of
optimum-benchmark, and are rounded to 0.01 Wh: half of that is the error of each of their figures.

References
----------
https://github.com/huggingface/AIEnergyScore: ``summarize_gpu_wh.py``, ``results_aggregator.py``;
https://github.com/neuralwatt/ai_energy_benchmarks: ``runner.py``, ``metrics/codecarbon.py``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from energylab.errors import FormatError
from energylab.formats import common
from energylab.formats.common import Asked, Measure, Part, Session, Unit
from energylab.formats.importing import ROUNDING_WH, TEXT, Format, Source
from energylab.record import DeviceFacts

#: A number as the summary's script writes it: thousands by commas, and decimals by a point.
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+\.\d+")


class Config(Part):
    """What the runner was told."""

    model: common.Text = None
    task: common.Text = None
    dataset: common.Text = None
    backend: common.Text = None
    num_samples: common.Whole = None
    device_ids: Any = None


class Prompts(Part):
    """What the runner did."""

    successful_prompts: common.Whole = None
    failed_prompts: common.Whole = None
    total_duration_seconds: common.Number = None
    total_prompt_tokens: common.Whole = None
    total_completion_tokens: common.Whole = None


class Energies(Part):
    """What the runner's meter read, in two units."""

    gpu_energy_wh: common.Number = None
    gpu_energy_kwh: common.Number = None
    cpu_energy_wh: common.Number = None
    cpu_energy_kwh: common.Number = None
    ram_energy_wh: common.Number = None
    ram_energy_kwh: common.Number = None
    total_energy_wh: common.Number = None
    total_energy_kwh: common.Number = None
    duration_seconds: common.Number = None
    error: Any = None

    def wh(self, part: str, where: str) -> float | None:
        """Return a component's energy in Wh; refuses two figures that are not the same energy."""
        in_wh, in_kwh = getattr(self, f"{part}_energy_wh"), getattr(self, f"{part}_energy_kwh")
        if None not in (in_wh, in_kwh) and abs(in_wh - 1000 * in_kwh) > common.CLOSE * abs(in_wh):
            raise FormatError(
                f"{where}: {part}_energy_wh={in_wh:g} and {part}_energy_kwh={in_kwh:g} are not the same energy; "
                "the file contradicts itself"
            )
        return in_wh if in_wh is not None or in_kwh is None else 1000 * in_kwh


class Report(Part):
    """The runner's report."""

    config: Config
    summary: Prompts
    energy: Energies
    gpu_stats: common.Loose = {}
    metrics_metadata: common.Loose = {}


class Summary(Part):
    """A run's total, and its phases where it had any."""

    units: str
    total: common.Number
    format: common.Text = None
    preprocess_wh: common.Number = None
    prefill_wh: common.Number = None
    decode_wh: common.Number = None


class BatchRow(Prompts):
    """One row of the batch runner's table."""

    model_name: common.Text = None
    model_class: common.Text = None
    task: common.Text = None
    reasoning_state: common.Text = None
    gpu_energy_wh: common.Number
    timestamp: common.Time = None


def read_report(source: Source, asked: Asked) -> list[Session]:
    """Return the one session of a report."""
    found, where = common.parse(Report, source.json, source.name), source.name
    config, prompts, energy = found.config, found.summary, found.energy
    both = ", equal to gpu_energy_kwh" if energy.gpu_energy_kwh is not None else ""
    unit = common.settle(Unit("Wh", f"field name gpu_energy_wh{both}"), asked.unit, where)
    joules = {part: unit.joules(energy.wh(part, where)) for part in common.COMPONENTS}
    component = common.rated_component(asked, {name: [value] for name, value in joules.items()}, where)
    devices = _devices(config.device_ids, found.gpu_stats)
    measure = replace(
        _prompted(joules[component], prompts),
        others={name: value for name, value in joules.items() if name != component and value is not None},
        duration_s=energy.duration_seconds or prompts.total_duration_seconds or None,
    )
    if energy.error:
        measure = replace(measure, reasons=(*measure.reasons, "meter_error"))
    session = Session(
        model=common.model_name(asked, config.model, where),
        task=common.task_name(asked, config.task, where),
        queries=common.query_count(asked, prompts.successful_prompts or config.num_samples, where),
        runs=({"total": measure},),
        unit=unit,
        meter=(str(found.metrics_metadata.get("name", "codecarbon")), f"energy.{component}_energy_wh"),
        component=component,
        devices=devices or (DeviceFacts(name=None, type="not stated"),),
        devices_counted=bool(devices),
        data={"name": config.dataset, "source": None},
        settings={"batch_size": 1} if config.backend == "pytorch" else {},
        protocol={"backend": config.backend} if config.backend else {},
        extra={"runner": {"config": source.json["config"], "summary": source.json["summary"]}},
    )
    return [session]


def _prompted(energy_j: float | None, prompts: Prompts) -> Measure:
    return Measure(
        energy_j=energy_j,
        duration_s=prompts.total_duration_seconds or None,
        input_tokens=prompts.total_prompt_tokens or None,
        output_tokens=prompts.total_completion_tokens or None,
        reasons=("failed_query",) if prompts.failed_prompts else (),
    )


def _devices(ids: Any, stats: dict[str, Any]) -> tuple[DeviceFacts, ...]:
    """Return one nameless device for each id; the report names none."""
    found = []
    for number in re.findall(r"\d{1,6}", str(ids)) if ids is not None else []:
        one = stats.get(f"gpu_{number}")
        mib = one.get("memory_total_mb") if isinstance(one, dict) else None
        known = isinstance(mib, (int, float)) and 0 < mib < 1e9
        kind, size = ("cuda", round(mib * 2**20)) if known else ("not stated", None)
        found.append(DeviceFacts(name=None, type=kind, index=int(number), memory_bytes=size))
    return tuple(found)


def read_summary(source: Source, asked: Asked) -> list[Session]:
    """Return the one session of a summary; model, task and queries are asked for."""
    found, where = common.parse(Summary, source.json, source.name), source.name
    unit = common.settle(Unit(common.unit_named(found.units), f"field units says {found.units!r}"), asked.unit, where)
    phases = {"preprocess": found.preprocess_wh, "prefill": found.prefill_wh, "decode": found.decode_wh}
    whole = found.format == "ai_energy_benchmarks" or not (found.prefill_wh or found.decode_wh)
    runs = {"total": _whole(found, unit)} if whole else _phases(found, unit)
    return [
        Session(
            model=common.model_name(asked, None, where),
            task=common.task_name(asked, None, where),
            queries=common.query_count(asked, None, where),
            runs=(runs,),
            unit=unit,
            meter=("codecarbon", "total" if whole else "preprocess, prefill and decode"),
            as_named={} if whole else {name: (unit.joules(value),) for name, value in phases.items()},
            notes=() if whole else tuple(_doubts(found.total, [v for v in phases.values() if v is not None])),
            extra={"summary": source.json},
        )
    ]


def _rounded(value: float | None, unit: Unit, parts: int = 1) -> Measure:
    return Measure(energy_j=unit.joules(value), bound_j=parts * Unit("Wh", "").joules(ROUNDING_WH))


def _whole(found: Summary, unit: Unit) -> Measure:
    """Return the total of a task that has neither prefill nor decode, whose zeros there are no measures.

    A total that is preprocessing alone means that the phase after it read zero.
    """
    alone = bool(found.total) and found.total == found.preprocess_wh
    return replace(_rounded(found.total, unit), reasons=("zero_reading",) if alone else ())


def _phases(found: Summary, unit: Unit) -> dict[str, Measure]:
    """Return preprocess, prefill and generate, which is prefill plus decode."""
    prefill, decode = found.prefill_wh, found.decode_wh
    both = None if None in (prefill, decode) else prefill + decode
    negative = both is not None and decode < 0 < both
    return {
        "preprocess": _rounded(found.preprocess_wh, unit),
        "prefill": _rounded(prefill, unit),
        "generate": replace(_rounded(both, unit, parts=2), reasons=("negative_decode",) if negative else ()),
    }


def _doubts(total: float | None, phases: list[float]) -> list[str]:
    if total is None or abs(sum(phases) - total) <= ROUNDING_WH * (len(phases) + 1):
        return []
    return [f"the stated total of {total:g} Wh is not the sum of its phases, {sum(phases):g} Wh; the phases are taken"]


def stated_total(source: Source) -> float | None:
    """Return the total in Wh that a summary states, as JSON or as text."""
    if source.json is not None:
        return common.parse(Summary, source.json, source.name).total
    text = source.text.strip()
    if "," in text and not _THOUSANDS.fullmatch(text):
        raise FormatError(f"{source.name}, row 1: {text!r} has a decimal comma; write it with a point (12.34)")
    try:
        return float(text.replace(",", ""))
    except ValueError:
        raise FormatError(f"{source.name}, row 1: {text[:40]!r} is not a number; get the file again") from None


def read_text(source: Source, asked: Asked) -> list[Session]:
    """Return the one session; the unit is in the file's name, and model, task and queries are asked for."""
    unit = common.settle(Unit("Wh", f"the file's name, {TEXT}"), asked.unit, source.name)
    return [
        Session(
            model=common.model_name(asked, None, source.name),
            task=common.task_name(asked, None, source.name),
            queries=common.query_count(asked, None, source.name),
            runs=({"total": _rounded(stated_total(source), unit)},),
            unit=unit,
            meter=("codecarbon", "the file's one number"),
        )
    ]


def read_batch(source: Source, asked: Asked) -> list[Session]:
    """Return one session a row of the batch runner's table."""
    unit = common.settle(Unit("Wh", "column name gpu_energy_wh"), asked.unit, source.name)
    return [_batch(where, common.parse(BatchRow, cells, where), unit, asked) for where, cells in source.rows]


def _batch(where: str, row: BatchRow, unit: Unit, asked: Asked) -> Session:
    state = row.reasoning_state
    return Session(
        model=common.model_name(asked, row.model_name, where),
        task=common.task_name(asked, row.task, where),
        queries=common.query_count(asked, row.successful_prompts or None, where),
        runs=({"total": _prompted(unit.joules(row.gpu_energy_wh), row)},),
        unit=unit,
        meter=("codecarbon", "column gpu_energy_wh"),
        row=where.rpartition(", ")[2],
        facts={"model_class": row.model_class if row.model_class in ("A", "B", "C") else None},
        settings={"reasoning_state": state} if state and state != "N/A" else {},
        created_utc=row.timestamp,
    )


def _is_report(source: Source) -> bool:
    content = source.json
    parts = [content.get(name) for name in ("config", "summary", "energy")] if isinstance(content, dict) else []
    return bool(parts) and all(isinstance(part, dict) for part in parts)


def _is_summary(source: Source) -> bool:
    return isinstance(source.json, dict) and {"units", "total"} <= set(source.json)


def _is_text(source: Source) -> bool:
    return source.file_name == TEXT  # a bare number: nothing else tells what it is


def _is_batch(source: Source) -> bool:
    return source.columns >= {"model_name", "successful_prompts", "gpu_energy_wh"}


FORMATS = (
    Format("ai-energy-score", "AI Energy Score runner's report (benchmark_report.json)", _is_report, read_report),
    Format("gpu-energy-summary", "AI Energy Score summary (GPU_ENERGY_SUMMARY.json)", _is_summary, read_summary),
    Format("gpu-energy-text", "AI Energy Score total (GPU_ENERGY_WH.txt)", _is_text, read_text, by_name=True),
    Format(
        "ai-energy-score-batch",
        "AI Energy Score batch runner's table (CSV with model_name, successful_prompts and gpu_energy_wh)",
        _is_batch,
        read_batch,
    ),
)
