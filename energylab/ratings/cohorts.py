"""From a tidy table to one energy a model, in groups that may be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from energylab.errors import CohortError, DataError
from energylab.ratings.rows import MUST_AGREE, usable_rows


@dataclass(frozen=True)
class Group:
    """Models that are rated together: one cohort, task and model class.

    Attributes
    ----------
    task : str
        What was asked.
    cohort : str
        Key of comparison; "not stated" where the table has none: its user holds all rows to be comparable.
    model_class : str or None
        A, B or C; None for a task without classes.
    energy_kind : str
        Kind of all its energies; "imported" where the table does not say, since then it is somebody's word.
    device : str or None
        The one device model they ran on; None when the table does not say.
    """

    task: str
    cohort: str = "not stated"
    model_class: str | None = None
    energy_kind: str = "imported"
    device: str | None = None

    @property
    def title(self) -> str:
        """Task and class as people read them."""
        return self.task.replace("_", " ") + (f", class {self.model_class}" if self.model_class else "")


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
        ones), ``lost`` (sessions whose total is unavailable), ``runs`` (of the complete sessions),
        ``session_sd_wh`` (between complete sessions; NaN below two), ``run_sd_wh`` (between the runs of a single
        session; NaN otherwise), ``classed`` (False for a model without a class among models that have one).
    boards : pandas.DataFrame
        ``row`` (into `models`), ``board``, ``share`` of the model's complete sessions; empty when the table names
        no boards.
    """

    groups: tuple[Group, ...]
    models: pd.DataFrame
    boards: pd.DataFrame


def summarise(df: pd.DataFrame) -> Summary:
    """Bring a tidy table down to one energy a model.

    Scored phases of a run are summed, runs of a session pooled over their queries, sessions of a model averaged. A run
    that lacks the energy of a scored phase makes its session unavailable: never a mean of the survivors. Two records of
    one model are two sessions. The order of the rows shows in nothing.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table; needs ``task, model, energy_j, queries`` alone. See `rows.usable_rows` for missing columns.

    Returns
    -------
    Summary
        Energies in groups of equal cohort, task and model class.

    Raises
    ------
    DataError
        As `rows.usable_rows`; and if a run and phase occur twice.
    UnknownNameError
        If a model class is not A, B, C or missing.
    CohortError
        If a group mixes what may not be compared, phases that were summed included; names the difference.
    """
    rows = usable_rows(df)
    group, first = number(rows, np.zeros(len(rows), dtype=np.int64), "cohort", "task", "model_class")
    groups, rank = _sorted_groups(rows.iloc[first])
    rows["group"] = rank[group]
    _refuse_mixtures(rows, groups)
    rows["of_model"], model_first = number(rows, rows["group"].to_numpy(), "model")
    rows["of_session"], session_first = number(rows, rows["of_model"].to_numpy(), "session")
    run, run_first = number(rows, rows["of_session"].to_numpy(), "run")
    _refuse_uneven_phases(rows, run, run_first, groups)
    run_wh = _sums(run, rows["energy_wh"].to_numpy(), len(run_first))
    sessions = rows[["of_model", "board"] if "board" in rows else ["of_model"]].iloc[session_first]
    of_session = rows["of_session"].to_numpy()[run_first]
    _, run_sd, runs = _mean_sd_count(of_session, run_wh, len(session_first))
    session_wh = _pooled(rows, len(session_first))
    models, boards = _models(sessions, session_wh, run_sd, runs, len(model_first))
    models.insert(0, "group", rows["group"].to_numpy()[model_first])
    models.insert(1, "model", rows["model"].array[model_first])
    models["classed"] = ~_unclassed(groups)[models["group"].to_numpy()]
    order = _order(models)
    boards["row"] = np.argsort(order)[boards["row"].to_numpy(dtype=np.int64)]
    return Summary(groups, models.iloc[order].reset_index(drop=True), boards)


def _pooled(rows: pd.DataFrame, sessions: int) -> np.ndarray:
    """Return each session's energy: that of all queries over their number in every phase, phases added.

    A run that ended early counts by its queries, never as a whole one.
    """
    part, first = number(rows, rows["of_session"].to_numpy(), "phase")
    queries = rows["queries"].to_numpy()
    energy = _sums(part, rows["energy_wh"].to_numpy() * queries, len(first)) / _sums(part, queries, len(first))
    return _sums(rows["of_session"].to_numpy()[first], energy, sessions)


def number(rows: pd.DataFrame, within: np.ndarray, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct tuples of some columns, a missing value being a value, a missing column all equal.

    Parameters
    ----------
    rows : pandas.DataFrame
        The table.
    within : ndarray of int, shape (rows,)
        Numbers from 0 up, without gaps, that are part of the tuple.
    *names : str
        Columns.

    Returns
    -------
    codes : ndarray of int, shape (rows,)
        Number of each row's tuple, from 0 up without gaps.
    first : ndarray of int, shape (tuples,)
        The first row of each tuple.
    """
    codes, size = within, int(within.max()) + 1
    for name in (name for name in names if name in rows and size < len(rows)):
        values, uniques = pd.factorize(rows[name], use_na_sentinel=False)
        if size > 1 and len(uniques) > 1:
            values, uniques = pd.factorize(codes * len(uniques) + values)
        if len(uniques) > 1:
            codes, size = values, len(uniques)
    first = np.empty(size, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return codes, first


def _sorted_groups(firsts: pd.DataFrame) -> tuple[tuple[Group, ...], np.ndarray]:
    """Return groups in canonical order, and the new number of each old one."""
    fields = ("cohort", "task", "model_class", "energy_kind", "device")
    stated = firsts.reindex(columns=list(fields)).astype(object)
    found = [
        Group(**{name: str(value) for name, value in zip(fields, row, strict=True) if not pd.isna(value)})
        for row in stated.itertuples(index=False)
    ]
    order = sorted(
        range(len(found)), key=lambda old: (found[old].cohort, found[old].task, found[old].model_class or "")
    )
    return tuple(found[old] for old in order), np.argsort(order)


def _unclassed(groups: tuple[Group, ...]) -> np.ndarray:
    """Say which groups are the classless rest of a task whose other models have a class."""
    classed = {(group.cohort, group.task) for group in groups if group.model_class}
    return np.array([group.model_class is None and (group.cohort, group.task) in classed for group in groups])


def _refuse_mixtures(rows: pd.DataFrame, groups: tuple[Group, ...]) -> None:
    for name in (name for name in MUST_AGREE if name in rows):
        values = rows[name].dropna()
        if values.nunique() < 2:
            continue
        kinds = values.groupby(rows["group"].loc[values.index]).unique()
        for at, found in kinds[kinds.map(len) > 1].items():
            raise CohortError(
                f"{groups[at].title} of cohort {groups[at].cohort!r} mixes {name}: "
                f"{', '.join(sorted(map(str, found)))}; these may not be compared. Rate them apart, "
                f"df[df[{name!r}] == …], or give them different values of `cohort`"
            )


def _refuse_uneven_phases(
    rows: pd.DataFrame, run: np.ndarray, run_first: np.ndarray, groups: tuple[Group, ...]
) -> None:
    """Refuse a phase that a run holds twice, and runs of one group that hold different phases."""
    if len(run_first) == len(run) and "phase" not in rows:
        return
    phase, names = pd.factorize(rows["phase"]) if "phase" in rows else (np.full(len(rows), -1), ())
    doubled = np.flatnonzero(pd.Series(run * (len(names) + 1) + phase).duplicated().to_numpy())
    if doubled.size:
        row = rows.iloc[int(doubled[0])]
        raise DataError(
            f"model {row['model']!r} of task {row['task']!r} has the same session ({row.get('session')!r}), run and "
            f"phase ({row.get('phase')!r}) twice; drop the copy, or give each record its `session`, each run its `run`"
        )
    held = np.bincount(run, weights=2.0 ** (phase + 1))  # a sum of distinct powers names the set
    of_run = pd.Series(held).groupby(rows["group"].to_numpy()[run_first])
    low, high = of_run.min(), of_run.max()
    for at in low.index[low != high]:
        sets = [[name for bit, name in enumerate(names) if int(kind[at]) >> (bit + 1) & 1] for kind in (low, high)]
        first, second = (", ".join(held) or "no phase named" for held in sets)
        raise CohortError(
            f"{groups[at].title} of cohort {groups[at].cohort!r} mixes phases: some runs sum {first}, others {second}; "
            "these may not be compared"
        )


def _models(
    sessions: pd.DataFrame, session_wh: np.ndarray, run_sd: np.ndarray, runs: np.ndarray, size: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average the complete sessions of each model, and say which share of them ran on which board."""
    of_model = sessions["of_model"].to_numpy()
    lost = np.isnan(session_wh)
    kept = of_model[~lost]
    mean, sd, count = _mean_sd_count(kept, session_wh[~lost], size)
    single_sd = np.full(size, np.nan)
    single_sd[kept] = run_sd[~lost]
    models = pd.DataFrame(
        {
            "energy_wh": mean,
            "sessions": count,
            "lost": np.bincount(of_model[lost], minlength=size),
            "runs": np.bincount(kept, weights=runs[~lost], minlength=size).astype(np.int64),
            "session_sd_wh": sd,
            "run_sd_wh": np.where(count == 1, single_sd, np.nan),
        },
        copy=False,
    )
    if "board" not in sessions or sessions["board"].isna().all():
        return models, pd.DataFrame({"row": [], "board": [], "share": []})
    board = sessions["board"].fillna("not stated").array[~lost]
    shares = pd.DataFrame({"row": kept, "board": board, "share": 1.0 / count[kept]})
    return models, shares.groupby(["row", "board"], as_index=False)["share"].sum()


def _sums(codes: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Sum `values` by code; smallest first, so that the order of rows does not show in the last digit."""
    if np.bincount(codes, minlength=1).max() > 1:
        order = np.argsort(values, kind="stable")
        codes, values = codes[order], values[order]
    return np.bincount(codes, weights=values, minlength=size)


def _mean_sd_count(codes: np.ndarray, values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = np.bincount(codes, minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _sums(codes, values, size) / count
        sd = np.sqrt(_sums(codes, (values - mean[codes]) ** 2, size) / (count - 1))
    return mean, np.where(count > 1, sd, np.nan), count


def _order(models: pd.DataFrame) -> np.ndarray:
    """Order by group, energy (unavailable last) and, where energies tie, name."""
    energy = models["energy_wh"].fillna(np.inf).to_numpy()
    group = models["group"].to_numpy()
    order = np.lexsort((energy, group))
    same = (energy[order][1:] == energy[order][:-1]) & (group[order][1:] == group[order][:-1])
    tied = np.append(same, False) | np.insert(same, 0, False)
    if tied.any():  # sorting names is slow, so only those that need it
        part = order[tied]
        names = models["model"].iloc[part].astype(str).to_numpy(dtype=object)
        order[tied] = part[np.lexsort((names, energy[part], group[part]))]
    return order
