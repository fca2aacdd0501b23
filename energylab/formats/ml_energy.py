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
from typing import Any

from energylab.formats import common
from energylab.formats.common import Asked, Measure, Part, Session, Unit
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts

_AVERAGE = "a mean per query: of how many queries it is the mean is not stated"

#: Fields of a configuration that say what ran, beside model, device and energy.
_SETTINGS = (
    "max_num_seqs", "batch_size", "image_height", "image_width", "video_height", "video_width", "num_frames", "fps",
    "inference_steps", "tensor_parallel", "expert_parallel", "data_parallel", "ring_degree", "ulysses_degree",
)  # fmt: skip

#: Fields that are kept as they are.
_KEPT = (
    "avg_power_watts", "avg_output_len", "avg_batch_size", "energy_per_token_joules", "median_itl_ms",
    "output_throughput_tokens_per_sec", "batch_latency_s", "activated_params_billions", "architecture", "nickname",
)  # fmt: skip

_PER_QUERY = re.compile(r"energy_per_(request|image|video|generation)_joules")


class Configuration(Part):
    """One configuration of the leaderboard's data, with what its file says of all of them."""

    energy: common.Number
    model_id: common.Text = None
    task: common.Text = None
    gpu_model: common.Text = None
    num_gpus: common.DeviceCount = None
    total_params_billions: common.Number = None
    weight_precision: common.Text = None
    parallelization: common.Loose = {}


class Served(Part):
    """A served model's raw result, in steady state."""

    model_id: common.Text
    steady_state_energy: common.Number
    steady_state_duration: common.Number
    steady_state_energy_per_token: common.Number = None
    completed: common.Whole = None
    num_prompts: common.Whole = None
    total_input_tokens: common.Whole = None
    total_output_tokens: common.Whole = None
    num_gpus: common.DeviceCount = None
    gpu_model: common.Text = None
    max_num_seqs: common.Whole = None
    seed: common.Whole = None


class Iteration(Part):
    """One batch of a diffusion model."""

    time: common.Number = None
    gpu_energy: dict[str, common.Number] = {}

    def measure(self) -> Measure:
        """Return the energy over the GPUs in the file's unit, as if joules.

        A GPU without a figure leaves the sum unknown; one that read zero or less beside others would hide in it.
        """
        values = list(self.gpu_energy.values())
        known = bool(values) and None not in values
        lost = [reason for value in values for reason in Measure(value).checked().reasons] if known else []
        return Measure(sum(values) if known else None, self.time or None, reasons=tuple(dict.fromkeys(lost)))


class DiffusionResult(Part):
    """A diffusion model's raw result."""

    model_id: common.Text
    total_energy: common.Number
    total_time: common.Number = None
    total_images: common.Whole = None
    batch_size: common.Whole = None
    height: common.Whole = None
    width: common.Whole = None
    seed: common.Whole = None
    iteration_energy_measurements: list[Iteration] | None = None


def read_configurations(source: Source, asked: Asked) -> list[Session]:
    """Return one session a configuration."""
    shared = {name: value for name, value in source.json.items() if not isinstance(value, (list, dict))}
    rows = source.json["configurations"]
    return [_configuration(n, row, shared, source, asked) for n, row in enumerate(rows)]


def _configuration(number: int, row: Any, shared: dict[str, Any], source: Source, asked: Asked) -> Session:
    where = f"{source.name}, configuration {number}"
    field = _field(row) or _field(source.json["configurations"][0])
    row = {**shared, **(row if isinstance(row, dict) else {})}
    found = common.parse(Configuration, {**row, "energy": row.get(field)}, where)
    unit = common.settle(Unit("J", f"field name {field}"), asked.unit, where)
    billions = found.total_params_billions
    return Session(
        model=common.model_name(asked, found.model_id, where),
        task=common.task_name(asked, found.task, where),
        queries=1,
        runs=({"call" if "image" in field or "video" in field else "generate": Measure(unit.joules(found.energy))},),
        unit=unit,
        meter=("zeus", field),
        row=f"configuration {number}",
        facts={"parameters": None if billions is None else round(billions * 1e9), "dtype": found.weight_precision},
        settings=_settings({**row, **found.parallelization}),
        notes=(_AVERAGE,),
        extra={"ml_energy": {name: row[name] for name in _KEPT if name in row}},
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


def read_results(source: Source, asked: Asked) -> list[Session]:
    """Return the one session of a raw result."""
    read = _served if "steady_state_energy" in source.json else _drawn
    return [read(source, asked)]


def _served(source: Source, asked: Asked) -> Session:
    """Return a served model's session: steady-state energy per token times the tokens of all completed requests."""
    found, where = common.parse(Served, source.json, source.name), source.name
    proved = common.by_power(
        [(found.steady_state_energy, found.steady_state_duration)], found.num_gpus or 1, "steady_state_energy"
    )
    why = "nothing in the file names a unit, and energy over time fits none or several"
    unit = common.settle(proved, asked.unit, where, why)
    per_token, tokens = found.steady_state_energy_per_token, found.total_output_tokens
    lost = None not in (found.num_prompts, found.completed) and found.completed < found.num_prompts
    measure = Measure(
        energy_j=None if None in (per_token, tokens) else unit.joules(per_token * tokens),
        input_tokens=found.total_input_tokens,
        output_tokens=tokens,
        reasons=("failed_query",) if lost else (),
    )
    steady = {"steady_state_energy": found.steady_state_energy, "steady_state_duration": found.steady_state_duration}
    return Session(
        model=common.model_name(asked, found.model_id, where),
        task=common.task_name(asked, None, where),
        queries=common.query_count(asked, found.completed, where),
        runs=({"generate": measure},),
        unit=unit,
        meter=("zeus", "steady_state_energy_per_token x total_output_tokens"),
        settings=_settings({**source.json, "batch_size": found.max_num_seqs}),
        seed=found.seed,
        notes=("energy per token of the steady state, applied to all tokens of all completed requests",),
        extra={"ml_energy": steady},
        **_devices(found.gpu_model, found.num_gpus),
    )


def _drawn(source: Source, asked: Asked) -> Session:
    """Return a diffusion model's session: every iteration is one batch, a run of as many queries."""
    found, where = common.parse(DiffusionResult, source.json, source.name), source.name
    iterations = found.iteration_energy_measurements or []
    parts = [each.measure() for each in iterations] or [Measure(found.total_energy, found.total_time or None)]
    gpus = len(iterations[0].gpu_energy) if iterations else None
    timed = [(part.energy_j, part.duration_s) for part in parts if not part.reasons]
    proved = common.by_power([*timed, (found.total_energy, found.total_time)], gpus or 1, "energy")
    unit = common.settle(proved, asked.unit, where, "nothing in the file names a unit")
    return Session(
        model=common.model_name(asked, found.model_id, where),
        task=common.task_name(asked, None, where),
        queries=common.query_count(asked, found.batch_size if iterations else found.total_images, where),
        runs=tuple(
            {"call": Measure(unit.joules(part.energy_j), part.duration_s, reasons=part.reasons)} for part in parts
        ),
        unit=unit,
        meter=("zeus", "iteration_energy_measurements" if iterations else "total_energy"),
        settings=_settings({**source.json, "image_height": found.height, "image_width": found.width}),
        seed=found.seed,
        **_devices(None, gpus),
    )


def _is_data(source: Source) -> bool:
    rows = source.json.get("configurations") if isinstance(source.json, dict) else None
    return isinstance(rows, list) and bool(rows) and _field(rows[0]) is not None


def _is_result(source: Source) -> bool:
    served = {"model_id", "steady_state_energy", "steady_state_duration"}
    drawn = {"model_id", "total_energy", "num_iterations"}
    return isinstance(source.json, dict) and (served <= set(source.json) or drawn <= set(source.json))


_TITLE = "ML.ENERGY leaderboard data (public/data/tasks/*.json, public/data/models/*.json)"
FORMATS = (
    Format("ml-energy", _TITLE, _is_data, read_configurations),
    Format("ml-energy-results", "ML.ENERGY benchmark results (results.json)", _is_result, read_results),
)
