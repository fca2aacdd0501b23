"""The archive that the AI Energy Score portal takes: a session's report and its two summaries.

The report has optimum-benchmark's shape with one measure a run, in kWh; the summaries have the shape and the rounding
of the portal's own script. What the report says of itself stands beside its phases under ``energylab``.

References
----------
https://huggingface.co/spaces/AIEnergyScore/submission_portal; ``summarize_gpu_wh.py`` of
https://github.com/huggingface/AIEnergyScore.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from energylab.energy import PhaseTotal, totals
from energylab.errors import FormatError
from energylab.formats.common import JOULES
from energylab.formats.importing import REPORT, SUMMARY, TEXT
from energylab.formats.optimum_benchmark import NAME, OWN
from energylab.record import SCORED_PHASES, Record

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip archive: equal records give equal bytes


def submission(record: Record, unofficial: bool = False) -> bytes:
    """Return a record as the archive of a submission."""
    if not record.valid:
        raise FormatError(f"record {record.record_id} is invalid and has no total: {'; '.join(record.reasons)}")
    reasons = _reasons(record)
    if reasons and not unofficial:
        raise FormatError(
            f"record {record.record_id} is not for submission: {'; '.join(reasons)}; "
            "to write the archive all the same, for your own use, say --unofficial"
        )
    targets = _targets(record)
    files = {
        REPORT: _json({**targets, OWN: _itself(record, reasons)}, 4),
        SUMMARY: _json(_summary(record, targets), 2),
        TEXT: f"{_total_wh(record):.2f}\n".encode(),
    }
    return _archive(files)


def write(record: Record, path: str | os.PathLike, unofficial: bool = False) -> Path:
    """Write a submission's archive, and return its path."""
    path, content = Path(path), submission(record, unofficial)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    return path


def _reasons(record: Record) -> list[str]:
    """Return why a record is not what the portal takes: official, and of a GPU."""
    boards = {device.type for device in record.devices}
    return [*record.not_official(), *([] if boards == {"cuda"} else ["the device is not a GPU"])]


def _targets(record: Record) -> dict[str, dict[str, Any]]:
    """Return the report's targets: decode in place of generate where prefill was measured."""
    phases: dict[str, list[PhaseTotal]] = {}
    for total in totals(record):
        phases.setdefault(total.phase, []).append(total)
    if "prefill" in phases and "generate" in phases:
        phases["decode"] = _decode(phases["prefill"], phases.pop("generate"))
    names = [
        name for name in ("preprocess", "prefill", "decode", "generate", "forward", "call", "total") if name in phases
    ]
    return {name: _target(name, phases[name]) for name in names}


def _decode(prefill: Sequence[PhaseTotal], generate: Sequence[PhaseTotal]) -> list[PhaseTotal]:
    """Return generate minus prefill of each run, as optimum-benchmark reports it."""
    return [
        replace(
            whole,
            energy_j=None if start.energy_j is None else whole.energy_j - start.energy_j,
            duration_s=None
            if None in (start.duration_s, whole.duration_s)
            else max(whole.duration_s - start.duration_s, 0.0),
        )
        for start, whole in zip(prefill, generate, strict=True)
    ]


def _target(name: str, totals: Sequence[PhaseTotal]) -> dict[str, Any]:
    energies = [total.energy_j for total in totals]
    if None in energies:
        raise FormatError(f"phase {name} has no total in some run, and the report needs it; measure the session again")
    kwh = [energy_j / JOULES["kWh"] for energy_j in energies]
    durations = [total.duration_s for total in totals]
    return {
        "memory": None,
        "latency": None if None in durations else _latency(durations),
        "throughput": None,
        "energy": _energy(fmean(kwh)),
        "efficiency": None,
        "measures": [_energy(value) for value in kwh],
    }


def _energy(gpu_kwh: float) -> dict[str, Any]:
    """Return an energy; processor and memory were not metered, which is null and not zero."""
    return {"unit": "kWh", "cpu": None, "ram": None, "gpu": gpu_kwh, "total": None}


def _latency(durations: list[float]) -> dict[str, Any]:
    return {
        "unit": "s",
        "values": durations,
        "count": len(durations),
        "total": sum(durations),
        "mean": fmean(durations),
    }


def _itself(record: Record, why: Sequence[str]) -> dict[str, Any]:
    first = record.devices[0]
    return {
        "record_id": record.record_id,
        "record_sha256": record.digest(),
        "energylab_version": record.energylab_version,
        "model": record.model.name,
        "model_class": record.model.model_class,
        "task": record.task.name,
        "queries": record.queries,
        "runs": record.protocol.runs,
        "data": record.data.name,
        "batch_size": record.task.settings.get("batch_size"),
        "dtype": record.model.dtype,
        "device": first.name,
        "device_type": first.type,
        "devices": len(record.devices),
        "energy_kind": record.energy_kind,
        "not_official": list(why),
    }


def _total_wh(record: Record) -> float:
    """Return the mean of the runs' rated energy: of the run's queries, not of 1,000."""
    runs: dict[int, float] = {}
    for total in totals(record):
        if total.phase in SCORED_PHASES:
            runs[total.run] = runs.get(total.run, 0.0) + total.energy_j
    return fmean(runs.values()) / JOULES["Wh"]


def _summary(record: Record, targets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the summary; a phase that the task does not have is 0.0 in it, as the portal's script writes it."""
    phases = {name: 1000 * targets[name]["energy"]["gpu"] if name in targets else 0.0
              for name in ("preprocess", "prefill", "decode")}  # fmt: skip
    return {
        "units": "Wh",
        "total": round(_total_wh(record), 2),
        "format": NAME.partition("-")[0],
        **{f"{name}_wh": round(value, 2) for name, value in phases.items()},
    }


def _json(content: dict[str, Any], indent: int) -> bytes:
    return (json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, content)
    return out.getvalue()
