"""Leaderboards as CSV: one row a model, energy per 1,000 queries, often without a unit.

The AI Energy Score leaderboard's files are ``model,total_gpu_energy,energy_score[,class]`` and say no unit; copies of
them label the same numbers in kWh, cWh and Wh. The unit is proved by models that stand, with the same energy, in the
published table of this package; otherwise it is asked for. A column that names its unit, such as
``gpu_wh_per_1000_queries``, proves itself.

References
----------
https://huggingface.co/spaces/AIEnergyScore/Leaderboard, files ``data/energy/TASK.csv``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from energylab import published
from energylab.errors import FormatError
from energylab.formats import ask
from energylab.formats.session import Asked, Measure, Session
from energylab.formats.source import Source
from energylab.formats.units import JOULES, Unit, named, settle

#: Queries that a leaderboard's energy is of.
QUERIES = 1000

#: How near an energy must be to the published one to be the same, and how many models must be.
_SAME = 1e-3
_ENOUGH = 3

#: Column names that say their unit: ``gpu_wh_per_1000_queries``, ``energy_kwh_per_1000``.
_NAMED = re.compile(r"(?:^|_)(?P<unit>wh|kwh|j)_per_1000(?:_queries)?$")

_UNNAMED = "total_gpu_energy"


class Leaderboard:
    """Reader of a leaderboard's table."""

    name = "leaderboard"
    title = "leaderboard CSV (model and total_gpu_energy, or an energy column that names its unit)"

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a table."""
        return "model" in source.columns and _column(source) is not None

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return one session a row; a model that is listed twice keeps both figures, under two names."""
        column = _column(source)
        unit = _unit(source, column, asked)
        seen: dict[tuple, int] = {}
        return [self._row(n, row, column, unit, asked, source, seen) for n, row in enumerate(source.rows, start=2)]

    def _row(
        self, number: int, row: Mapping[str, str], column: str, unit: Unit, asked: Asked, source: Source, seen: dict
    ) -> Session:
        where = f"{source.name}, row {number}"
        name = ask.model(Asked(model=None), row[asked.model_column or "model"], where)
        task = ask.task(asked, row.get("task") or None, where)
        model_class = _model_class(row, where)
        entry = seen[task, model_class, name] = seen.get((task, model_class, name), 0) + 1
        value = ask.number(row[column], column, where)
        stars = ask.whole(row.get("energy_score") or row.get("published_stars"), "energy_score", where)
        return Session(
            model=name if entry == 1 else f"{name} (entry {entry})",
            task=task,
            queries=QUERIES,
            runs=({"total": Measure(None if value is None else unit.joules(value))},),
            unit=unit,
            meter=("leaderboard", f"column {column}, per 1,000 queries"),
            row=f"row {number}",
            facts={"model_class": model_class},
            notes=("a leaderboard's figure: of how many queries and runs it is the mean is not stated",),
            extra={} if stars is None else {"stated_stars": stars},
        )


def _column(source: Source) -> str | None:
    """Return the column of energies; None where there is none, or more than one."""
    found = [name for name in sorted(source.columns) if name == _UNNAMED or _NAMED.search(name)]
    return found[0] if len(found) == 1 else None


def _model_class(row: Mapping[str, str], where: str) -> str | None:
    """Return a row's model class; empty and ``NA`` mean that the task has none."""
    text = (row.get("model_class") or row.get("class") or "").strip()
    if text.upper() in ("", "NA", "N/A"):
        return None
    if text.upper() not in ("A", "B", "C"):
        raise FormatError(f"{where}: class {text!r} is not known; allowed: A, B, C, or nothing")
    return text.upper()


def _unit(source: Source, column: str, asked: Asked) -> Unit:
    match = _NAMED.search(column)
    if match:
        name = named(match["unit"])
        return settle(Unit(name, f"column name {column}"), asked.unit, source.name)
    why = f"column {column} says no unit, and too few of its models stand with the same energy in the published table"
    return settle(_by_published(source, column), asked.unit, source.name, why)


def _by_published(source: Source, column: str) -> Unit | None:
    """Return the unit in which the table's models have their published energies; None unless enough do in one unit."""
    known = {name: set() for name in published.load()["model"]}
    for name, energy_j in published.load()[["model", "energy_j"]].itertuples(index=False):
        known[name].add(energy_j)
    shared: dict[str, int] = {}
    matched: dict[str, int] = dict.fromkeys(JOULES, 0)
    for number, row in enumerate(source.rows, start=2):
        value = ask.number(row[column], column, f"{source.name}, row {number}")
        if value is None or value <= 0 or row["model"] not in known:
            continue
        shared[row["model"]] = number
        for unit, joules in JOULES.items():
            matched[unit] += any(abs(value * joules / energy_j - 1) <= _SAME for energy_j in known[row["model"]])
    best = max(matched, key=matched.__getitem__)
    if matched[best] < _ENOUGH or 2 * matched[best] < len(shared):
        return None
    how = f"{matched[best]} of the {len(shared)} models it shares with the published table of 2025-02 have that energy"
    return Unit(best, f"{how} in {best}")
