"""The AI Energy Score runner's files: its report, and the summary of a report.

The runner's ``benchmark_report.json`` has ``config``, ``summary`` and ``energy``, one energy for all prompts. The
summary ``GPU_ENERGY_SUMMARY.json`` is made from a report of the runner or of optimum-benchmark, and is rounded to
0.01 Wh: half of that is the error of each of its figures.

References
----------
https://github.com/huggingface/AIEnergyScore: ``summarize_gpu_wh.py``;
https://github.com/neuralwatt/ai_energy_benchmarks: ``runner.py``, ``metrics/codecarbon.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from energylab.errors import FormatError
from energylab.formats import common
from energylab.formats.common import Asked, Measure, Number, Part, Session, Unit, Whole, parse
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts

#: Largest rounding error of a figure of a summary, in Wh.
ROUNDING_WH = 0.005


class Config(Part):
    model: str | None = None
    task: str | None = None
    dataset: str | None = None
    backend: str | None = None
    num_samples: Whole = None
    device_ids: Any = None


class Prompts(Part):
    successful_prompts: Whole = None
    failed_prompts: Whole = None
    total_duration_seconds: Number = None
    total_prompt_tokens: Whole = None
    total_completion_tokens: Whole = None


class Energies(Part):
    gpu_energy_wh: Number = None
    gpu_energy_kwh: Number = None
    cpu_energy_wh: Number = None
    cpu_energy_kwh: Number = None
    ram_energy_wh: Number = None
    ram_energy_kwh: Number = None
    total_energy_wh: Number = None
    total_energy_kwh: Number = None
    duration_seconds: Number = None
    error: Any = None

    def wh(self, part: str, where: str) -> float | None:
        """Return a component's energy in Wh; raise FormatError if its two values differ."""
        in_wh, in_kwh = getattr(self, f"{part}_energy_wh"), getattr(self, f"{part}_energy_kwh")
        if None not in (in_wh, in_kwh) and abs(in_wh - 1000 * in_kwh) > common.CLOSE * abs(in_wh):
            raise FormatError(
                f"{where}: {part}_energy_wh={in_wh:g} and {part}_energy_kwh={in_kwh:g} are different energies; "
                "correct the file"
            )
        return in_wh if in_wh is not None or in_kwh is None else 1000 * in_kwh


class Report(Part):
    config: Config
    summary: Prompts
    energy: Energies
    gpu_stats: dict[str, Any] = {}
    metrics_metadata: dict[str, Any] = {}


class Summary(Part):
    units: str
    total: Number = None
    format: str | None = None
    preprocess_wh: Number = None
    prefill_wh: Number = None
    decode_wh: Number = None


def read_report(source: Source, asked: Asked) -> list[Session]:
    """Return the session of a report."""
    found = parse(Report, source.json, source.name)
    config, prompts, energy, component = found.config, found.summary, found.energy, asked.component or "gpu"
    measure = Measure(
        {part: energy.wh(part, source.name) for part in common.COMPONENTS},
        duration_s=energy.duration_seconds or prompts.total_duration_seconds or None,
        input_tokens=prompts.total_prompt_tokens or None,
        output_tokens=prompts.total_completion_tokens or None,
        reasons=("failed_query",) * bool(prompts.failed_prompts) + ("meter_error",) * bool(energy.error),
    )
    devices = _devices(config.device_ids, found.gpu_stats)
    session = Session(
        runs=({"total": measure},),
        meter=(str(found.metrics_metadata.get("name", "codecarbon")), f"energy.{component}_energy_wh"),
        unit=Unit("Wh", "field names gpu_energy_wh and gpu_energy_kwh"),
        model=config.model,
        task=config.task,
        queries=prompts.successful_prompts or config.num_samples,
        devices=devices or common.NO_DEVICES,
        devices_counted=bool(devices),
        data=config.dataset,
        settings={"batch_size": 1} if config.backend == "pytorch" else {},
        protocol={"backend": config.backend} if config.backend else {},
        extra={"runner": {"config": source.json["config"], "summary": source.json["summary"]}},
    )
    return [session]


def _devices(ids: Any, stats: dict[str, Any]) -> tuple[DeviceFacts, ...]:
    """Return one device without a name for each id, since the report has no names."""
    numbers = [int(each) for each in re.findall(r"\d{1,6}", str(ids))]
    kinds = ["cuda" if stats.get(f"gpu_{number}") else "not stated" for number in numbers]
    return tuple(DeviceFacts(name=None, type=kind, index=n) for n, kind in zip(numbers, kinds, strict=True))


def read_summary(source: Source, asked: Asked) -> list[Session]:
    """Return the session of a summary; the user must state model, task and queries.

    Zeros of a task that has neither prefill nor decode are no measures. A total that is preprocessing alone means that
    the phase after it read zero. Generate is prefill plus decode.
    """
    found = parse(Summary, source.json, source.name)
    phased = found.format != "ai_energy_benchmarks" and (found.prefill_wh or found.decode_wh)
    return [
        Session(
            runs=(_phases(found) if phased else _whole(found),),
            meter=("codecarbon", "preprocess, prefill and decode" if phased else "total"),
            unit=Unit(common.unit_named(found.units), f"field units says {found.units!r}"),
            notes=tuple(_doubts(found)) if phased else (),
            extra={"summary": source.json},
        )
    ]


def _whole(found: Summary) -> dict[str, Measure]:
    alone = bool(found.total) and found.total == found.preprocess_wh
    return {"total": Measure({"gpu": found.total}, bound=ROUNDING_WH, reasons=("zero_reading",) * alone)}


def _phases(found: Summary) -> dict[str, Measure]:
    parts = (found.preprocess_wh, found.prefill_wh, found.decode_wh)
    preprocess, prefill, decode = (Measure({"gpu": part}, bound=ROUNDING_WH) for part in parts)
    return {"preprocess": preprocess, "prefill": prefill, "generate": prefill.then(decode, "gpu")}


def _doubts(found: Summary) -> Iterable[str]:
    parts = sum(value or 0.0 for value in (found.preprocess_wh, found.prefill_wh, found.decode_wh))
    if found.total is not None and abs(parts - found.total) > 4 * ROUNDING_WH:
        yield f"the stated total of {found.total:g} Wh is not the sum of its phases, {parts:g} Wh; the phases are taken"


FORMATS = (
    Format(
        "ai-energy-score",
        "AI Energy Score runner's report (benchmark_report.json)",
        lambda source: source.keys >= {"config", "summary", "energy"},
        read_report,
    ),
    Format(
        "gpu-energy-summary",
        "AI Energy Score summary (GPU_ENERGY_SUMMARY.json)",
        lambda source: source.keys >= {"units", "total"},
        read_summary,
    ),
)
