"""The archive that the AI Energy Score portal takes: a session's report and its two summaries.

The report has optimum-benchmark's shape with one measure a run, in kWh; the summaries have the shape and the rounding
of the portal's own script. What the report says of itself stands beside its phases under ``energylab``, as a
configuration of optimum-benchmark.

References
----------
https://huggingface.co/spaces/AIEnergyScore/submission_portal; ``summarize_gpu_wh.py`` of
https://github.com/huggingface/AIEnergyScore.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from energylab.energy import PhaseTotal, session_energy_j, totals
from energylab.errors import FormatError
from energylab.formats.common import JOULES
from energylab.formats.importing import REPORT, SUMMARY
from energylab.formats.optimum_benchmark import OWN
from energylab.publish import page
from energylab.record import Record

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip archive: equal records give equal bytes
_PHASES = ("preprocess", "prefill", "decode", "generate", "forward", "call", "total")


def write(record: Record, path: Path, unofficial: bool = False) -> Path:
    """Write a submission's archive, and return its path."""
    return page.write(path, submission(record, unofficial))


def submission(record: Record, unofficial: bool = False) -> bytes:
    """Return a record as the archive of a submission."""
    if not record.valid:
        raise FormatError(f"record {record.record_id} is invalid and has no total: {'; '.join(record.reasons)}")
    reasons = list(record.not_official())
    if {device.type for device in record.devices} != {"cuda"}:
        reasons.append("the device is not a GPU")
    if reasons and not unofficial:
        raise FormatError(
            f"record {record.record_id} is not for submission: {'; '.join(reasons)}; "
            "to write the archive all the same, for your own use, say --unofficial"
        )
    targets = _targets(record)
    total_wh = round(session_energy_j(record) * record.queries / JOULES["Wh"], 2)
    parts = {name: 1000 * targets[name]["energy"]["gpu"] if name in targets else 0.0 for name in _PHASES[:3]}
    summary = {"units": "Wh", "total": total_wh, "format": "optimum"}
    summary |= {f"{name}_wh": round(value, 2) for name, value in parts.items()}  # 0.0: a phase that the task lacks
    files = {
        REPORT: _json({**targets, OWN: _itself(record, reasons)}),
        SUMMARY: _json(summary),
        "GPU_ENERGY_WH.txt": f"{total_wh:.2f}\n",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _targets(record: Record) -> dict[str, dict[str, Any]]:
    """Return the report's targets: decode in place of generate where prefill was measured."""
    phases: dict[str, list[PhaseTotal]] = {}
    for total in totals(record):
        phases.setdefault(total.phase, []).append(total)
    if "decode" in phases:
        del phases["generate"]
    return {name: _target(name, phases[name], record.queries) for name in _PHASES if name in phases}


def _target(name: str, runs: Sequence[PhaseTotal], queries: int) -> dict[str, Any]:
    if not all(run.valid for run in runs):
        raise FormatError(f"phase {name} has no total in some run, and the report needs it; measure the session again")
    kwh, seconds = [run.energy_j / JOULES["kWh"] for run in runs], [run.duration_s for run in runs]
    if any(run.queries != queries for run in runs):  # one ended early: all of them count as one run, by their queries
        share = queries / sum(run.queries for run in runs)
        kwh, seconds = [sum(kwh) * share], [None if None in seconds else sum(seconds) * share]
    latency = (
        None if None in seconds else {"unit": "s", "values": seconds, "count": len(seconds), "mean": fmean(seconds)}
    )
    return {
        "memory": None,
        "latency": latency,
        "throughput": None,
        "energy": _energy(fmean(kwh)),
        "efficiency": None,
        "measures": [_energy(value) for value in kwh],
    }


def _energy(gpu_kwh: float) -> dict[str, Any]:
    """Return an energy; processor and memory were not metered, which is null and not zero."""
    return {"unit": "kWh", "cpu": None, "ram": None, "gpu": gpu_kwh, "total": None}


def _itself(record: Record, reasons: Sequence[str]) -> dict[str, Any]:
    first, count = record.devices[0], len(record.devices)
    return {
        "record_id": record.record_id,
        "record_sha256": record.digest(),
        "energylab_version": record.energylab_version,
        "energy_kind": record.energy_kind,
        "not_official": list(reasons),
        "backend": {
            "model": record.model.name,
            "model_class": record.model.model_class,
            "task": record.task.name,
            "device": first.type,
            "device_ids": list(range(count)),
            "torch_dtype": record.model.dtype,
        },
        "scenario": {
            "name": "energy_star",
            "num_samples": record.queries,
            "dataset_name": record.data.name,
            "input_shapes": {"batch_size": record.task.settings.get("batch_size")},
        },
        "environment": {"gpu": [first.name] * count, "cpu": record.host.processor},
    }


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
