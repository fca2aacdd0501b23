"""ML.ENERGY's leaderboard data: one mean energy per request, image or video for each configuration.

Field names state joules (``energy_per_request_joules``); a task's file and a model's file hold the same runs.

References
----------
https://github.com/ml-energy/leaderboard, ``public/data``.
"""

from __future__ import annotations

import re
from typing import Any

from energylab.formats.common import Asked, DeviceCount, Measure, Number, Part, Session, Unit, parse
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts

#: Further fields of a configuration besides model, device and energy.
_SETTINGS = (
    "max_num_seqs", "batch_size", "image_height", "image_width", "video_height", "video_width", "num_frames", "fps",
    "inference_steps", "tensor_parallel", "expert_parallel", "data_parallel", "ring_degree", "ulysses_degree",
)  # fmt: skip

_PER_QUERY = re.compile(r"energy_per_(request|image|video|generation)_joules")


class Configuration(Part):
    energy: Number = None
    model_id: str | None = None
    task: str | None = None
    gpu_model: str | None = None
    num_gpus: DeviceCount = None
    total_params_billions: Number = None
    weight_precision: str | None = None
    parallelization: dict[str, Any] = {}


def read(source: Source, asked: Asked) -> list[Session]:
    """Return one session per configuration."""
    shared = {name: value for name, value in source.json.items() if not isinstance(value, (list, dict))}
    field = _field(source.json["configurations"][0])
    return [_session(n, row, field, shared, source) for n, row in enumerate(source.json["configurations"])]


def _session(number: int, row: Any, field: str, shared: dict[str, Any], source: Source) -> Session:
    row = {**shared, **(row if isinstance(row, dict) else {})}
    found = parse(Configuration, {**row, "energy": row.get(field)}, f"{source.name}, configuration {number}")
    billions = found.total_params_billions
    device = DeviceFacts(name=found.gpu_model, type="cuda" if found.gpu_model else "not stated")
    return Session(
        model=found.model_id,
        task=found.task,
        queries=1,
        runs=({"call" if "image" in field or "video" in field else "generate": Measure({"gpu": found.energy})},),
        unit=Unit("J", f"field name {field}"),
        meter=("zeus", field),
        row=f"configuration {number}",
        devices=(device,) * (found.num_gpus or 1),
        devices_counted=bool(found.num_gpus),
        facts={"parameters": None if billions is None else round(billions * 1e9), "dtype": found.weight_precision},
        settings=_settings({**row, **found.parallelization}),
        notes=("a mean per query: of how many queries it is the mean is not stated",),
    )


def _field(row: Any) -> str | None:
    """Return the field with the energy per query, or None."""
    found = [name for name in row if _PER_QUERY.fullmatch(name)] if isinstance(row, dict) else []
    return found[0] if len(found) == 1 else None


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    found = {name: row[name] for name in _SETTINGS if row.get(name) is not None}
    if "batch_size" not in found and "max_num_seqs" in found:
        found["batch_size"] = found["max_num_seqs"]  # the server's limit of requests at a time
    return found


def _recognises(source: Source) -> bool:
    rows = source.json["configurations"] if "configurations" in source.keys else None
    return isinstance(rows, list) and bool(rows) and _field(rows[0]) is not None


_TITLE = "ML.ENERGY leaderboard data (public/data/tasks/*.json, public/data/models/*.json)"
FORMATS = (Format("ml-energy", _TITLE, _recognises, read),)
