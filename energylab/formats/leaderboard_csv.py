"""Leaderboards as CSV: one row per model, energy per 1,000 queries, often without a unit.

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
from typing import Literal

from energylab import published
from energylab.formats import common
from energylab.formats.common import Asked, Measure, Number, Part, Session, Unit, Whole, parse
from energylab.formats.importing import Format, Source

#: Number of queries of a leaderboard's energy.
QUERIES = 1000

#: Largest relative difference to the published energy, and minimal number of models that agree.
_SAME, _ENOUGH = 1e-3, 3

#: Column names with a unit: ``gpu_wh_per_1000_queries``, ``energy_kwh_per_1000``.
_NAMED = re.compile(r"(?:^|_)(?P<unit>wh|kwh|j)_per_1000(?:_queries)?$")


class Row(Part):
    energy: Number = None
    task: str | None = None
    model_class: Literal["A", "B", "C", "NA", "N/A"] | None = None
    energy_score: Whole = None


def read(source: Source, asked: Asked) -> list[Session]:
    """Return one session per row; a model with two different energies gets two names."""
    column, name = _column(source), asked.model_column or "model"
    source.check_column(name)
    rows = [(place, cells, _row(cells, column, f"{source.name}, {place}")) for place, cells in source.rows]
    unit = _unit(column, [(row.energy, cells[name]) for _, cells, row in rows])
    listed: dict[tuple, list[float | None]] = defaultdict(list)
    sessions = []
    for place, cells, row in rows:
        size = row.model_class if row.model_class in ("A", "B", "C") else None
        model, entries = cells[name], listed[row.task, size, cells[name]]
        entries += [] if row.energy in entries else [row.energy]
        number = entries.index(row.energy) + 1
        sessions.append(
            Session(
                model=model if number == 1 else f"{model} (entry {number})",
                task=row.task,
                queries=QUERIES,
                runs=({"total": Measure({"gpu": row.energy})},),
                unit=unit,
                meter=("leaderboard", f"column {column}, per 1,000 queries"),
                row=place,
                facts={"model_class": size},
                notes=("a leaderboard's figure: of how many queries and runs it is the mean is not stated",),
                extra={} if row.energy_score is None else {"stated_stars": row.energy_score},
            )
        )
    return sessions


def _row(cells: dict[str, str], column: str, where: str) -> Row:
    size, stars = cells.get("class"), cells.get("published_stars")
    return parse(Row, {"model_class": size, "energy_score": stars, **cells, "energy": cells[column]}, where)


def _column(source: Source) -> str | None:
    """Return the column of energies; None if there is none, or more than one."""
    found = [name for name in sorted(source.columns) if name == "total_gpu_energy" or _NAMED.search(name)]
    return found[0] if len(found) == 1 else None


def _unit(column: str, rows: list[tuple[float | None, str]]) -> Unit | None:
    """Return the unit in the column name, or the one in which enough models have their published energies."""
    if match := _NAMED.search(column):
        return Unit(common.unit_named(match["unit"]), f"column name {column}")
    known = published.load().groupby("model")["energy_j"].agg(set).to_dict()
    shared = [(energy, known[model]) for energy, model in rows if energy and model in known]
    matched = Counter(
        unit
        for unit, joules in common.JOULES.items()
        for energy, energies_j in shared
        if any(abs(energy * joules / energy_j - 1) <= _SAME for energy_j in energies_j)
    )
    unit, count = matched.most_common(1)[0] if matched else ("", 0)
    if count < _ENOUGH or 2 * count < len(shared):
        return None
    how = (
        f"{count} of the {len(shared)} models it shares with the published table of 2025-02 have that energy in {unit}"
    )
    return Unit(unit, how)


_TITLE = "leaderboard CSV (model and total_gpu_energy, or an energy column that names its unit)"
FORMATS = (
    Format("leaderboard", _TITLE, lambda source: "model" in source.columns and _column(source) is not None, read),
)
