"""ML.ENERGY's result files: what its leaderboard shows (of today and of 2023 to 2025), and its benchmark's raw results.

The leaderboard's files state joules in their field names (``energy_per_request_joules``, ``Energy/req (J)``), as a
mean a request, image or video. Raw results say no unit; energy over time then shows it.

References
----------
https://github.com/ml-energy/leaderboard, ``public/data``; https://github.com/ml-energy/leaderboard-v2, ``data``;
https://github.com/ml-energy/benchmark, ``docs/analyzing-results.md``, ``mlenergy/benchmark/llm/benchmark.py`` and
``diffusion/benchmark.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from energylab.formats import ask
from energylab.formats.session import Asked, Measure, Session
from energylab.formats.source import Source
from energylab.formats.units import Unit, by_power, settle
from energylab.record import DeviceFacts

_AVERAGE = "a mean per query: of how many queries it is the mean is not stated"

#: Fields of a configuration that say what ran, beside model, device and energy.
_SETTINGS = (
    "max_num_seqs", "batch_size", "image_height", "image_width", "video_height", "video_width", "num_frames", "fps",
    "inference_steps", "tensor_parallel", "expert_parallel", "data_parallel", "ring_degree", "ulysses_degree",
)  # fmt: skip

_PER_QUERY = re.compile(r"energy_per_(request|image|video|generation)_joules")


class Configurations:
    """Reader of the leaderboard's task and model files: one energy a configuration."""

    name = "ml-energy"
    title = "ML.ENERGY leaderboard data (public/data/tasks/*.json, public/data/models/*.json)"

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such data."""
        content = source.json
        rows = content.get("configurations") if isinstance(content, dict) else None
        return isinstance(rows, list) and bool(rows) and _field(rows[0]) is not None

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return one session a configuration."""
        rows = source.json["configurations"]
        return [self._session(n, {**_shared(source.json), **row}, source, asked) for n, row in enumerate(rows)]

    def _session(self, number: int, row: Mapping[str, Any], source: Source, asked: Asked) -> Session:
        where = f"{source.name}, configuration {number}"
        field = _field(row)
        settings = {**row, **ask.mapping(row.get("parallelization"), "parallelization", where)}
        unit = settle(Unit("J", f"field name {field}"), asked.unit, where)
        return Session(
            model=ask.model(asked, row.get("model_id"), where),
            task=ask.task(asked, row.get("task"), where),
            queries=1,
            runs=({_phase(field): _mean(row[field], field, unit, where)},),
            unit=unit,
            meter=("zeus", field),
            row=f"configuration {number}",
            facts={"parameters": _parameters(row, where), "dtype": row.get("weight_precision")},
            settings=_settings(settings),
            notes=(_AVERAGE,),
            extra={"ml_energy": {name: row[name] for name in _KEPT if name in row}},
            **_devices(row.get("gpu_model"), row.get("num_gpus"), where),
        )


#: Fields that are kept as they are.
_KEPT = (
    "avg_power_watts", "avg_output_len", "avg_batch_size", "energy_per_token_joules", "median_itl_ms",
    "output_throughput_tokens_per_sec", "batch_latency_s", "activated_params_billions", "architecture", "nickname",
)  # fmt: skip


def _shared(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of all of its configurations."""
    return {name: value for name, value in content.items() if not isinstance(value, (list, dict))}


def _field(row: Any) -> str | None:
    """Return the name of the energy of one query, or None."""
    found = [name for name in row if _PER_QUERY.fullmatch(name)] if isinstance(row, dict) else []
    return found[0] if len(found) == 1 else None


def _phase(field: str) -> str:
    """Return the phase that an energy covers: a served request is prefill and decode, which is generate here."""
    return "call" if "image" in field or "video" in field else "generate"


def _mean(value: Any, field: str, unit: Unit, where: str) -> Measure:
    energy = ask.number(value, field, where)
    return Measure(None if energy is None else unit.joules(energy))


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: row[name] for name in _SETTINGS if row.get(name) is not None}
    if "batch_size" not in found and "max_num_seqs" in found:
        found["batch_size"] = found["max_num_seqs"]  # the server's limit of requests at a time
    return found


def _parameters(row: Mapping[str, Any], where: str) -> int | None:
    billions = ask.number(row.get("total_params_billions"), "total_params_billions", where)
    return None if billions is None else round(billions * 1e9)


def _devices(name: Any, count: Any, where: str) -> dict[str, Any]:
    number = ask.devices(count, "number of GPUs", where)
    device = DeviceFacts(name=name if isinstance(name, str) else None, type="cuda" if name else "not stated")
    return {"devices": (device,) * (number or 1), "devices_counted": bool(number)}


class Titled:
    """Reader of the leaderboard's files of 2023 to 2025: one configuration a file, units in the field names."""

    name = "ml-energy-v2"
    title = "ML.ENERGY leaderboard data of 2023 to 2025 (one JSON file a configuration)"

    _FIELD = re.compile(r"Energy/(req|request|image|video) \(J\)")

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such data."""
        content = source.json
        return isinstance(content, dict) and "Model" in content and any(map(self._FIELD.fullmatch, content))

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return the one session; the task is in the file's folder only, so it is asked for."""
        content, where = source.json, source.name
        field = next(name for name in content if self._FIELD.fullmatch(name))
        unit = settle(Unit("J", f"field name {field!r}"), asked.unit, where)
        tensor, pipeline = (ask.whole(content.get(name), name, where) for name in ("TP", "PP"))
        gpus = tensor * pipeline if tensor and pipeline else None
        batch = ask.whole(content.get("Batch size", content.get("Max BS (reqs)")), "batch size", where)
        stated = {
            "batch_size": batch,
            "tensor_parallel": tensor,
            "inference_steps": content.get("Denoising steps"),
            "num_frames": content.get("Frames"),
        }
        return [
            Session(
                model=ask.model(asked, content["Model"], where),
                task=ask.task(asked, None, where),
                queries=1,
                runs=({_phase(field): _mean(content[field], field, unit, where)},),
                unit=unit,
                meter=("zeus", field),
                settings={name: value for name, value in stated.items() if value is not None},
                notes=(_AVERAGE,),
                extra={"ml_energy": content},
                **_devices(content.get("GPU"), gpus, where),
            )
        ]


class Results:
    """Reader of the benchmark's ``results.json``: of a served model in steady state, or of a diffusion model."""

    name = "ml-energy-results"
    title = "ML.ENERGY benchmark results (results.json)"

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a result."""
        content = source.json
        served = {"model_id", "steady_state_energy", "steady_state_duration"}
        drawn = {"model_id", "total_energy", "num_iterations"}
        return isinstance(content, dict) and (served <= set(content) or drawn <= set(content))

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return the one session of a result."""
        return [_served(source, asked) if "steady_state_energy" in source.json else _drawn(source, asked)]


def _served(source: Source, asked: Asked) -> Session:
    """Return a served model's session: steady-state energy per token times the tokens of all completed requests."""
    content, where = source.json, source.name
    energy, seconds, completed, tokens, wanted = (
        ask.number(content.get(name), name, where)
        for name in ("steady_state_energy", "steady_state_duration", "completed", "total_output_tokens", "num_prompts")
    )
    per_token = ask.number(content.get("steady_state_energy_per_token"), "steady_state_energy_per_token", where)
    gpus = ask.whole(content.get("num_gpus"), "num_gpus", where)
    proved = by_power([(energy or 0.0, seconds or 0.0)], gpus or 1, "steady_state_energy")
    why = "nothing in the file names a unit, and energy over time fits none or several"
    unit = settle(proved, asked.unit, where, why)
    known = None not in (per_token, tokens)
    lost = wanted is not None and completed is not None and completed < wanted
    measure = Measure(
        energy_j=unit.joules(per_token * tokens) if known else None,
        input_tokens=ask.whole(content.get("total_input_tokens"), "total_input_tokens", where),
        output_tokens=None if tokens is None else int(tokens),
        reasons=("failed_query",) if lost else (),
    )
    return Session(
        model=ask.model(asked, content["model_id"], where),
        task=ask.task(asked, None, where),
        queries=ask.queries(asked, None if completed is None else int(completed), where),
        runs=({"generate": measure},),
        unit=unit,
        meter=("zeus", "steady_state_energy_per_token x total_output_tokens"),
        settings=_settings({**content, "batch_size": content.get("max_num_seqs")}),
        seed=ask.whole(content.get("seed"), "seed", where),
        notes=("energy per token of the steady state, applied to all tokens of all completed requests",),
        extra={"ml_energy": {"steady_state_energy": energy, "steady_state_duration": seconds}},
        **_devices(content.get("gpu_model"), gpus, where),
    )


def _drawn(source: Source, asked: Asked) -> Session:
    """Return a diffusion model's session: every iteration is one batch, a run of as many queries."""
    content, where = source.json, source.name
    iterations = content.get("iteration_energy_measurements") or []
    parts = [_iteration(each, n, where) for n, each in enumerate(iterations)]
    total = ask.number(content["total_energy"], "total_energy", where)
    images = ask.whole(content.get("total_images"), "total_images", where)
    gpus = len(ask.mapping(iterations[0].get("gpu_energy"), "gpu_energy", where)) if iterations else None
    timed = [
        *((energy, seconds) for energy, seconds, reasons in parts if energy and not reasons),
        (total or 0.0, ask.number(content.get("total_time"), "total_time", where) or 0.0),
    ]
    unit = settle(by_power(timed, gpus or 1, "energy"), asked.unit, where, "nothing in the file names a unit")
    batch = ask.whole(content.get("batch_size"), "batch_size", where)
    runs: Iterable[Measure] = (
        Measure(None if energy is None else unit.joules(energy), seconds or None, reasons=reasons)
        for energy, seconds, reasons in parts
    )
    if not parts:
        runs = (Measure(None if total is None else unit.joules(total), timed[-1][1] or None),)
    return Session(
        model=ask.model(asked, content["model_id"], where),
        task=ask.task(asked, None, where),
        queries=ask.queries(asked, batch if parts else images, where),
        runs=tuple({"call": measure} for measure in runs),
        unit=unit,
        meter=("zeus", "iteration_energy_measurements" if parts else "total_energy"),
        settings=_settings({**content, "image_height": content.get("height"), "image_width": content.get("width")}),
        seed=ask.whole(content.get("seed"), "seed", where),
        **_devices(None, gpus, where),
    )


def _iteration(each: Any, number: int, where: str) -> tuple[float | None, float, tuple[str, ...]]:
    """Return an iteration's energy over its GPUs, its seconds, and why it is invalid.

    A GPU without a figure leaves the sum unknown; one that read zero or less beside others would hide in it.
    """
    place = f"{where}, iteration {number}"
    boards = ask.mapping(ask.mapping(each, "iteration", place).get("gpu_energy"), "gpu_energy", place)
    energies = [ask.number(value, "gpu_energy", place) for value in boards.values()]
    seconds = ask.number(each.get("time"), "time", place) or 0.0
    if not energies or None in energies:
        return None, seconds, ()
    lost = [reason for energy in energies for reason in Measure(energy).checked().reasons]
    return sum(energies), seconds, tuple(dict.fromkeys(lost))


class Table:
    """Reader of the leaderboard's tables of 2023: ``model,throughput,response_length,latency,energy``."""

    name = "ml-energy-2023"
    title = "ML.ENERGY leaderboard CSV of 2023 (model, response_length, latency, energy)"

    _NEEDED = frozenset({"model", "response_length", "latency", "energy"})

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a table."""
        return source.columns >= self._NEEDED

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return one session a row: the mean of a request, answered alone on one GPU."""
        places = [f"{source.name}, row {number}" for number in range(2, len(source.rows) + 2)]
        values = [
            tuple(ask.number(row[name], name, where) for name in ("energy", "latency"))
            for row, where in zip(source.rows, places, strict=True)
        ]
        proved = by_power([pair for pair in values if None not in pair], 1, "energy")
        unit = settle(
            proved, asked.unit, source.name, "column energy says no unit, and energy over latency fits none or several"
        )
        return [
            Session(
                model=ask.model(Asked(), row["model"], where),
                task=ask.task(asked, None, where),
                queries=1,
                runs=({"generate": Measure(None if energy is None else unit.joules(energy), seconds)},),
                unit=unit,
                meter=("zeus", "column energy"),
                row=where.rpartition(", ")[2],
                notes=(_AVERAGE,),
            )
            for row, (energy, seconds), where in zip(source.rows, values, places, strict=True)
        ]
