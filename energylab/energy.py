"""Energies from windows: totals of runs, energy per query of sessions, energy of models with intervals.

A window's energy is the sum of its meters, computed in `energylab.protocol`. All further sums are in this module:
windows add up to the total of a run and phase, totals to a session's energy per query, and sessions are averaged to
the energy of a model. Tables, ratings, releases, pages, exports and stopping rules use these figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from energylab.csv_reader import TRUTH
from energylab.errors import CohortError, DataError, ParameterError, nearest, unknown_name
from energylab.record import SCORED_PHASES, Record, Window
from energylab.statistics.uncertainty import (
    GAIN_ERROR,
    SESSIONS_WANTED,
    WIDENED_DF,
    combined_half_width,
    gain_variance,
    shrink_variances,
    t_quantile,
)

J_PER_WH = 3600.0

#: Wh per 1,000 queries of one joule per query.
WH_PER_1000_QUERIES = 1000.0 / J_PER_WH

MODEL_CLASSES = ("A", "B", "C")

#: Columns that every table must have.
REQUIRED = ("task", "model", "energy_j", "queries")

#: Columns that must agree among models rated together, if the table has them; a cohort key covers more.
MUST_AGREE = ("energy_kind", "device", "gpus", "task_version", "model_source", "data_source", "batch_size", "dtype")

#: Fewest degrees of freedom of other models' sessions from which a single session takes its spread: with one degree of
#: freedom Student's factor is 12.7.
LEAST_POOLED_DF = 2

#: Value of a fact that a file does not state.
UNSTATED = "not stated"


@dataclass(frozen=True)
class PhaseTotal:
    """Energy of one phase in one run, over each query once; None if one of its blocks has no valid window."""

    run: int
    phase: str  # decode is generate minus prefill
    queries: int
    energy_j: float | None
    bound_j: float | None
    duration_s: float | None
    windows: int
    invalid_windows: int
    input_tokens: int | None
    output_tokens: int | None
    reasons: tuple[str, ...] = ()  # why there is no energy

    @property
    def valid(self) -> bool:
        """Whether every query of the phase was measured."""
        return self.energy_j is not None


def totals(record: Record) -> tuple[PhaseTotal, ...]:
    """Sum a record's windows to one total per run and phase; decode is generate minus prefill.

    Returns
    -------
    tuple of PhaseTotal
        In order of run and phase. A total with a block without a valid window is unavailable (``energy_j is None``); it
        is never replaced by a mean of the others.
    """
    return phase_totals(record.windows)


def scored_totals(record: Record) -> list[PhaseTotal]:
    """Return the totals of scored phases."""
    return [total for total in totals(record) if total.phase in SCORED_PHASES]


def energy_j_per_query(parts: Iterable[PhaseTotal]) -> float | None:
    """Return a session's energy per query in joules: ``Σ_phases (Σ_runs energy / Σ_runs queries)``.

    A run that ended early is weighted by its queries. None if a total is unavailable.
    """
    pooled: dict[str, list[PhaseTotal]] = defaultdict(list)
    for total in parts:
        pooled[total.phase].append(total)
    if not pooled or not all(total.valid for runs in pooled.values() for total in runs):
        return None
    return sum(sum(one.energy_j for one in runs) / sum(one.queries for one in runs) for runs in pooled.values())


def session_energy_j(record: Record) -> float | None:
    """Return a session's energy per query in joules, summed over scored phases; None if unavailable."""
    return energy_j_per_query(scored_totals(record))


def run_energies_j(record: Record) -> list[float]:
    """Return the energy per query in joules of every complete run, summed over scored phases."""
    runs: dict[int, list[PhaseTotal]] = defaultdict(list)
    for total in scored_totals(record):
        runs[total.run].append(total)
    energies = [energy_j_per_query(parts) for parts in runs.values()]
    return [energy_j for energy_j in energies if energy_j is not None]


def static_share(record: Record) -> float | None:
    """Return the share of the scored energy that the idle device would have used: idle power x duration.

    Idle power is that with the weights loaded. None if it or a total is unknown.
    """
    idle_w = record.idle_with_model_w
    parts = scored_totals(record)
    if idle_w is None or not parts or any(None in (total.energy_j, total.duration_s) for total in parts):
        return None
    energy_j = sum(total.energy_j for total in parts)
    return idle_w * sum(total.duration_s for total in parts) / energy_j if energy_j > 0 else None


def phase_totals(windows: tuple[Window, ...]) -> tuple[PhaseTotal, ...]:
    """Sum windows to one total per run and phase, as `totals` does."""
    grouped: dict[tuple[int, str], dict[int, list[Window]]] = defaultdict(lambda: defaultdict(list))
    for window in windows:
        grouped[window.run, window.phase][window.block].append(window)
    found = {key: _phase_total(*key, blocks) for key, blocks in grouped.items()}
    for run, phase in grouped:
        if phase == "generate" and (run, "prefill") in found:
            found[run, "decode"] = _decode(found[run, "prefill"], found[run, "generate"])
    return tuple(sorted(found.values(), key=lambda total: total.run))


def _phase_total(run: int, phase: str, blocks: dict[int, list[Window]]) -> PhaseTotal:
    """Sum the last valid window of every block; a block without one makes all sums None."""
    chosen = [next((w for w in reversed(block) if w.valid), None) for block in blocks.values()]
    attempts = [window for block in blocks.values() for window in block]
    lacking = [block for block, window in zip(blocks.values(), chosen, strict=True) if window is None]

    def summed(field: str, once: bool = True) -> float | None:
        values = [None if window is None else getattr(window, field) for window in chosen]
        if None in values:
            return None
        return sum(v / w.replications for v, w in zip(values, chosen, strict=True)) if once else sum(values)

    return PhaseTotal(
        run=run,
        phase=phase,
        queries=sum(len(block[0].queries) for block in blocks.values()),
        energy_j=summed("energy_j"),
        bound_j=summed("bound_j"),
        duration_s=summed("duration_s"),
        windows=len(attempts),
        invalid_windows=sum(not window.valid for window in attempts),
        input_tokens=summed("input_tokens", once=False),
        output_tokens=summed("output_tokens", once=False),
        reasons=tuple(sorted({reason for block in lacking for window in block for reason in window.reasons})),
    )


def _decode(prefill: PhaseTotal, generate: PhaseTotal) -> PhaseTotal:
    """Return decode as generate minus prefill; a negative difference gives None and the reason ``negative_decode``."""

    def known(field: str) -> tuple[float, float] | None:
        pair = getattr(generate, field), getattr(prefill, field)
        return None if None in pair else pair

    energies, bounds, times = known("energy_j"), known("bound_j"), known("duration_s")
    negative = energies is not None and energies[0] < energies[1]
    reasons = {*prefill.reasons, *generate.reasons, *(["negative_decode"] if negative else [])}
    return replace(
        generate,
        phase="decode",
        energy_j=energies[0] - energies[1] if energies and not negative else None,
        bound_j=bounds[1] + bounds[0] if bounds else None,
        duration_s=times[0] - times[1] if times and times[0] >= times[1] else None,
        windows=0,
        invalid_windows=0,
        reasons=tuple(sorted(reasons)),
    )


@dataclass(frozen=True)
class Group:
    """Models that may be compared: one cohort, task and size class (`model_class`, None in tasks without classes).

    Facts that the table does not state are "not stated".
    """

    task: str
    cohort: str = UNSTATED
    model_class: str | None = None
    energy_kind: str = UNSTATED
    device: str | None = None

    @property
    def title(self) -> str:
        """Task and class in words."""
        return self.task.replace("_", " ") + (f", class {self.model_class}" if self.model_class else "")


@dataclass(frozen=True)
class ModelEnergies:
    """One energy per model with its intervals, by group.

    Attributes
    ----------
    groups : tuple of Group
        Sorted by cohort, task and model class.
    models : pandas.DataFrame
        One row per model, sorted by group, energy and name:

        - ``group`` (index into `groups`), ``model``; ``classed``: False if only this model of its task lacks a class;
        - ``energy_wh``: Wh per 1,000 queries, mean over boards of the mean over sessions; NaN if unavailable;
        - ``sessions`` (complete ones), ``lost`` (those without a total), ``runs``, ``boards``: numbers of each;
        - ``repeatability_low, repeatability_high, expanded_low, expanded_high``: Wh; NaN if the spread is unknown;
        - ``relative_se, df``: of the repeatability interval; ``spread``: its source (``sessions``, ``boards``,
          ``pooled`` sessions of other models, ``stated``, ``runs`` of one session, or empty); ``note`` explains it;
        - ``session_se, session_df``: relative standard error of the energy on *these boards*, with a variance shrunk
          towards that of the group and without sensor gain, for comparing models that share boards.
    boards : pandas.DataFrame
        ``row`` (into `models`), ``board``, ``share`` of the model's energy; empty if the table names no boards.
    sessions : pandas.DataFrame
        ``row, board, energy_wh, runs``, and ``run_se``: relative standard error from the spread between its runs.
    """

    groups: tuple[Group, ...]
    models: pd.DataFrame
    boards: pd.DataFrame
    sessions: pd.DataFrame


def model_energies(
    table: pd.DataFrame, *, noise: float | None = None, gain: float = GAIN_ERROR, level: float = 0.95
) -> ModelEnergies:
    """Compute one energy per model, with its intervals, from a tidy table.

    A session's energy per query is ``Σ_phases (Σ_runs energy / Σ_runs queries)``; a session without the energy of a
    scored phase is unavailable. A model's energy is the mean over boards of the mean over each board's sessions. The
    result does not depend on the order of the rows.

    With several boards, the repeatability interval is that of the mean over boards in general, from the spread between
    them, but at least as wide as the interval for these boards; with one board it comes from the spread between its
    sessions. For a model with a single session the spread is that between sessions of other models in its group, else
    the stated `noise`, else the spread between its runs. The expanded interval adds the sensors' gain error.

    Parameters
    ----------
    table : pandas.DataFrame
        Tidy table; only ``task, model, energy_j, queries`` are required. Rows with ``scored`` true are used; without
        that column, rows with a scored phase or without a phase. A row with neither run nor phase is a separate run.
        Rows without ``session`` belong to one session per model.
    noise : float, optional
        Relative standard error of a session, assumed if no model of a group was repeated.
    gain : float, default 0.05
        Largest relative gain error of a board's sensor, in either direction.
    level : float, default 0.95
        Coverage of the intervals.

    Raises
    ------
    DataError
        If a column, a task, a model or every scored row is missing, an energy or number of queries is not positive, or
        a run and phase occur twice in a session.
    UnknownNameError
        If a model class is not A, B, C or missing.
    CohortError
        If a group mixes rows that may not be compared, or runs with different phases; names the difference.
    ParameterError
        If an option is out of its range.
    """
    check_options(noise=noise, gain=gain, level=level)
    rows = _usable_rows(table)
    group, first = _combination_codes(rows, np.zeros(len(rows), dtype=np.int64), "cohort", "task", "model_class")
    groups, rank = _sorted_groups(rows.iloc[first])
    rows["group"] = rank[group]
    _refuse_mixtures(rows, groups)
    rows["of_model"], model_first = _combination_codes(rows, rows["group"].to_numpy(), "model")
    sessions = _sessions(rows, groups)
    complete = sessions if (known := sessions["energy_wh"].notna()).all() else sessions[known]
    boards, at_board = _board_means(complete)
    models = _model_means(boards, complete, len(model_first))
    models.insert(0, "group", rows["group"].to_numpy()[model_first])
    models.insert(1, "model", rows["model"].array[model_first])
    models["lost"] = np.bincount(sessions["of_model"][~known], minlength=len(models))
    models["classed"] = ~_unclassed(groups)[models["group"].to_numpy()]
    order = _order(models)
    models = models.iloc[order].reset_index(drop=True)
    models = _with_intervals(models, len(groups), noise, gain, level)
    shares = pd.DataFrame({"row": np.argsort(order)[boards["of_model"]], "board": at_board})
    shares["share"] = 1.0 / models["boards"].to_numpy()[shares["row"]]
    named = "board" in rows and rows["board"].notna().any()
    sessions.insert(0, "row", np.argsort(order)[sessions.pop("of_model")])
    return ModelEnergies(groups, models, shares if named else shares.iloc[:0], sessions)


def run_energies(table: pd.DataFrame) -> pd.DataFrame:
    """Return Wh per 1,000 queries of every run of a tidy table, over all scored phases; NaN if unavailable."""
    columns = ["task", "model", "board", "session", "run", "energy_kind"]
    rows = _usable_rows(table).reindex(columns=[*columns, "energy_j", "queries"])
    code, first = _combination_codes(rows, np.zeros(len(rows), dtype=np.int64), "task", "model", "session", "run")
    energy_j = _sums(code, (rows["energy_j"] / rows["queries"]).to_numpy(), len(first))
    runs = rows.iloc[first][columns].reset_index(drop=True)
    return runs.assign(energy_wh=energy_j * WH_PER_1000_QUERIES)


def check_options(*, noise: float | None = None, gain: float = 0.0, draws: int = 0, level: float = 0.95) -> None:
    """Refuse options out of their range: a ParameterError names the option, its value and what is allowed."""
    if noise is not None and not 0 <= noise < 1:
        raise ParameterError(f"noise={noise!r}: give a relative standard error from 0 up to 1, 0.01 for 1 %, or None")
    if not 0 <= gain < 1:
        raise ParameterError(f"gain={gain!r}: give a relative gain error from 0 up to 1, 0.05 for ±5 %")
    if draws < 0 or int(draws) != draws:
        raise ParameterError(f"draws={draws!r}: give a whole number, 0 for stars without probabilities")
    if not 0 < level < 1:
        raise ParameterError(f"level={level!r}: give a confidence level between 0 and 1, such as 0.95")


def _usable_rows(df: pd.DataFrame) -> pd.DataFrame:
    """Return the checked scored rows, with all columns that the sums need."""
    require_columns(df)
    phase = df["phase"] if "phase" in df else pd.Series(None, index=df.index, dtype=object)
    scored = _flags(df, "scored", (phase.isna() | phase.isin(SCORED_PHASES)).to_numpy())
    df = df if scored.all() else df[scored]
    if df.empty:
        raise DataError(f"the table has no scored row; scored phases are {', '.join(SCORED_PHASES)}")
    names = ("task", "model", "cohort", "session", "run", "phase", "board", *MUST_AGREE)
    rows = pd.DataFrame({name: df[name].array for name in names if name in df.columns}, copy=False)
    for name in ("task", "model"):
        if (nameless := rows[name].isna() | (rows[name] == "")).any():
            raise DataError(f"{int(nameless.sum())} rows have no {name}; add it, or drop these rows")
    for name in ("energy_kind", "device"):
        rows[name] = rows[name].fillna(UNSTATED) if name in rows else UNSTATED
    if "model_class" in df.columns:
        rows["model_class"] = _model_classes(df)
    rows["run"] = _runs(rows)
    rows["energy_j"] = np.where(_flags(df, "valid", True), _floats(df, "energy_j"), np.nan)
    rows["queries"] = _floats(df, "queries")
    for name in ("energy_j", "queries"):
        bad = rows[rows["energy_j"].notna() & ~((rows[name] > 0) & np.isfinite(rows[name]))]
        if len(bad):
            raise DataError(
                f"{name}={bad[name].iloc[0]:g} of model {bad['model'].iloc[0]!r} ({len(bad)} such rows): must be a "
                "finite number above 0; leave an unavailable energy empty (a zero means that the meter failed)"
            )
    return rows


def require_columns(df: pd.DataFrame, name: str = "the table") -> None:
    """Raise a DataError if a column of `REQUIRED` is missing."""
    if missing := [column for column in REQUIRED if column not in df.columns]:
        near = [(column, nearest(column, map(str, df.columns))) for column in missing]
        raise DataError(
            f"{name} lacks {', '.join(f'{c!r}' + (f' (is it {match!r}?)' if match else '') for c, match in near)}; it "
            f"needs {', '.join(REQUIRED)}, where energy_j is the energy of `queries` queries in joules (3,600 J a Wh)"
        )


def _runs(rows: pd.DataFrame) -> np.ndarray:
    """Number named runs from 0 upwards, and rows with neither run nor phase from -2 downwards."""
    alone = -2 - np.arange(len(rows))
    if "run" not in rows and "phase" not in rows:
        return alone
    empty = pd.Series(None, index=rows.index, dtype=object)
    run, phase = rows.get("run", empty), rows.get("phase", empty)
    return np.where(run.isna() & phase.isna(), alone, pd.factorize(run)[0])


def _flags(df: pd.DataFrame, name: str, otherwise: np.ndarray | bool) -> np.ndarray:
    """Return a column of truth values; `otherwise` if it is missing."""
    if name not in df.columns or df[name].dtype == bool:
        return df[name].to_numpy() if name in df.columns else np.broadcast_to(otherwise, len(df))
    text = df[name].astype("string").str.strip()
    truths = text.str.lower().map(TRUTH)
    if (bad := text[text.notna() & truths.isna()]).size:
        raise DataError(f"column {name!r}: {bad.iloc[0]!r} is neither true nor false; write one of {', '.join(TRUTH)}")
    return np.where(text.isna(), otherwise, truths == True).astype(bool)  # noqa: E712 - objects, some missing


def _model_classes(df: pd.DataFrame) -> pd.api.extensions.ExtensionArray:
    classes = df["model_class"].astype("string").replace({"": pd.NA, "NA": pd.NA})
    unknown = classes[classes.notna() & ~classes.isin(MODEL_CLASSES)]
    if len(unknown):
        raise unknown_name("model class", unknown.iloc[0], MODEL_CLASSES, "leave it empty for a task without classes")
    return classes.array


def _floats(df: pd.DataFrame, name: str) -> np.ndarray:
    try:
        return pd.to_numeric(df[name]).to_numpy(dtype=float, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise DataError(f"column {name!r} must hold numbers: {error}") from error


def _combination_codes(rows: pd.DataFrame, within: np.ndarray, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a code for each row's combination of `within` and some columns, and the first row of each code.

    Codes count from 0. A missing value counts as a value, a missing column as equal. Like ``groupby(…).ngroup()``, but
    much faster.
    """
    codes, size = within, int(within.max(initial=-1)) + 1
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
    """Return the groups in canonical order, and the new number of each."""
    fields = ("cohort", "task", "model_class", "energy_kind", "device")
    stated = firsts.reindex(columns=list(fields)).astype(object)
    found = [
        Group(**{name: str(value) for name, value in zip(fields, row, strict=True) if not pd.isna(value)})
        for row in stated.replace({"device": {UNSTATED: None}}).itertuples(index=False)
    ]
    order = sorted(range(len(found)), key=lambda at: (found[at].cohort, found[at].task, found[at].model_class or ""))
    return tuple(found[old] for old in order), np.argsort(order)


def _unclassed(groups: tuple[Group, ...]) -> np.ndarray:
    """Return for each group whether it has no class although other models of its task have one."""
    classed = {(group.cohort, group.task) for group in groups if group.model_class}
    return np.array([group.model_class is None and (group.cohort, group.task) in classed for group in groups])


def _refuse_mixtures(rows: pd.DataFrame, groups: tuple[Group, ...]) -> None:
    for name in (name for name in MUST_AGREE if name in rows and rows[name].nunique() > 1):
        kinds = rows.dropna(subset=name).groupby("group")[name].unique()
        for at, found in kinds[kinds.map(len) > 1].items():
            raise _mixture(groups[at], f"{name}: {', '.join(sorted(map(str, found)))}", f"df[df[{name!r}] == …]")


def _mixture(group: Group, what: str, apart: str) -> CohortError:
    return CohortError(
        f"{group.title} of cohort {group.cohort!r} mixes {what}, which may not be compared; rate them separately, "
        f"{apart}, or give them different values of `cohort`"
    )


def _refuse_uneven_phases(
    rows: pd.DataFrame, run: np.ndarray, run_first: np.ndarray, groups: tuple[Group, ...]
) -> None:
    """Refuse a run with the same phase twice, and runs of one group with different phases."""
    if len(run_first) == len(run) and "phase" not in rows:
        return
    phase, names = pd.factorize(rows["phase"]) if "phase" in rows else (np.full(len(rows), -1), ())
    doubled = np.flatnonzero(pd.Series(run * (len(names) + 1) + phase).duplicated().to_numpy())
    if doubled.size:
        row = rows.iloc[int(doubled[0])]
        raise DataError(
            f"model {row['model']!r} of task {row['task']!r} has the same session ({row.get('session')!r}), run and "
            f"phase ({row.get('phase')!r}) twice; drop the copy, or add columns `session` and `run` to distinguish them"
        )
    # the set of a run's phases as a bit mask: bit 0 for a row without a phase, bit i + 1 for phase i
    phase_mask = np.bincount(run, weights=2.0 ** (phase + 1))
    of_run = pd.Series(phase_mask).groupby(rows["group"].to_numpy()[run_first])
    low, high = of_run.min(), of_run.max()
    for at in low.index[low != high]:
        sets = [[name for i, name in enumerate(names) if int(mask[at]) >> (i + 1) & 1] for mask in (low, high)]
        first, second = (", ".join(held) or "no phase named" for held in sets)
        raise _mixture(groups[at], f"phases: some runs have {first}, others {second}", "by their phases")


def _sessions(rows: pd.DataFrame, groups: tuple[Group, ...]) -> pd.DataFrame:
    """Return each session's pooled energy, and its relative standard error from the spread between its runs."""
    code, first = _combination_codes(rows, rows["of_model"].to_numpy(), "session")
    run, run_first = _combination_codes(rows, code, "run")
    _refuse_uneven_phases(rows, run, run_first, groups)
    energy_j, queries = rows["energy_j"].to_numpy(), rows["queries"].to_numpy()
    part, part_first = _combination_codes(rows, code, "phase")
    pooled = _sums(part, energy_j, len(part_first)) / _sums(part, queries, len(part_first))
    session_j = _sums(code[part_first], pooled, len(first))
    of_run, asked = code[run_first], queries[run_first]
    deviation = _sums(run, energy_j / queries, len(run_first)) - session_j[of_run]
    runs = np.bincount(of_run, minlength=len(first))
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = _sums(of_run, asked * deviation**2, len(first)) / _sums(of_run, asked, len(first)) / (runs - 1)
    return pd.DataFrame(
        {
            "of_model": rows["of_model"].to_numpy()[first],
            "board": rows["board"].fillna(UNSTATED).array[first] if "board" in rows else UNSTATED,
            "energy_wh": session_j * WH_PER_1000_QUERIES,
            "runs": runs,
            "run_se": np.sqrt(variance) / session_j,
        },
        copy=False,
    )


def _board_means(complete: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Average the complete sessions of each model and board; also return the boards' names."""
    code, first = _combination_codes(complete, pd.factorize(complete["of_model"].to_numpy())[0], "board")
    energy = complete["energy_wh"].to_numpy()
    count = np.bincount(code, minlength=len(first))
    mean = _sums(code, energy, len(first)) / count
    squares = _sums(code, (energy - mean[code]) ** 2, len(first))
    of_model = complete["of_model"].to_numpy()[first]
    boards = pd.DataFrame({"of_model": of_model, "mean": mean, "count": count, "squares": squares}, copy=False)
    return boards, complete["board"].to_numpy(dtype=object)[first]


def _model_means(boards: pd.DataFrame, complete: pd.DataFrame, size: int) -> pd.DataFrame:
    """Average the boards of each model, with the spread between and within boards."""
    of_model, mean, count = (boards[name].to_numpy() for name in ("of_model", "mean", "count"))
    number_of = np.bincount(of_model, minlength=size)
    sessions = np.bincount(of_model, weights=count, minlength=size).astype(np.int64)
    of_session = complete["of_model"].to_numpy()
    run_se = np.full(size, np.nan)
    run_se[of_session] = complete["run_se"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        energy = _sums(of_model, mean, size) / number_of
        between = _sums(of_model, (mean - energy[of_model]) ** 2, size) / (number_of - 1)
        sessions_share = np.bincount(of_model, weights=1.0 / count, minlength=size) / number_of**2
    return pd.DataFrame(
        {
            "energy_wh": energy,
            "sessions": sessions,
            "boards": number_of,
            "between": between / energy**2,
            "within": _sums(of_model, boards["squares"].to_numpy(), size) / energy**2,
            "share": sessions_share,
            "runs": np.bincount(of_session, weights=complete["runs"], minlength=size).astype(np.int64),
            "run_se": np.where(sessions == 1, run_se, np.nan),
        },
        copy=False,
    )


def _with_intervals(models: pd.DataFrame, groups: int, noise: float | None, gain: float, level: float) -> pd.DataFrame:
    """Add standard errors, intervals and notes; see `ModelEnergies` for the source of each interval's spread."""
    group, boards, sessions = (models[name].to_numpy() for name in ("group", "boards", "sessions"))
    between, within, share = (models[name].to_numpy() for name in ("between", "within", "share"))
    runs, run_se = (models[name].to_numpy() for name in ("runs", "run_se"))
    within_df, one_session = np.maximum(sessions - boards, 0), sessions == 1
    pooled_df = np.bincount(group, weights=within_df, minlength=groups)
    stated_variance, infinite_df = np.full(len(models), noise or 0.0) ** 2, np.full(len(models), np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = np.bincount(group, weights=np.nan_to_num(within), minlength=groups) / pooled_df
        rests_on = {
            "boards": (boards > 1, between / boards, boards - 1),
            "sessions": (sessions > 1, within / within_df / sessions, within_df),
            "pooled": (one_session & (pooled_df >= LEAST_POOLED_DF)[group], pooled[group], pooled_df[group]),
            "stated": (one_session & (noise is not None), stated_variance, infinite_df),
            "runs": (one_session & (runs > 1), run_se**2, runs - 1),
        }
        half_on_these_boards = t_quantile(level, within_df) * np.sqrt(within / within_df * share)
    conditions, variances, dfs = zip(*rests_on.values(), strict=True)
    spread = np.select(conditions, range(1, len(rests_on) + 1), 0)
    models["relative_se"] = np.sqrt(np.select(conditions, variances, np.nan))
    models["df"] = np.select(conditions, dfs, np.nan)
    models["session_se"], models["session_df"] = _shrunken_errors(models, within_df, groups, noise)
    _add_ends(models, half_on_these_boards, gain, level)
    models["spread"] = pd.array(["", *rests_on], dtype="string").take(spread)
    models["note"] = _notes(models, spread, within_df, noise)
    return models.drop(columns=["between", "within", "share", "run_se"])


def _add_ends(models: pd.DataFrame, half_on_these_boards: np.ndarray, gain: float, level: float) -> None:
    """Add the ends of both intervals.

    A few boards may agree by chance. With several boards, the interval is therefore at least as wide as that from the
    sessions on these boards, and the expanded interval at least as wide as that from these sessions and the gain error.
    From `WIDENED_DF` degrees of freedom on, the expanded interval is at least as wide as the repeatability interval.
    """
    names = ("energy_wh", "boards", "relative_se", "df", "session_se", "session_df")
    energy, boards, se, df, session_se, session_df = (models[name].to_numpy() for name in names)
    several = boards > 1
    half = t_quantile(level, df) * se
    half = np.where(several, np.fmax(half, half_on_these_boards), half)
    own, own_df = np.where(several, session_se, se), np.where(several, session_df, df)
    known, _ = combined_half_width(own, own_df, np.sqrt(gain_variance(gain) / np.maximum(boards, 1)), level)
    expanded = np.where(several | (df >= WIDENED_DF), np.fmax(half, known), known)
    for name, width in (("repeatability", half), ("expanded", expanded)):
        models[f"{name}_low"] = np.maximum(energy * (1 - width), 0.0)
        models[f"{name}_high"] = energy * (1 + width)


def _shrunken_errors(
    models: pd.DataFrame, within_df: np.ndarray, groups: int, noise: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return relative standard errors on the models' boards with degrees of freedom; variances are shrunk by group."""
    names = ("within", "between", "run_se", "share", "boards", "runs")
    within, between, run_se, share, boards, runs = (models[name].to_numpy() for name in names)
    with np.errstate(invalid="ignore", divide="ignore"):
        sources = (
            (within / within_df, within_df, share),
            (between, np.maximum(boards - 1, 0), 1.0 / boards),
            (run_se**2, np.where(np.isnan(run_se), 0, runs - 1), np.ones(len(models))),
        )
    se, df = np.full(len(models), np.nan), np.full(len(models), np.nan)
    starts = np.searchsorted(models["group"].to_numpy(), np.arange(groups + 1))
    for rows in map(slice, starts[:-1], starts[1:]):
        repeated = next((each for each in sources[: 3 if noise is None else 2] if each[1][rows].any()), None)
        if repeated:
            variance, known, part = repeated
            variance, df[rows] = shrink_variances(variance[rows], known[rows])
            se[rows] = np.sqrt(variance * part[rows])
        elif noise is not None:
            se[rows], df[rows] = noise * np.sqrt(share[rows]), np.inf
    return se, df


def _notes(
    models: pd.DataFrame, spread: np.ndarray, within_df: np.ndarray, noise: float | None
) -> pd.api.extensions.ExtensionArray:
    """Return a note for each model: the source of its interval, and unavailable sessions."""
    group, sessions, boards, lost = (models[name].to_numpy() for name in ("group", "sessions", "boards", "lost"))
    repeated = np.bincount(group, weights=within_df > 0).astype(int)
    counts = np.select([spread == 1, spread == 2, spread == 3], [boards, sessions, repeated[group]], 0)
    base = int(counts.max()) + 1
    codes, keys = pd.factorize(spread * base + counts)
    notes = pd.array([_note(*divmod(int(key), base), noise) for key in keys], dtype="string").take(codes)
    for row in np.flatnonzero(lost):
        gap = f"{lost[row]} of {lost[row] + sessions[row]} sessions unavailable"
        notes[row] = "; ".join(part for part in (gap, notes[row] if sessions[row] else "") if part)
    return notes


def _note(spread: int, count: int, noise: float | None) -> str:
    few = f"; at least {SESSIONS_WANTED} are recommended" if count < SESSIONS_WANTED else ""
    return (
        "not repeated: no interval",
        f"{count} boards: the interval is for boards of this model in general{few}",
        f"{count} sessions{few}" if few else "",
        f"one session: the spread between sessions is that of {count} repeated models of the group",
        f"one session: a spread of {100 * (noise or 0):.3g} % between sessions is assumed",
        "within-session interval: the spread between sessions is unknown",
    )[spread]


def _sums(codes: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Sum `values` by code, smallest first, so that the result does not depend on the order of rows."""
    if np.bincount(codes, minlength=1).max() > 1:
        order = np.argsort(values, kind="stable")
        codes, values = codes[order], values[order]
    return np.bincount(codes, weights=values, minlength=size)


def _order(models: pd.DataFrame) -> np.ndarray:
    """Order by group, energy (unavailable last) and, for equal energies, name."""
    energy = models["energy_wh"].fillna(np.inf).to_numpy()
    group = models["group"].to_numpy()
    order = np.lexsort((energy, group))
    same = (energy[order][1:] == energy[order][:-1]) & (group[order][1:] == group[order][:-1])
    tied = np.append(same, False) | np.insert(same, 0, False)
    if tied.any():  # sorting names is slow, so only tied rows are sorted
        part = order[tied]
        names = models["model"].iloc[part].astype(str).to_numpy(dtype=object)
        order[tied] = part[np.lexsort((names, energy[part], group[part]))]
    return order
