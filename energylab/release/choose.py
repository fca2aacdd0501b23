"""One cohort a task and model class: which, and what is left out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from energylab.errors import CohortError
from energylab.release.schema import LeftOut
from energylab.table import difference

if TYPE_CHECKING:
    import pandas as pd

LARGEST = "largest"


def number(key: str) -> str:
    """Return a cohort's number: eight hex digits of its key's sha256."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def choose(table: pd.DataFrame, wanted: str | None) -> tuple[pd.DataFrame, list[LeftOut]]:
    """Keep one cohort of each task and model class.

    Parameters
    ----------
    table : pandas.DataFrame
        Tidy table.
    wanted : str, optional
        The start of a cohort's number, or ``largest``: the one with most models, by number where they tie.

    Returns
    -------
    pandas.DataFrame
        The rows kept.
    list of LeftOut
        One for each model and session of the other cohorts.

    Raises
    ------
    CohortError
        If a choice is needed and not made, or `wanted` is not among several; names what differs.
    """
    if "cohort" not in table:
        return table, []
    classes = table["model_class"] if "model_class" in table else table["task"]
    keep, left_out = table["task"].notna() & False, []
    for (task, _), part in table.groupby([table["task"], classes.astype("string").fillna("")], sort=True):
        sizes = part.groupby(part["cohort"].fillna(""))["model"].nunique()
        chosen = sizes.index[0] if len(sizes) == 1 else _pick(str(task), sizes, wanted)
        inside = part["cohort"].fillna("") == chosen
        keep |= inside.reindex(table.index, fill_value=False)
        left_out += _left_out(part[~inside], chosen)
    return table[keep], left_out


def _pick(task: str, sizes: pd.Series, wanted: str | None) -> str:
    if wanted == LARGEST:
        return min(sizes.index, key=lambda key: (-sizes[key], number(key)))
    matching = [key for key in sizes.index if wanted and number(key).startswith(wanted)]
    if len(matching) == 1:
        return matching[0]
    listed = "\n".join(
        f"  {number(key)}: {count} models, {difference(key, sizes.index)}" for key, count in sizes.items()
    )
    problem = f"cohort {wanted!r} is not among those" if wanted else "there are several cohorts"
    raise CohortError(
        f"{problem} of {task}, and a release rates one:\n{listed}\nchoose with --cohort NUMBER or --cohort {LARGEST}"
    )


def _left_out(rows: pd.DataFrame, chosen: str) -> list[LeftOut]:
    columns = [name for name in ("task", "model", "session", "cohort") if name in rows]
    return [
        LeftOut(
            task=row["task"],
            model=row["model"],
            record_id=None if row.get("session") != row.get("session") else row.get("session"),
            why=f"of another cohort: {difference(row['cohort'] or '', [chosen])}",
        )
        for row in rows[columns].drop_duplicates().sort_values(columns[:3]).to_dict("records")
    ]
