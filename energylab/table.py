"""The tidy tables: meaning of the columns, the cohort of a record, and the rows of a record."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from energylab.csv_reader import Sheet, read_sheet
from energylab.energy import UNSTATED, require_columns, totals
from energylab.errors import DataError, nearest
from energylab.record import SCORED_PHASES, Record

#: Packages whose major version is part of the cohort.
STACK = ("torch", "transformers", "diffusers")


class Column(NamedTuple):
    """One column of a table; `kind` is its pandas dtype, `unit` is empty if it has none."""

    name: str
    kind: str
    unit: str
    description: str


#: The columns of `energylab.read`, one row a record, run and phase: type, unit, meaning.
TIDY = (
    Column("task", "str", "", "What was asked of the model: the name of a task."),
    Column("task_version", "str", "", "Version of the task's published settings; empty where a file does not state "
           "it."),
    Column("model", "str", "", "Name of the model: hub id, folder or architecture, or as an imported file names it."),
    Column("model_class", "str", "", "Size class in text generation and reasoning: A to 20, B to 66, C over 66 "
           "billion parameters."),
    Column("model_source", "str", "", "Where the weights came from: hub, path, random (real shape only), endpoint or "
           "function."),
    Column("data_source", "str", "", "Where the queries came from: hub, sample, synthetic or given."),
    Column("phase", "str", "", "Stage of the work: preprocess, prefill, generate, forward, call; decode is generate "
           "minus prefill; total is all of them, in an imported figure that has no phases."),
    Column("scored", "bool", "", "Whether the phase's energy is part of the rated energy. Prefill and decode are "
           "inside generate."),
    Column("run", "int64", "", "Number of the run in its session, from 0: all phases over all queries, once."),
    Column("queries", "int64", "queries", "How many queries the energy is of, each counted once."),
    Column("energy_j", "float64", "J", "Energy of the phase in that run, over all its queries once; empty where it is "
           "unavailable, never 0 in its place. Read it with energy_kind."),
    Column("bound_j", "float64", "J", "Largest modelled error of energy_j: the counter's ticks and latency, or "
           "rounding, not the sensor's gain; empty for estimates, whose error is not a counter's."),
    Column("duration_s", "float64", "s", "How long these queries took in that phase and run."),
    Column("idle_power_w", "float64", "W", "Mean power of the metered devices at rest with the weights resident; "
           "empty where unknown."),
    Column("input_tokens", "float64", "tokens", "Tokens read in the phase; empty where none are counted."),
    Column("output_tokens", "float64", "tokens", "Tokens made in the phase; empty where none are counted."),
    Column("truncated_tokens", "float64", "tokens", "Input tokens cut to the model's limit, over all queries of a "
           "run; empty where not stated."),
    Column("energy_kind", "str", "", "How the energy is known: measured (a counter or sensor), estimated (a power "
           "model), simulated or imported (not measured here)."),
    Column("device", "str", "", "Name of the device the model ran on."),
    Column("board", "str", "", "Identity of the board or boards: UUIDs joined by +, or the device's name. Not part of "
           "the cohort: boards are a random effect."),
    Column("gpus", "Int64", "", "Number of devices whose energy is summed; empty if a file does not state it."),
    Column("protocol", "str", "", "Name of the protocol: steady, published-2025-02 or published-2025-12; empty if "
           "a file does not state it."),
    Column("official", "bool", "", "Whether the figure is official: measured, hub weights, published data, work and "
           "settings, all runs, valid."),
    Column("session", "str", "", "Id of the record: one process start on one machine."),
    Column("job_id", "str", "", "Id of the job: a hash of task, resolved parameters, protocol version and repeat."),
    Column("repeat", "int64", "", "Number of the session among those of one setting, from 0."),
    Column("dtype", "str", "", "Precision in which the weights were loaded."),
    Column("batch_size", "Int64", "queries", "Queries answered at a time; empty if a file does not state it."),
    Column("parameters", "float64", "", "Number of parameters of the model."),
    Column("quality_metric", "str", "", "Name of the task's first quality metric."),
    Column("quality", "float64", "", "Its value; empty if it is meaningless, for example with random weights."),
    Column("valid", "bool", "", "Whether every query of the phase was measured and the record is valid."),
    Column("reasons", "str", "", "Why windows or the record are invalid, separated by commas."),
    Column("marks", "str", "", "Warnings on a valid figure, separated by commas: busy_host, not_finite, "
           "truncated."),
    Column("cohort", "str", "", "The facts that must agree for records to be compared, as field=value; records with "
           "equal text may be compared."),
    Column("created_utc", "str", "", "When the session was measured, ISO 8601; for an imported file without a time, "
           "when it was imported."),
    Column("path", "str", "", "File the row was read from."),
)  # fmt: skip

_SHARED = {column.name: column for column in TIDY}

#: The columns of `energylab.store.read_windows`, one row a window.
WINDOWS = (
    *(_SHARED[name] for name in ("session", "board", "device", "task", "model", "run", "phase", "scored")),
    Column("block", "int64", "", "Number of the planned block of queries within its run and phase."),
    Column("attempt", "int64", "", "Number of the try at this block, from 0; an invalid window is measured again."),
    Column("index", "int64", "", "Position of the window in its session."),
    Column("queries", "int64", "queries", "Number of queries in the window, each counted once."),
    Column("query_ids", "object", "", "Their indices in the data."),
    Column("replications", "int64", "", "Times the queries were repeated to make the window long enough."),
    Column("start_s", "float64", "s", "Start since the session's first reading, monotonic."),
    Column("duration_s", "float64", "s", "Time between the two readings."),
    Column("energy_j", "float64", "J", "Energy of the whole window; divided by replications, of its queries once. "
           "Empty if a meter failed."),
    Column("bound_j", "float64", "J", "Largest modelled error of energy_j."),
    Column("mean_power_w", "float64", "W", "energy_j / duration_s."),
    Column("temperature_c", "float64", "°C", "Of the warmest device, after the window."),
    Column("input_tokens", "float64", "tokens", "Tokens read in one replication."),
    Column("output_tokens", "float64", "tokens", "Tokens written in one replication."),
    Column("valid", "bool", "", "Whether the window is valid."),
    Column("reasons", "str", "", "Why it is invalid, separated by commas; see `energylab.protocol.validity.REASONS`."),
    Column("marks", "str", "", "Warnings on a valid window, separated by commas."),
    _SHARED["energy_kind"],
)  # fmt: skip

COLUMNS = tuple(column.name for column in TIDY)
WINDOW_COLUMNS = tuple(column.name for column in WINDOWS)

#: Columns that are fields of a `PhaseTotal`, and of a `Window`.
_OF_TOTAL = ("phase", "run", "queries", "energy_j", "bound_j", "duration_s", "input_tokens", "output_tokens")
_OF_WINDOW = (
    *("run", "phase", "block", "attempt", "index", "replications", "start_s", "duration_s", "energy_j", "bound_j"),
    *("mean_power_w", "input_tokens", "output_tokens", "valid"),
)


def tidy_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return the tidy table of `rows`, with the same column types for any number of rows.

    Missing numbers and texts are NaN; columns of numbers that may be missing are floats.
    """
    return _typed_frame(TIDY, rows)


def window_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return the table of every window of some records."""
    return _typed_frame(WINDOWS, [row for record in records for row in _window_rows(record)])


def _typed_frame(columns: tuple[Column, ...], rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=[column.name for column in columns])
    return frame.astype({column.name: column.kind for column in columns})


def record_rows(record: Record, path: str | os.PathLike = "") -> list[dict[str, Any]]:
    """Return a record's rows of the tidy table, one per run and phase."""
    shared = _shared(record, path)
    return [
        {
            **shared,
            **{name: getattr(total, name) for name in _OF_TOTAL},
            "scored": total.phase in SCORED_PHASES,
            "valid": total.valid and record.valid,
            "reasons": ", ".join(dict.fromkeys([*total.reasons, *record.reasons])),
        }
        for total in totals(record)
    ]


def _shared(record: Record, path: str | os.PathLike) -> dict[str, Any]:
    quality = record.quality[0] if record.quality else None
    unstated_batch = None if "batch_size" in record.missing else 1
    return {
        "task": record.task.name,
        "task_version": record.task.version,
        "model": record.model.name,
        "model_class": record.model.model_class,
        "model_source": record.model.source,
        "data_source": record.data.source,
        "idle_power_w": record.idle_with_model_w,
        "energy_kind": record.energy_kind,
        "device": record.devices[0].name,
        "board": record.board,
        "protocol": record.protocol.name,
        "official": not record.not_official(),
        "gpus": None if "devices.count" in record.missing else len(record.devices),
        "session": record.record_id,
        "job_id": record.job_id,
        "repeat": record.repeat,
        "dtype": record.model.dtype,
        "batch_size": record.task.settings.get("batch_size", unstated_batch),
        "parameters": record.model.parameters,
        "quality_metric": quality and quality.metric,
        "quality": quality and quality.value,
        "marks": ", ".join(record.marks),
        "truncated_tokens": record.data.truncated_tokens,
        "cohort": cohort_key(record),
        "created_utc": record.created_utc.isoformat(),
        "path": str(path),
    }


def _window_rows(record: Record) -> Iterator[dict[str, Any]]:
    for window in record.windows:
        temperatures = [state.temperature_c for state in window.states if state.temperature_c is not None]
        yield {
            **{name: getattr(window, name) for name in _OF_WINDOW},
            "session": record.record_id,
            "board": record.board,
            "device": record.devices[0].name,
            "task": record.task.name,
            "model": record.model.name,
            "scored": window.phase in SCORED_PHASES,
            "queries": len(window.queries),
            "query_ids": window.queries,
            "temperature_c": max(temperatures, default=None),
            "reasons": ", ".join(window.reasons),
            "marks": ", ".join(window.marks),
            "energy_kind": record.energy_kind,
        }


def cohort(record: Record) -> dict[str, str]:
    """Return the facts that must agree for two records to be compared, by field, in a fixed order.

    The board is not one of them: it is a random effect, part of the uncertainty.
    """
    settings, model, first = record.task.settings, record.model, record.devices[0]
    packages = record.host.packages
    imported = record.energy_kind == "imported"
    shown = sorted(settings) if imported else record.task.overridden  # of imports, published settings are unknown
    limits = {f"{device.power_limit_w:g} W" for device in record.devices if device.power_limit_w is not None}
    served = {
        "server": f"{model.settings.get('server')} {_engine_major(model.settings.get('server_version'))}".strip(),
        "concurrency": str(settings.get("concurrency")),
        "prompt cache": str(model.settings.get("prompt_cache", "unknown")),
    }
    return {
        "task": " ".join(part for part in (record.task.name, record.task.version) if part),
        "device": f"{'?' if 'devices.count' in record.missing else len(record.devices)} x {first.name or UNSTATED}",
        "energy": record.energy_kind,
        "model source": record.model.source or UNSTATED,
        "data": " ".join(part for part in (record.data.source, record.data.name) if part) or UNSTATED,
        "dtype": str(settings.get("dtype", model.dtype) or UNSTATED),
        "batch": str(settings.get("batch_size", UNSTATED if "batch_size" in record.missing else 1)),
        "settings": ", ".join(f"{name}={settings[name]}" for name in shown)
        or (UNSTATED if imported else "as published"),
        "attention": _attention(record) or (UNSTATED if imported else "default"),
        "compiled": UNSTATED if "model.compiled" in record.missing else ("yes" if model.compiled else "no"),
        "power limit": ", ".join(sorted(limits)) or "unknown",
        "clocks": first.clock_policy or "unknown",
        "ecc": "unknown" if first.ecc is None else ("on" if first.ecc else "off"),
        "driver": (first.driver or (UNSTATED if imported else "none")).split(".")[0],
        "stack": " ".join(f"{name} {packages[name].split('.')[0]}" for name in STACK if name in packages),
        "protocol": " ".join((record.protocol.name, record.protocol.version)),
        **(served if model.source == "endpoint" else {}),
    }


def cohort_key(record: Record) -> str:
    """Return the cohort as one line of text, ``field=value; …``; records with equal lines may be compared."""
    return "; ".join(f"{field}={value.replace(';', ',')}" for field, value in cohort(record).items())


def _attention(record: Record) -> str | None:
    """Return the requested attention implementation; None for the library's choice.

    The library's choice depends on the model (a ConvNet has none, a ViT has one), so such models may be compared.
    """
    asked = record.task.settings
    return asked["attention"] if "attention" in asked and record.energy_kind != "imported" else record.model.attention


def key_facts(key: str) -> dict[str, str]:
    """Return the facts of a cohort's key, by field; empty for a key that is only a name."""
    return dict(part.split("=", 1) for part in key.split("; ") if "=" in part)


def difference(key: str, others: Iterable[str]) -> str:
    """Return the facts and settings in which a cohort's key differs from any of the others, ``field=value; …``.

    The whole key if no fact differs; empty if there is no other.
    """
    rest = [_single_facts(other) for other in others if other != key]
    if not rest:
        return ""
    own = [f"{name}={value}" for name, value in _single_facts(key).items() if any(o.get(name) != value for o in rest)]
    return "; ".join(own) or key or "no cohort stated"


def _single_facts(key: str) -> dict[str, str]:
    """Return a key's facts with every setting as a separate fact, except settings that are already fields."""
    facts = key_facts(key)
    settings = dict(part.split("=", 1) for part in re.split(r", (?=\w+=)", facts.pop("settings", "")) if "=" in part)
    return facts | {name: value for name, value in settings.items() if name not in ("batch_size", "dtype")}


def _engine_major(version: str | None) -> str:
    """Return the major part of an engine's version: ``1`` of 1.2.3, ``0.11`` of 0.11.2."""
    parts = re.match(r"(\d+)\.(\d+)", version or "")
    if parts is None:
        return ""
    return parts[1] if parts[1] != "0" else parts[0]


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet table; its columns are checked and typed as in `TIDY`.

    Needs ``task, model, energy_j, queries``; a missing energy kind becomes "not stated"; columns that are not in `TIDY`
    are kept as text.

    Raises
    ------
    DataError
        Names the file, the row and what to do.
    """
    if path.suffix.lower() == ".parquet":
        table = _read_parquet(path)
    else:
        sheet = read_sheet(path)
        table = pd.DataFrame({name: _typed(sheet, name) for name in sheet.columns}).reset_index(drop=True)
    require_columns(table, str(path))
    for name in table.columns:
        if name not in _SHARED and (close := nearest(name, _SHARED, cutoff=0.85)):
            warnings.warn(f"{path}: column {name!r} is not used; did you mean {close!r}?", stacklevel=3)
    kind = table["energy_kind"].fillna(UNSTATED) if "energy_kind" in table else UNSTATED
    return table.assign(energy_kind=kind, path=str(path))


def _typed(sheet: Sheet, name: str) -> pd.Series:
    kind = _SHARED[name].kind if name in _SHARED else "str"
    if kind == "bool":
        return sheet.truths(name)
    if kind == "str":
        return sheet.texts(name)
    values = sheet.numbers(name)
    parts = values[values.notna() & (values % 1 != 0)] if "int" in kind.lower() else ()
    if len(parts):
        raise sheet.refusal(parts.index[0], f"{name}={parts.iloc[0]:g} is not a whole number", "write a whole number")
    return values


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}); export it again") from error
