"""The tidy tables: what columns they have, and how a record becomes rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from energylab.cohort import cohort_key
from energylab.record import SCORED_PHASES, Record

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the tidy table, one row a record, run and phase.
COLUMNS = (
    "task", "task_version", "model", "model_class", "model_source", "data_source", "phase", "scored", "run", "queries",
    "energy_j", "bound_j", "duration_s", "idle_power_w", "input_tokens", "output_tokens", "energy_kind", "device",
    "board", "gpus", "session", "job_id", "repeat", "dtype", "batch_size", "parameters", "quality_metric", "quality",
    "valid", "reasons", "cohort", "created_utc", "path",
)  # fmt: skip

#: Columns of the tidy table that are not text; every other is.
KINDS = {
    "scored": "bool",
    "valid": "bool",
    **dict.fromkeys(("run", "queries", "repeat"), "int64"),
    **dict.fromkeys(("gpus", "batch_size"), "Int64"),  # missing where an imported file does not state them
    **dict.fromkeys(("energy_j", "bound_j", "duration_s", "idle_power_w", "quality"), "float64"),
    **dict.fromkeys(("input_tokens", "output_tokens", "parameters"), "float64"),
}

#: Columns of the table of windows.
WINDOW_COLUMNS = (
    "session", "board", "device", "task", "model", "run", "phase", "scored", "block", "attempt", "index", "queries",
    "query_ids", "replications", "start_s", "duration_s", "energy_j", "bound_j", "mean_power_w", "temperature_c",
    "input_tokens", "output_tokens", "valid", "reasons", "energy_kind",
)  # fmt: skip


def tidy_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the tidy table of `rows`, with the same column types however many rows there are.

    Numbers that a record may lack are floats, NaN where it does; text it may lack is NaN too.
    """
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({column: KINDS.get(column, "str") for column in COLUMNS})


def record_rows(record: Record, path: str | os.PathLike = "") -> list[dict[str, Any]]:
    """Return a record's rows of the tidy table: one a run and phase."""
    shared = _shared(record, path)
    return [
        {
            **shared,
            "phase": total.phase,
            "scored": total.phase in SCORED_PHASES,
            "run": total.run,
            "queries": total.queries,
            "energy_j": float("nan") if total.energy_j is None else total.energy_j,
            "bound_j": float("nan") if total.bound_j is None else total.bound_j,
            "duration_s": float("nan") if total.duration_s is None else total.duration_s,
            "input_tokens": total.input_tokens,
            "output_tokens": total.output_tokens,
            "valid": total.valid and record.valid,
            "reasons": ", ".join(dict.fromkeys([*total.reasons, *record.reasons])),
        }
        for total in record.totals()
    ]


def _shared(record: Record, path: str | os.PathLike) -> dict[str, Any]:
    scored = next((quality for quality in record.quality), None)
    idle_w = next((level.power_w for level in record.idle if level.level == "weights_resident"), None)
    return {
        "task": record.task.name,
        "task_version": record.task.version,
        "model": record.model.name,
        "model_class": record.model.model_class,
        "model_source": record.model.source,
        "data_source": record.data.source,
        "idle_power_w": _nan(idle_w),
        "energy_kind": record.energy_kind,
        "device": record.devices[0].name,
        "board": record.board,
        "gpus": None if "devices.count" in record.missing else len(record.devices),
        "session": record.record_id,
        "job_id": record.job_id,
        "repeat": record.repeat,
        "dtype": record.model.dtype,
        "batch_size": record.task.settings.get("batch_size", None if "batch_size" in record.missing else 1),
        "parameters": record.model.parameters,
        "quality_metric": scored.metric if scored else None,
        "quality": scored.value if scored else None,
        "cohort": cohort_key(record),
        "created_utc": record.created_utc.isoformat(),
        "path": str(path),
    }


def window_rows(record: Record) -> list[dict[str, Any]]:
    """Return a record's rows of the table of windows."""
    return [
        {
            "session": record.record_id,
            "board": record.board,
            "device": record.devices[0].name,
            "task": record.task.name,
            "model": record.model.name,
            "run": window.run,
            "phase": window.phase,
            "scored": window.phase in SCORED_PHASES,
            "block": window.block,
            "attempt": window.attempt,
            "index": window.index,
            "queries": len(window.queries),
            "query_ids": window.queries,
            "replications": window.replications,
            "start_s": _nan(window.start_s),
            "duration_s": _nan(window.duration_s),
            "energy_j": _nan(window.energy_j),
            "bound_j": _nan(window.bound_j),
            "mean_power_w": _nan(window.mean_power_w),
            "temperature_c": _nan(
                max((s.temperature_c for s in window.states if s.temperature_c is not None), default=None)
            ),
            "input_tokens": window.input_tokens,
            "output_tokens": window.output_tokens,
            "valid": window.valid,
            "reasons": ", ".join(window.reasons),
            "energy_kind": record.energy_kind,
        }
        for window in record.windows
    ]


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
