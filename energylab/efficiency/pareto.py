"""Which settings nothing beats: no other is at least as good in energy, wait and quality, and better in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from energylab.efficiency.words import LESS_IS_BETTER

if TYPE_CHECKING:
    import pandas as pd


def front(frame: pd.DataFrame) -> pd.DataFrame:
    """Mark the Pareto front of a sweep's table.

    Settings compete with those that give as many new tokens: a shorter answer is other work. Quality counts where it is
    known for both; answers of unknown quality compete on energy and wait alone.

    Returns
    -------
    pandas.DataFrame
        The table with the column ``front``.
    """
    rows = list(frame.to_dict("index").values())
    marks = [not any(_beats(other, one) for other in rows) for one in rows]
    return frame.assign(front=marks)


def _beats(other: dict, one: dict) -> bool:
    if other is one or other["new_tokens"] != one["new_tokens"]:
        return False
    pairs = [(other[name], one[name]) for name in ("energy_j", "latency_s")]
    known = other["quality"] == other["quality"] and one["quality"] == one["quality"]  # NaN is not itself
    if known:
        sign = 1 if one["quality_metric"] in LESS_IS_BETTER else -1
        pairs.append((sign * other["quality"], sign * one["quality"]))
    return all(theirs <= ours for theirs, ours in pairs) and any(theirs < ours for theirs, ours in pairs)
