"""What a variance study works on: windows, meters and covariates, of real records or of a simulation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from energylab import store
from energylab.errors import CohortError, StatisticsError
from energylab.record import Record
from energylab.table import WINDOW_COLUMNS, window_rows

METER_COLUMNS = ("session", "index", "meter", "device", "energy_j")


@dataclass(frozen=True)
class Study:
    """The sessions of one model on one task, on one or several boards of one kind.

    Attributes
    ----------
    kind : str
        Kind of its energy.
    tidy : pandas.DataFrame
        As `energylab.read` gives it.
    windows : pandas.DataFrame
        As `energylab.store.read_windows` gives it.
    meters : pandas.DataFrame
        What every meter said of every valid window: ``session, index, meter, device, energy_j``.
    covariates : pandas.DataFrame
        What is known of every query beforehand, one row a query; without columns where nothing is.
    overhead_j : float
        Mean energy that a session spent beside its windows (warm-up, idle); NaN where unknown.
    truth : mapping of str to float or None
        Coefficient of variation of every level, where a simulation knows them.
    """

    kind: str
    tidy: pd.DataFrame = field(repr=False)
    windows: pd.DataFrame = field(repr=False)
    meters: pd.DataFrame = field(repr=False)
    covariates: pd.DataFrame = field(repr=False)
    overhead_j: float
    truth: Mapping[str, float] | None = None

    @property
    def population(self) -> int:
        """Number of distinct queries."""
        return len(self.covariates)

    def describe(self) -> str:
        """Say in Markdown what this is; loudly, where it was not measured."""
        windows = self.windows
        size = (
            f"{windows['board'].nunique()} board(s), {windows['session'].nunique()} session(s), "
            f"{len(self.tidy)} runs, {len(windows)} windows of {windows['model'].iloc[0]} on "
            f"{windows['task'].iloc[0]} ({windows['device'].iloc[0]}); energy is **{self.kind}**."
        )
        if self.kind != "simulated":
            return size
        return f"> ## SIMULATED\n> **No energy on this page was measured.** Every figure is computed from: {size}"


def read_study(*roots: str | os.PathLike, task: str | None = None, model: str | None = None) -> Study:
    """Read the records of one model on one task.

    Parameters
    ----------
    *roots : path
        Records or folders of records.
    task, model : str, optional
        Which, where the folders hold several.

    Returns
    -------
    Study
        Without a truth: nobody knows it.

    Raises
    ------
    StatisticsError
        If no record fits.
    CohortError
        If records of several models, tasks or data sets are left; names them.
    """
    found = [record for _, record in store.read_records(*roots)]
    records = [r for r in found if task in (None, r.task.name) and model in (None, r.model.name)]
    if not records:
        have = sorted({f"{record.task.name} / {record.model.name}" for record in found})
        raise StatisticsError(
            f"no record of task={task!r}, model={model!r} under {', '.join(map(str, roots))}; there are: "
            f"{', '.join(have) or 'none'}"
        )
    _refuse_mixture(records)
    tidy = store.read(*roots)
    sessions = {record.record_id for record in records}
    known = pd.DataFrame(records[0].data.covariates, index=pd.RangeIndex(records[0].data.queries, name="query"))
    return Study(
        kind=records[0].energy_kind,
        tidy=tidy[tidy["session"].isin(sessions)].reset_index(drop=True),
        windows=pd.DataFrame([row for r in records for row in window_rows(r)], columns=list(WINDOW_COLUMNS)),
        meters=meter_readings(records),
        covariates=known.loc[:, known.nunique() > 1],  # what is the same for all queries explains nothing
        overhead_j=session_overhead_j(records),
    )


def _refuse_mixture(records: Sequence[Record]) -> None:
    facts = {
        "model": lambda r: f"{r.task.name} / {r.model.name}",
        "device": lambda r: r.devices[0].name,
        "energy kind": lambda r: r.energy_kind,
        "data set": lambda r: f"{r.data.name} {(r.data.digest or '')[:12]}",
    }
    for what, value in facts.items():
        values = sorted({value(record) for record in records})
        if len(values) > 1:
            raise CohortError(f"{len(values)} values of {what} ({', '.join(values[:6])}); name one by task= and model=")


def meter_readings(records: Iterable[Record]) -> pd.DataFrame:
    """Return what every meter said of every valid window; a meter that failed has NaN."""
    rows = [
        (record.record_id, window.index, reading.meter, reading.device, reading.energy_j)
        for record in records
        for window in record.windows
        if window.valid
        for reading in window.meters
    ]
    return pd.DataFrame(rows, columns=list(METER_COLUMNS)).astype({"energy_j": float})


def session_overhead_j(records: Iterable[Record]) -> float:
    """Mean energy spent beside the windows, in joules: warm-up and idle levels, of the records that know all of it.

    NaN where none does.
    """
    measured = [record for record in records if record.warm_up is not None]
    spent = [[record.warm_up.energy_j, *(idle.energy_j for idle in record.idle)] for record in measured]
    known = [sum(parts) for parts in spent if None not in parts]
    return sum(known) / len(known) if known else float("nan")


class Unsaid(str):
    """A sentence in the place of a result that the data cannot carry; shown as text."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return f"*{self}*"


def said(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what `function` returns, or the reason why these data cannot carry it.

    For notebooks that run on any study: a section that one session or one meter cannot fill says so in its place.

    Returns
    -------
    object
        The function's result; or, as `Unsaid`, the sentence of the `StatisticsError` it raised, or that of the
        argument that could not be said itself.
    """
    missing = next((value for value in (*arguments, *named.values()) if isinstance(value, Unsaid)), None)
    if missing is not None:
        return missing
    try:
        return function(*arguments, **named)
    except StatisticsError as error:
        return Unsaid(f"Not from these data: {error}")
