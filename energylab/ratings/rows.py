"""Which rows of a tidy table count, and what is refused before any of them is averaged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from energylab.energy import WH_PER_1000_QUERIES
from energylab.errors import DataError, nearest, unknown_name
from energylab.record import SCORED_PHASES

MODEL_CLASSES = ("A", "B", "C")
REQUIRED = ("task", "model", "energy_j", "queries")

#: What must agree within a group, where the table says it; a cohort key covers more.
MUST_AGREE = ("energy_kind", "device", "gpus", "task_version", "model_source", "data_source", "batch_size", "dtype")


def usable_rows(df: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that count, checked, with every column the aggregation needs.

    A row counts when ``scored`` is true; where that is not said, when its phase is a scored one or none is named.
    A row with neither run nor phase is a run of its own. Rows without ``session`` share one session a model.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table; needs ``task, model, energy_j, queries`` alone.

    Returns
    -------
    pandas.DataFrame
        ``task, model, run`` (a number), ``energy_wh`` (per 1,000 queries, of that run and phase; NaN where invalid or
        unavailable), and those of ``cohort, model_class, session, phase, board`` and `MUST_AGREE` that `df` has.

    Raises
    ------
    DataError
        If a column is missing, no row is scored, a row has no task or model, an energy is infinite, zero or
        negative, or queries are not a positive number.
    UnknownNameError
        If a model class is not A, B, C or missing.
    """
    _require_columns(df)
    scored = _scored(df)
    df = df if scored.all() else df[scored]
    if df.empty:
        raise DataError(f"the table has no scored row; scored phases are {', '.join(SCORED_PHASES)}")
    names = ("task", "model", "cohort", "session", "run", "phase", "board", *MUST_AGREE)
    rows = pd.DataFrame({name: df[name].array for name in names if name in df.columns}, copy=False)
    for name in ("task", "model"):
        nameless = rows[name].isna() | (rows[name] == "")
        if nameless.any():
            raise DataError(f"{int(nameless.sum())} rows have no {name}; name it, or drop them")
    if "model_class" in df.columns:
        rows["model_class"] = _model_classes(df)
    rows["run"] = _runs(rows)
    rows["energy_wh"] = _energies(df, rows["model"])
    rows["queries"] = _numbers(df, "queries")
    return rows


def _runs(rows: pd.DataFrame) -> np.ndarray:
    """Number the runs that are named from 0 up, and the rows that name neither run nor phase from -2 down."""
    alone = -2 - np.arange(len(rows))
    if "run" not in rows and "phase" not in rows:
        return alone
    empty = pd.Series(None, index=rows.index, dtype=object)
    run, phase = rows.get("run", empty), rows.get("phase", empty)
    return np.where(run.isna() & phase.isna(), alone, pd.factorize(run)[0])


def _require_columns(df: pd.DataFrame) -> None:
    missing = [name for name in REQUIRED if name not in df.columns]
    if not missing:
        return
    near = [(name, nearest(name, map(str, df.columns))) for name in missing]
    named = [f"{name!r}" + (f" (is it {match!r}?)" if match else "") for name, match in near]
    raise DataError(
        f"the table lacks {', '.join(named)}; a rating needs {', '.join(REQUIRED)}, "
        "with energy_j the joules of `queries` queries"
    )


def _scored(df: pd.DataFrame) -> np.ndarray:
    phase = df["phase"] if "phase" in df.columns else pd.Series(None, index=df.index, dtype=object)
    by_phase = (phase.isna() | phase.isin(SCORED_PHASES)).to_numpy()
    return _flags(df, "scored", by_phase)


def _flags(df: pd.DataFrame, name: str, otherwise: np.ndarray | bool) -> np.ndarray:
    """Return a column of truth values; where it is missing, `otherwise`."""
    if name not in df.columns:
        return np.broadcast_to(otherwise, len(df))
    values = df[name].to_numpy(dtype=object)
    return np.where(pd.isna(values), otherwise, values).astype(bool) if pd.isna(values).any() else values.astype(bool)


def _model_classes(df: pd.DataFrame) -> pd.api.extensions.ExtensionArray:
    classes = df["model_class"].astype("string").replace({"": pd.NA, "NA": pd.NA})
    unknown = classes[classes.notna() & ~classes.isin(MODEL_CLASSES)]
    if len(unknown):
        raise unknown_name("model class", unknown.iloc[0], MODEL_CLASSES, "leave it empty for a task without classes")
    return classes.array


def _energies(df: pd.DataFrame, model: pd.Series) -> np.ndarray:
    energy = np.where(_flags(df, "valid", True), _numbers(df, "energy_j"), np.nan)
    queries = _numbers(df, "queries")
    known = ~np.isnan(energy)
    bad = np.flatnonzero(known & ~((energy > 0) & np.isfinite(energy)))
    if bad.size:
        raise DataError(
            f"energy_j={energy[bad[0]]:g} of model {model.iloc[bad[0]]!r} ({bad.size} such rows): an energy is a "
            "finite number above 0; leave it empty when it is unavailable (a zero is a meter that failed)"
        )
    bad = np.flatnonzero(known & ~((queries > 0) & np.isfinite(queries)))
    if bad.size:
        raise DataError(f"queries={queries[bad[0]]:g} of model {model.iloc[bad[0]]!r}: must be a positive number")
    return energy / queries * WH_PER_1000_QUERIES


def _numbers(df: pd.DataFrame, name: str) -> np.ndarray:
    try:
        return pd.to_numeric(df[name]).to_numpy(dtype=float, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise DataError(f"column {name!r} must hold numbers: {error}") from error
