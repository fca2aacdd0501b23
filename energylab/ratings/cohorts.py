"""From a tidy table to one energy a model, in groups that may be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from energylab.errors import CohortError, DataError, nearest, unknown_name
from energylab.ratings.schemes import Group
from energylab.record import SCORED_PHASES

MODEL_CLASSES = ("A", "B", "C")
REQUIRED = ("task", "model", "energy_j", "queries")

#: What must agree within a group, where the table says it; a cohort key covers more.
MUST_AGREE = ("energy_kind", "device", "gpus", "task_version", "model_source", "data_source", "batch_size")

_WH_PER_1000_QUERIES = 1000.0 / 3600.0  # from joules a query


@dataclass(frozen=True)
class Summary:
    """One energy a model, group by group.

    Attributes
    ----------
    groups : tuple of Group
        Sorted by cohort, task and model class.
    models : pandas.DataFrame
        One row per model, sorted by group, energy and name: ``group`` (index into `groups`), ``model``,
        ``energy_wh`` (mean over sessions, Wh per 1,000 queries; NaN when unavailable), ``sessions`` (complete
        ones), ``lost`` (sessions whose total is unavailable), ``runs``, ``session_sd_wh`` (between complete
        sessions; NaN below two), ``run_sd_wh`` (between the runs of a single session; NaN otherwise),
        ``classed`` (False for a model without a class among models that have one).
    boards : pandas.DataFrame
        ``row`` (into `models`), ``board``, ``share`` of the model's complete sessions; empty when the table
        names no boards.
    """

    groups: tuple[Group, ...]
    models: pd.DataFrame
    boards: pd.DataFrame


def summarise(df: pd.DataFrame) -> Summary:
    """Bring a tidy table down to one energy a model.

    Scored phases of a run are summed, runs of a session averaged, sessions of a model averaged. A run that
    lacks the energy of a scored phase makes its session unavailable: never a mean of the survivors. Two
    records of one model are two sessions. Without a ``session`` column all rows of a model are runs of one
    session; without ``run`` and ``phase`` every row is a run.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table; needs ``task, model, energy_j, queries`` alone.

    Returns
    -------
    Summary
        Energies in groups of equal cohort, task and model class.

    Raises
    ------
    DataError
        If a column is missing, a row has no task or model, an energy is infinite, zero or negative, queries
        are not a positive number, or a run and phase occur twice.
    UnknownNameError
        If a model class is not A, B, C or missing.
    CohortError
        If a group mixes what may not be compared; names the difference.
    """
    rows = _scored_rows(df)
    group, first = _codes(rows["cohort"], rows["task"], rows["model_class"])
    _refuse_mixtures(rows, group, first, "cohort" in df.columns)
    groups, rank = _sorted_groups(rows.iloc[first])
    group = rank[group]
    model, model_first = _codes(pd.Series(group), rows["model"])
    session, session_first = _codes(pd.Series(model), rows["session"])
    energy_wh, run_session = _run_energies(rows, session)
    runs_mean, runs_sd, runs = _mean_sd_count(run_session, energy_wh, len(session_first))
    of_model = model[session_first]
    lost = np.isnan(runs_mean)
    mean, sd, count = _mean_sd_count(of_model[~lost], runs_mean[~lost], len(model_first))
    single = count == 1
    run_sd = np.full(len(model_first), np.nan)
    run_sd[of_model[~lost]] = runs_sd[~lost]
    models = pd.DataFrame(
        {
            "group": group[model_first],
            "model": rows["model"].to_numpy()[model_first],
            "energy_wh": mean,
            "sessions": count,
            "lost": np.bincount(of_model, weights=lost, minlength=len(model_first)).astype(np.int64),
            "runs": np.bincount(of_model, weights=np.where(lost, 0, runs), minlength=len(model_first)).astype(
                np.int64
            ),
            "session_sd_wh": sd,
            "run_sd_wh": np.where(single, run_sd, np.nan),
        }
    )
    models["classed"] = ~_unclassed(groups)[models["group"].to_numpy()]
    order = _order(models)
    boards = _boards(rows["board"].iloc[session_first][~lost], of_model[~lost], order, count)
    return Summary(groups, models.iloc[order].reset_index(drop=True), boards)


def _scored_rows(df: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that count, with every column this module needs, checked."""
    _require_columns(df)
    if "scored" in df.columns:
        df = df[df["scored"].astype(bool)]
    elif "phase" in df.columns:
        df = df[df["phase"].isin(SCORED_PHASES)]
    if df.empty:
        raise DataError(f"the table has no scored row; scored phases are {', '.join(SCORED_PHASES)}")
    rows = pd.DataFrame(index=range(len(df)))
    for name in ("task", "model"):
        rows[name] = df[name].to_numpy()
        nameless = rows[name].isna() | (rows[name] == "")
        if nameless.any():
            raise DataError(f"{int(nameless.sum())} rows have no {name}; name it, or drop them")
    rows["cohort"] = df["cohort"].to_numpy() if "cohort" in df.columns else "not stated"
    rows["model_class"] = _model_classes(df)
    for name in ("session", "run", "phase", "board", *MUST_AGREE, "dtype"):
        rows[name] = df[name].to_numpy() if name in df.columns else None
    if "run" not in df.columns and "phase" not in df.columns:
        rows["run"] = np.arange(len(rows))
    rows["energy_wh"] = _energies(df)
    return rows


def _require_columns(df: pd.DataFrame) -> None:
    missing = [name for name in REQUIRED if name not in df.columns]
    if not missing:
        return
    near = [f"{name!r} (nearest here: {nearest(name, map(str, df.columns))!r})" for name in missing]
    raise DataError(
        f"the table lacks {', '.join(near)}; a rating needs {', '.join(REQUIRED)}, "
        "with energy_j the joules of `queries` queries"
    )


def _model_classes(df: pd.DataFrame) -> pd.Series | None:
    if "model_class" not in df.columns:
        return None
    classes = df["model_class"].astype("string").replace({"": pd.NA, "NA": pd.NA})
    unknown = classes.dropna()[~classes.dropna().isin(MODEL_CLASSES)]
    if len(unknown):
        raise unknown_name(
            "model class", unknown.iloc[0], MODEL_CLASSES, "leave it empty for a task without classes"
        )
    return classes.to_numpy()


def _energies(df: pd.DataFrame) -> np.ndarray:
    """Return Wh per 1,000 queries of every row; NaN where it is invalid or unavailable."""
    energy = _numbers(df, "energy_j")
    queries = _numbers(df, "queries")
    if "valid" in df.columns:
        energy = np.where(df["valid"].astype(bool), energy, np.nan)
    known = ~np.isnan(energy)
    bad = known & ~((energy > 0) & np.isfinite(energy))
    if bad.any():
        raise DataError(
            f"energy_j={energy[bad][0]:g} of model {df['model'].to_numpy()[bad][0]!r} ({int(bad.sum())} such rows): "
            "an energy is a finite number above 0; leave it empty when it is unavailable (a zero is a meter that failed)"
        )
    bad = known & ~((queries > 0) & np.isfinite(queries))
    if bad.any():
        raise DataError(
            f"queries={queries[bad][0]:g} of model {df['model'].to_numpy()[bad][0]!r}: give a positive number"
        )
    return energy / queries * _WH_PER_1000_QUERIES


def _numbers(df: pd.DataFrame, name: str) -> np.ndarray:
    try:
        return pd.to_numeric(df[name]).to_numpy(dtype=float, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise DataError(f"column {name!r} must hold numbers: {error}") from error


def _codes(*columns: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct tuples of `columns` (a missing value is a value); return codes and first rows."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, uniques = pd.factorize(column)
        codes, _ = pd.factorize(codes * (len(uniques) + 1) + values + 1)
    first = np.empty(codes.max() + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return codes, first


def _refuse_mixtures(rows: pd.DataFrame, group: np.ndarray, first: np.ndarray, keyed: bool) -> None:
    # A cohort key holds the precision policy, within which precisions may differ; without a key they must
    # agree.
    for name in MUST_AGREE if keyed else (*MUST_AGREE, "dtype"):
        values = rows[name].dropna()
        if values.nunique() < 2:
            continue
        kinds = values.groupby(group[values.index]).unique()
        for number, found in kinds[kinds.map(len) > 1].items():
            task, cohort = rows["task"].iloc[first[number]], rows["cohort"].iloc[first[number]]
            raise CohortError(
                f"task {task!r} of cohort {cohort!r} mixes {name}: {', '.join(sorted(map(repr, found)))}; these may "
                f"not be compared. Rate them apart, df[df[{name!r}] == …], or give them different values of `cohort`"
            )


def _sorted_groups(firsts: pd.DataFrame) -> tuple[tuple[Group, ...], np.ndarray]:
    """Return groups in canonical order, and the new number of each old one."""
    keys = [
        (str(row.cohort), str(row.task), "" if pd.isna(row.model_class) else row.model_class)
        for row in firsts.itertuples()
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    groups = tuple(_group(*keys[old], firsts.iloc[old]) for old in order)
    return groups, rank


def _group(cohort: str, task: str, model_class: str, row: pd.Series) -> Group:
    kind = "imported" if pd.isna(row["energy_kind"]) else row["energy_kind"]
    device = None if pd.isna(row["device"]) else row["device"]
    return Group(cohort, task, model_class or None, kind, device)


def _unclassed(groups: tuple[Group, ...]) -> np.ndarray:
    """Say which groups are the classless rest of a task whose other models have a class."""
    classed = {(group.cohort, group.task) for group in groups if group.model_class}
    return np.array([group.model_class is None and (group.cohort, group.task) in classed for group in groups])


def _run_energies(rows: pd.DataFrame, session: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the scored phases of every run; return energies and the session of each."""
    run, first = _codes(pd.Series(session), rows["run"])
    phase, names = pd.factorize(rows["phase"])
    doubled = pd.Series(run * (len(names) + 1) + phase).duplicated().to_numpy()
    if doubled.any():
        row = rows.iloc[int(np.flatnonzero(doubled)[0])]
        raise DataError(
            f"model {row['model']!r} of task {row['task']!r} has session {row['session']!r}, run {row['run']!r}, "
            f"phase {row['phase']!r} twice; drop the copy, or give each record its own `session`, each run its own `run`"
        )
    return _sums(run, rows["energy_wh"].to_numpy(), len(first)), session[first]


def _sums(codes: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Sum `values` by code, smallest first, so that the order of rows does not show in the last digit."""
    order = np.argsort(values, kind="stable")
    return np.bincount(codes[order], weights=values[order], minlength=size)


def _mean_sd_count(
    codes: np.ndarray, values: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = np.bincount(codes, minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _sums(codes, values, size) / count
        sd = np.sqrt(_sums(codes, (values - mean[codes]) ** 2, size) / np.maximum(count - 1, 0))
    return mean, np.where(count > 1, sd, np.nan), count


def _order(models: pd.DataFrame) -> np.ndarray:
    """Order by group, energy (unavailable last) and, where energies tie, name."""
    energy = models["energy_wh"].fillna(np.inf).to_numpy()
    group = models["group"].to_numpy()
    order = np.lexsort((energy, group))
    same = (
        (np.diff(energy[order]) == 0) & (np.diff(group[order]) == 0)
        if len(order) > 1
        else np.array([], dtype=bool)
    )
    tied = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    if tied.any():  # sorting names is slow, so only those that need it
        part = order[tied]
        names = models["model"].iloc[part].astype(str).to_numpy(dtype=object)
        order[tied] = part[np.lexsort((names, energy[part], group[part]))]
    return order


def _boards(board: pd.Series, of_model: np.ndarray, order: np.ndarray, sessions: np.ndarray) -> pd.DataFrame:
    """Return which share of each model's sessions ran on which board."""
    empty = pd.DataFrame(
        {"row": pd.Series(dtype=np.int64), "board": pd.Series(dtype=object), "share": pd.Series(dtype=float)}
    )
    if board.isna().all():
        return empty
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    named = pd.DataFrame(
        {"row": rank[of_model], "board": board.to_numpy(), "share": 1.0 / sessions[of_model]}
    )
    unnamed = named["board"].isna()
    named.loc[unnamed, "board"] = "not stated"
    return named.groupby(["row", "board"], as_index=False)["share"].sum()
