"""ML.ENERGY's result files: what its leaderboard shows, and its benchmark's raw results.

The leaderboard's files state joules in their field names (``energy_per_request_joules``), as a mean a request, image or
video; a task's file and a model's file hold the same runs. Raw results say no unit; energy over time then shows it.

References
----------
https://github.com/ml-energy/leaderboard, ``public/data``; https://github.com/ml-energy/benchmark,
``docs/analyzing-results.md``, ``mlenergy/benchmark/llm/benchmark.py`` and ``diffusion/benchmark.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from energylab.formats.common import JOULES, Asked, DeviceCount, Measure, Number, Part, Session, Unit, Whole, parse
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts

#: Fields of a configuration that say what ran, beside model, device and energy.
_SETTINGS = (
    "max_num_seqs", "batch_size", "image_height", "image_width", "video_height", "video_width", "num_frames", "fps",
    "inference_steps", "tensor_parallel", "expert_parallel", "data_parallel", "ring_degree", "ulysses_degree",
)  # fmt: skip

_PER_QUERY = re.compile(r"energy_per_(request|image|video|generation)_joules")

#: Fields by which a served model's raw result is known.
_SERVED = {"steady_state_energy", "steady_state_duration"}

#: What one device can draw on average while it works, in watts: from a small module to the largest accelerators.
DEVICE_POWER_W = (4.0, 2000.0)

#: Units in common use, which a check of power sets against each other; kJ and Wh are too near for it to tell.
_COMMON = ("mJ", "J", "kJ", "Wh", "kWh", "MWh")


class Configuration(Part):
    energy: Number = None
    model_id: str | None = None
    task: str | None = None
    gpu_model: str | None = None
    num_gpus: DeviceCount = None
    total_params_billions: Number = None
    weight_precision: str | None = None
    parallelization: dict[str, Any] = {}


class Iteration(Part):
    time: Number = None
    gpu_energy: dict[str, Number] = {}


class Result(Part):
    """A raw result, of a served model in steady state or of a diffusion model."""

    model_id: str | None = None
    seed: Whole = None
    steady_state_energy: Number = None
    steady_state_duration: Number = None
    steady_state_energy_per_token: Number = None
    completed: Whole = None
    num_prompts: Whole = None
    total_input_tokens: Whole = None
    total_output_tokens: Whole = None
    num_gpus: DeviceCount = None
    gpu_model: str | None = None
    max_num_seqs: Whole = None
    total_energy: Number = None
    total_time: Number = None
    total_images: Whole = None
    batch_size: Whole = None
    height: Whole = None
    width: Whole = None
    iteration_energy_measurements: list[Iteration] = []


def read_configurations(source: Source, asked: Asked) -> list[Session]:
    """Return one session a configuration."""
    shared = {name: value for name, value in source.json.items() if not isinstance(value, (list, dict))}
    field = _field(source.json["configurations"][0])
    return [_configuration(n, row, field, shared, source) for n, row in enumerate(source.json["configurations"])]


def _configuration(number: int, row: Any, field: str, shared: dict[str, Any], source: Source) -> Session:
    row = {**shared, **(row if isinstance(row, dict) else {})}
    found = parse(Configuration, {**row, "energy": row.get(field)}, f"{source.name}, configuration {number}")
    billions = found.total_params_billions
    return Session(
        model=found.model_id,
        task=found.task,
        queries=1,
        runs=({"call" if "image" in field or "video" in field else "generate": Measure({"gpu": found.energy})},),
        unit=Unit("J", f"field name {field}"),
        meter=("zeus", field),
        row=f"configuration {number}",
        facts={"parameters": None if billions is None else round(billions * 1e9), "dtype": found.weight_precision},
        settings=_settings({**row, **found.parallelization}),
        notes=("a mean per query: of how many queries it is the mean is not stated",),
        **_devices(found.gpu_model, found.num_gpus),
    )


def _field(row: Any) -> str | None:
    """Return the name of the energy of one query, or None."""
    found = [name for name in row if _PER_QUERY.fullmatch(name)] if isinstance(row, dict) else []
    return found[0] if len(found) == 1 else None


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    found = {name: row[name] for name in _SETTINGS if row.get(name) is not None}
    if "batch_size" not in found and "max_num_seqs" in found:
        found["batch_size"] = found["max_num_seqs"]  # the server's limit of requests at a time
    return found


def _devices(name: str | None, count: int | None) -> dict[str, Any]:
    device = DeviceFacts(name=name, type="cuda" if name else "not stated")
    return {"devices": (device,) * (count or 1), "devices_counted": bool(count)}


def _served(found: Result, raw: dict[str, Any]) -> Session:
    """Return a served model's session: steady-state energy per token times the tokens of all completed requests."""
    per_token, tokens = found.steady_state_energy_per_token, found.total_output_tokens
    lost = None not in (found.num_prompts, found.completed) and found.completed < found.num_prompts
    measure = Measure(
        {"gpu": None if None in (per_token, tokens) else per_token * tokens},
        input_tokens=found.total_input_tokens,
        output_tokens=tokens,
        reasons=("failed_query",) if lost else (),
    )
    steady = (found.steady_state_energy, found.steady_state_duration)
    return Session(
        model=found.model_id,
        queries=found.completed,
        runs=({"generate": measure},),
        unit=_by_power([steady], found.num_gpus or 1),
        meter=("zeus", "steady_state_energy_per_token x total_output_tokens"),
        settings=_settings({**raw, "batch_size": found.max_num_seqs}),
        seed=found.seed,
        notes=("energy per token of the steady state, applied to all tokens of all completed requests",),
        **_devices(found.gpu_model, found.num_gpus),
    )


def _drawn(found: Result, raw: dict[str, Any]) -> Session:
    """Return a diffusion model's session: every iteration is one batch, a run of as many queries."""
    iterations = found.iteration_energy_measurements
    measures = [Measure.of_boards(each.gpu_energy.values(), each.time or None) for each in iterations]
    measures = measures or [Measure({"gpu": found.total_energy}, found.total_time or None)]
    gpus = len(iterations[0].gpu_energy) if iterations else None
    timed = [(each.energies["gpu"], each.duration_s) for each in measures if not each.reasons]
    return Session(
        model=found.model_id,
        queries=found.batch_size if iterations else found.total_images,
        runs=tuple({"call": measure} for measure in measures),
        unit=_by_power([*timed, (found.total_energy, found.total_time)], gpus or 1),
        meter=("zeus", "iteration_energy_measurements" if iterations else "total_energy"),
        settings=_settings({**raw, "image_height": found.height, "image_width": found.width}),
        seed=found.seed,
        **_devices(None, gpus),
    )


def _by_power(values: Iterable[tuple[float | None, float | None]], devices: int) -> Unit | None:
    """Return the only unit in which energies over seconds are a possible power; None if several are."""
    ratios = [energy / seconds / devices for energy, seconds in values if (energy or 0) > 0 and (seconds or 0) > 0]
    low_w, high_w = DEVICE_POWER_W
    fitting = [unit for unit in _COMMON if ratios and all(low_w <= ratio * JOULES[unit] <= high_w for ratio in ratios)]
    if len(fitting) != 1:
        return None
    power_w = ratios[0] * JOULES[fitting[0]]
    how = f"of {', '.join(_COMMON)} only {fitting[0]} makes energy over time a possible power ({power_w:.3g} W)"
    return Unit(fitting[0], how)


def _is_data(source: Source) -> bool:
    rows = source.json["configurations"] if "configurations" in source.keys else None
    return isinstance(rows, list) and bool(rows) and _field(rows[0]) is not None


def _is_result(source: Source) -> bool:
    return source.keys >= {"model_id", *_SERVED} or source.keys >= {"model_id", "total_energy", "num_iterations"}


def read_results(source: Source, asked: Asked) -> list[Session]:
    """Return the one session of a raw result."""
    read = _served if source.keys >= _SERVED else _drawn
    return [read(parse(Result, source.json, source.name), source.json)]


FORMATS = (
    Format(
        "ml-energy",
        "ML.ENERGY leaderboard data (public/data/tasks/*.json, public/data/models/*.json)",
        _is_data,
        read_configurations,
    ),
    Format("ml-energy-results", "ML.ENERGY benchmark results (results.json)", _is_result, read_results),
)
