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
from collections import Counter, defaultdict

from energylab import published
from energylab.errors import FormatError
from energylab.formats import common
from energylab.formats.common import Asked, Measure, Part, Session, Unit
from energylab.formats.importing import Format, Source

#: Queries that a leaderboard's energy is of.
QUERIES = 1000

#: How near an energy must be to the published one to be the same, and how many models must be.
_SAME = 1e-3
_ENOUGH = 3

#: Column names that say their unit: ``gpu_wh_per_1000_queries``, ``energy_kwh_per_1000``.
_NAMED = re.compile(r"(?:^|_)(?P<unit>wh|kwh|j)_per_1000(?:_queries)?$")

_UNNAMED = "total_gpu_energy"


class Row(Part):
    """One row of the table, its energy under one name."""

    energy: common.Number
    task: common.Text = None
    model_class: common.Text = None
    energy_score: common.Whole = None


def read(source: Source, asked: Asked) -> list[Session]:
    """Return one session a row; a model that is listed twice with two figures keeps both, under two names."""
    column, name = _column(source), asked.model_column or "model"
    if name not in source.columns:
        raise FormatError(f"{source.name} has no column {name!r}; it has {', '.join(sorted(source.columns))}")
    rows = [(where, _row(cells, column, where), cells[name]) for where, cells in source.rows]
    unit = _unit(source.name, column, [(row, model) for _, row, model in rows], asked)
    seen: dict[tuple, list[float | None]] = defaultdict(list)
    sessions = []
    for where, row, listed in rows:
        task, size = common.task_name(asked, row.task, where), common.model_class(row.model_class, where)
        model = common.model_name(Asked(), listed, where)
        entries = seen[task, size, model]
        entries += [] if row.energy in entries else [row.energy]
        number = entries.index(row.energy) + 1
        sessions.append(
            Session(
                model=model if number == 1 else f"{model} (entry {number})",
                task=task,
                queries=QUERIES,
                runs=({"total": Measure(unit.joules(row.energy))},),
                unit=unit,
                meter=("leaderboard", f"column {column}, per 1,000 queries"),
                row=where.rpartition(", ")[2],
                facts={"model_class": size},
                notes=("a leaderboard's figure: of how many queries and runs it is the mean is not stated",),
                extra={} if row.energy_score is None else {"stated_stars": row.energy_score},
            )
        )
    return sessions


def _row(cells: dict[str, str], column: str, where: str) -> Row:
    stars = cells.get("energy_score") or cells.get("published_stars")
    size = cells.get("model_class") or cells.get("class")
    try:
        return common.parse(
            Row, {"energy": cells[column], "task": cells.get("task"), "model_class": size, "energy_score": stars}, where
        )
    except FormatError as error:
        raise FormatError(str(error).replace(": energy=", f": {column}=")) from None


def _column(source: Source) -> str | None:
    """Return the column of energies; None where there is none, or more than one."""
    found = [name for name in sorted(source.columns) if name == _UNNAMED or _NAMED.search(name)]
    return found[0] if len(found) == 1 else None


def _unit(where: str, column: str, rows: list[tuple[Row, str]], asked: Asked) -> Unit:
    if match := _NAMED.search(column):
        return common.settle(Unit(common.unit_named(match["unit"]), f"column name {column}"), asked.unit, where)
    why = f"column {column} says no unit, and too few of its models stand with the same energy in the published table"
    return common.settle(_by_published(rows), asked.unit, where, why)


def _by_published(rows: list[tuple[Row, str]]) -> Unit | None:
    """Return the unit in which the table's models have their published energies; None unless enough do in one unit."""
    known = published.load().groupby("model")["energy_j"].agg(set).to_dict()
    shared = [(row.energy, known[model]) for row, model in rows if row.energy and model in known]
    matched = Counter(
        unit
        for unit, joules in common.JOULES.items()
        for value, energies_j in shared
        if any(abs(value * joules / energy_j - 1) <= _SAME for energy_j in energies_j)
    )
    best, count = matched.most_common(1)[0] if matched else ("", 0)
    if count < _ENOUGH or 2 * count < len(shared):
        return None
    how = (
        f"{count} of the {len(shared)} models it shares with the published table of 2025-02 have that energy in {best}"
    )
    return Unit(best, how)


def _recognises(source: Source) -> bool:
    return "model" in source.columns and _column(source) is not None


_TITLE = "leaderboard CSV (model and total_gpu_energy, or an energy column that names its unit)"
FORMATS = (Format("leaderboard", _TITLE, _recognises, read),)
