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

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from energylab.errors import FormatError
from energylab.formats import ask
from energylab.formats.session import Asked, Measure, Session
from energylab.formats.source import Source
from energylab.formats.units import JOULES, Unit, named, settle
from energylab.record import DeviceFacts

SUMMARY = "GPU_ENERGY_SUMMARY.json"
TEXT = "GPU_ENERGY_WH.txt"

#: How far figures that should be equal may be apart.
_CLOSE = 1e-6

#: Largest rounding error of a figure of the summaries, in Wh.
ROUNDING_WH = 0.005


class Runner:
    """Reader of the runner's ``benchmark_report.json``."""

    name = "ai-energy-score"
    title = "AI Energy Score runner's report (benchmark_report.json)"

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a report."""
        content = source.json
        parts = [content.get(name) for name in ("config", "summary", "energy")] if isinstance(content, dict) else []
        return bool(parts) and all(isinstance(part, dict) for part in parts)

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return the one session of a report."""
        config, summary, energy = (source.json[name] for name in ("config", "summary", "energy"))
        unit, joules = _energies(energy, asked, source.name)
        component = ask.component(asked, {name: [value] for name, value in joules.items()}, source.name)
        succeeded = ask.whole(summary.get("successful_prompts"), "successful_prompts", source.name)
        queries = ask.queries(asked, succeeded or ask.whole(config.get("num_samples"), "num_samples", source.name),
                              source.name)  # fmt: skip
        devices = _devices(config, source.json.get("gpu_stats"))
        session = Session(
            model=ask.model(asked, config.get("model"), source.name),
            task=ask.task(asked, config.get("task"), source.name),
            queries=queries,
            runs=({"total": _measure(joules, component, summary, energy, source.name)},),
            unit=unit,
            meter=(
                str(_metadata(source).get("name", "codecarbon")),
                f"energy.{component}_energy_wh",
            ),
            component=component,
            devices=devices or (DeviceFacts(name=None, type="not stated"),),
            devices_counted=bool(devices),
            data={"name": config.get("dataset"), "source": None},
            settings={"batch_size": 1} if config.get("backend") == "pytorch" else {},
            protocol={"backend": config["backend"]} if "backend" in config else {},
            extra={"runner": {"config": config, "summary": summary}},
        )
        return [session]


def _energies(energy: Mapping[str, Any], asked: Asked, where: str) -> tuple[Unit, dict[str, float | None]]:
    """Return the energy of each component in joules; the field names state units, and must agree."""
    found = {}
    for part in ask.COMPONENTS:
        in_wh = ask.number(energy.get(f"{part}_energy_wh"), f"{part}_energy_wh", where)
        in_kwh = ask.number(energy.get(f"{part}_energy_kwh"), f"{part}_energy_kwh", where)
        if None not in (in_wh, in_kwh) and abs(in_wh - 1000 * in_kwh) > _CLOSE * abs(in_wh):
            raise FormatError(
                f"{where}: {part}_energy_wh={in_wh:g} and {part}_energy_kwh={in_kwh:g} are not the same energy; "
                "the file contradicts itself"
            )
        wh = in_wh if in_wh is not None or in_kwh is None else 1000 * in_kwh
        found[part] = None if wh is None else wh * JOULES["Wh"]
    how = "field name gpu_energy_wh" + (", equal to gpu_energy_kwh" if "gpu_energy_kwh" in energy else "")
    return settle(Unit("Wh", how), asked.unit, where), found


def _measure(
    joules: Mapping[str, float | None],
    component: str,
    summary: Mapping[str, Any],
    energy: Mapping[str, Any],
    where: str,
) -> Measure:
    failed = ask.whole(summary.get("failed_prompts"), "failed_prompts", where) or 0
    seconds = ask.number(energy.get("duration_seconds"), "duration_seconds", where)
    seconds = seconds or ask.number(summary.get("total_duration_seconds"), "total_duration_seconds", where)
    return Measure(
        energy_j=joules[component],
        duration_s=seconds or None,
        others={name: value for name, value in joules.items() if name != component and value is not None},
        input_tokens=ask.whole(summary.get("total_prompt_tokens"), "total_prompt_tokens", where) or None,
        output_tokens=ask.whole(summary.get("total_completion_tokens"), "total_completion_tokens", where) or None,
        reasons=(("failed_query",) if failed else ()) + (("meter_error",) if energy.get("error") else ()),
    )


def _devices(config: Mapping[str, Any], stats: Any) -> tuple[DeviceFacts, ...]:
    """Return one nameless device for each id; the report names none."""
    ids = config.get("device_ids")
    numbers = ids if isinstance(ids, list) else re.findall(r"\d+", str(ids)) if ids is not None else []
    stats = stats if isinstance(stats, dict) else {}
    memory = {str(n): (stats.get(f"gpu_{n}") or {}).get("memory_total_mb") for n in numbers}
    return tuple(
        DeviceFacts(
            name=None,
            type="cuda" if memory[str(n)] else "not stated",
            index=int(n),
            memory_bytes=round(memory[str(n)] * 2**20) if memory[str(n)] else None,
        )
        for n in numbers
    )


def _metadata(source: Source) -> Mapping[str, Any]:
    return ask.mapping(source.json.get("metrics_metadata"), "metrics_metadata", source.name)


class Summary:
    """Reader of ``GPU_ENERGY_SUMMARY.json``: the total of a run in Wh, and its phases where it had any."""

    name = "gpu-energy-summary"
    title = "AI Energy Score summary (GPU_ENERGY_SUMMARY.json)"

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a summary."""
        return isinstance(source.json, dict) and {"units", "total"} <= set(source.json)

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return the one session of a summary; model, task and queries are asked for."""
        content, where = source.json, source.name
        unit = settle(Unit(named(str(content["units"])), f"field units says {content['units']!r}"), asked.unit, where)
        names = ("preprocess", "prefill", "decode")
        phases = {name: ask.number(content.get(f"{name}_wh"), f"{name}_wh", where) for name in names}
        total = ask.number(content["total"], "total", where)
        whole = content.get("format") == "ai_energy_benchmarks" or not (phases["prefill"] or phases["decode"])
        runs = {"total": _whole(total, phases, unit)} if whole else _phases(phases, unit)
        return [
            Session(
                model=ask.model(asked, None, where),
                task=ask.task(asked, None, where),
                queries=ask.queries(asked, None, where),
                runs=(runs,),
                unit=unit,
                meter=("codecarbon", "total" if whole else "preprocess, prefill and decode"),
                as_named={} if whole else {name: (_joules(value, unit),) for name, value in phases.items()},
                notes=tuple(_doubts(total, phases, whole)),
                extra={"summary": content},
            )
        ]


def _joules(value: float | None, unit: Unit) -> float | None:
    return None if value is None else unit.joules(value)


def _rounded(value: float | None, unit: Unit, parts: int = 1) -> Measure:
    return Measure(energy_j=_joules(value, unit), bound_j=parts * ROUNDING_WH * JOULES["Wh"])


def _whole(total: float | None, phases: Mapping[str, float | None], unit: Unit) -> Measure:
    """Return the total of a task that has neither prefill nor decode, whose zeros there are no measures.

    A total that is preprocessing alone means that the phase after it read zero.
    """
    alone = bool(total) and total == phases["preprocess"]
    return replace(_rounded(total, unit), reasons=("zero_reading",) if alone else ())


def _phases(phases: Mapping[str, float | None], unit: Unit) -> dict[str, Measure]:
    """Return preprocess, prefill and generate, which is prefill plus decode."""
    prefill, decode = phases["prefill"], phases["decode"]
    both = None if None in (prefill, decode) else prefill + decode
    generate = _rounded(both, unit, parts=2)
    negative = decode is not None and both is not None and decode < 0 < both
    return {
        "preprocess": _rounded(phases["preprocess"], unit),
        "prefill": _rounded(prefill, unit),
        "generate": Measure(
            generate.energy_j, bound_j=generate.bound_j, reasons=("negative_decode",) if negative else ()
        ),
    }


def _doubts(total: float | None, phases: Mapping[str, float | None], whole: bool) -> list[str]:
    present = [value for value in phases.values() if value is not None]
    if whole or total is None or abs(sum(present) - total) <= ROUNDING_WH * (len(present) + 1):
        return []
    return [f"the stated total of {total:g} Wh is not the sum of its phases, {sum(present):g} Wh; the phases are taken"]


class Text:
    """Reader of ``GPU_ENERGY_WH.txt``: one number, whose unit is in the file's name."""

    name = "gpu-energy-text"
    title = "AI Energy Score total (GPU_ENERGY_WH.txt)"

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a number."""
        return source.file_name == TEXT

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return the one session; model, task and queries are asked for."""
        unit = settle(Unit("Wh", f"the file's name, {TEXT}"), asked.unit, source.name)
        total = ask.number(source.text.strip().replace(",", ""), "its content", source.name)
        return [
            Session(
                model=ask.model(asked, None, source.name),
                task=ask.task(asked, None, source.name),
                queries=ask.queries(asked, None, source.name),
                runs=({"total": _rounded(total, unit)},),
                unit=unit,
                meter=("codecarbon", "the file's one number"),
            )
        ]


class BatchTable:
    """Reader of the batch runner's table: one row a model, total GPU energy and number of prompts."""

    name = "ai-energy-score-batch"
    title = "AI Energy Score batch runner's table (CSV with model_name, successful_prompts and gpu_energy_wh)"

    _NEEDED = frozenset({"model_name", "successful_prompts", "gpu_energy_wh"})

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a table."""
        return source.columns >= self._NEEDED

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return one session a row."""
        unit = settle(Unit("Wh", "column name gpu_energy_wh"), asked.unit, source.name)
        return [self._row(f"row {n}", row, unit, asked, source) for n, row in enumerate(source.rows, start=2)]

    def _row(self, place: str, row: Mapping[str, str], unit: Unit, asked: Asked, source: Source) -> Session:
        where = f"{source.name}, {place}"
        model_class = row.get("model_class", "").strip()
        failed = ask.whole(row.get("failed_prompts"), "failed_prompts", where) or 0
        measure = Measure(
            energy_j=_joules(ask.number(row["gpu_energy_wh"], "gpu_energy_wh", where), unit),
            duration_s=ask.number(row.get("total_duration_seconds"), "total_duration_seconds", where) or None,
            input_tokens=ask.whole(row.get("total_prompt_tokens"), "total_prompt_tokens", where) or None,
            output_tokens=ask.whole(row.get("total_completion_tokens"), "total_completion_tokens", where) or None,
            reasons=("failed_query",) if failed else (),
        )
        reasoning = row.get("reasoning_state", "")
        return Session(
            model=ask.model(asked, row["model_name"], where),
            task=ask.task(asked, row.get("task"), where),
            queries=ask.queries(
                asked, ask.whole(row["successful_prompts"], "successful_prompts", where) or None, where
            ),
            runs=({"total": measure},),
            unit=unit,
            meter=("codecarbon", "column gpu_energy_wh"),
            row=place,
            facts={"model_class": model_class if model_class in ("A", "B", "C") else None},
            settings={"reasoning_state": reasoning} if reasoning and reasoning != "N/A" else {},
            created_utc=time_of(row.get("timestamp")),
        )


def time_of(text: Any) -> dt.datetime | None:
    """Return a stated time, taken as UTC where it names no zone; None where it is no time."""
    try:
        found = dt.datetime.fromisoformat(str(text).strip())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
