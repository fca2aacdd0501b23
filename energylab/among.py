"""The peers a session is rated among: between which ends their lowest and highest energies lie, from their records."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from energylab import store
from energylab.energy import WH_PER_1000_QUERIES
from energylab.errors import CohortError, StatisticsError
from energylab.statistics.decided import ScaleQuestion, split_level
from energylab.statistics.sessions import spread_bound
from energylab.table import key_facts

if TYPE_CHECKING:
    import pandas as pd

#: Peers that make a scale: with fewer a star says nothing.
LEAST_PEERS = 2

_J_PER_QUERY = 1 / WH_PER_1000_QUERIES


@dataclass(frozen=True)
class Scale:
    """What a session must know of its peers to ask which star its model earns.

    Attributes
    ----------
    question : ScaleQuestion
        In joules per query.
    level : float
        Of the session's own interval: half of the error is its own, half is shared by the peers.
    between_cv : float
        Upper bound of the spread between sessions, from the peers' repeated ones; 0 where none was repeated.
    peers : int
        Models on the scale, without this one.
    notes : tuple of str
        What a reader must know of it.
    """

    question: ScaleQuestion
    level: float
    between_cv: float
    peers: int
    notes: tuple[str, ...]


def read_peers(root: str | os.PathLike) -> pd.DataFrame:
    """Return the tidy table of the peers' records.

    Raises
    ------
    CohortError
        If there is no record, so that there are no peers.
    EnergylabError
        As `energylab.read`.
    """
    table = store.read(root)
    if table.empty or "cohort" not in table:
        raise CohortError(f"peers={os.fspath(root)!r} holds no records; name the folder of a study that was measured")
    return table


def scale(
    table: pd.DataFrame,
    *,
    cohort: str,
    model: str,
    model_class: str | None,
    board: str,
    probability: float,
    gain: float = 0.05,
) -> Scale:
    """Make the scale of a session's peers: the other models of its cohort and class.

    The star is right with `probability` if the session's own interval and those of all peers hold at once: each has its
    share of the error (Bonferroni), and the extremes may be any of them. Records on other boards bring the gain of
    their sensors in.

    Parameters
    ----------
    table : pandas.DataFrame
        From `read_peers`; records of this model itself are left out.
    cohort, model, model_class, board : str
        Of the session.
    probability : float
        With which the decided star is to be right.
    gain : float, default 0.05
        Largest relative gain error of a sensor, counted where not all ran on one board.

    Returns
    -------
    Scale

    Raises
    ------
    CohortError
        If no record belongs to this cohort and class; names what differs.
    StatisticsError
        If there are too few peers, or nobody knows how sure the energy of one is.
    """
    from energylab.ratings.cohorts import summarise
    from energylab.ratings.rating import THIN, rating

    rows = _peers(table, cohort, model, model_class)
    one_board = (set(rows["board"].dropna()) | {board}) == {board}
    own = (1 + probability) / 2
    level = split_level(own, rows["model"].nunique())
    rated = rating(rows, gain=0.0 if one_board else gain, draws=0, level=level).stars
    lost = rated.loc[rated["energy_wh"].isna(), "model"]
    rated = rated.dropna(subset=["energy_wh"])
    if len(rated) < LEAST_PEERS:
        raise StatisticsError(
            f"{len(rated)} peers have an energy; a scale needs at least {LEAST_PEERS} beside this model"
        )
    unknown = rated.loc[rated["expanded_low"].isna(), "model"]
    if len(unknown):
        raise StatisticsError(
            f"nobody knows how sure the energy of {unknown.iloc[0]!r} is (one run of one session): measure it again, "
            "or take it out of peers"
        )
    low, high = (rated[f"expanded_{end}"].to_numpy() * _J_PER_QUERY for end in ("low", "high"))
    between_cv, notes = _between(summarise(rows).models)
    if len(lost):
        notes.append(f"without an energy, and so not on the scale: {', '.join(sorted(lost))}")
    if not one_board:
        notes.append(f"several boards: sensor gains of ±{gain:.0%} are counted")
    if len(rated) + 1 < THIN:
        notes.append(f"thin group of {len(rated) + 1} models: a star means little")
    ends = (float(low.min()), float(high.min())), (float(low.max()), float(high.max()))
    return Scale(ScaleQuestion(*ends, 0.0 if one_board else gain), own, between_cv, len(rated), tuple(notes))


def _peers(table: pd.DataFrame, cohort: str, model: str, model_class: str | None) -> pd.DataFrame:
    classes = table["model_class"].astype("string").fillna("")
    rows = table[(table["cohort"] == cohort) & (classes == (model_class or "")) & (table["model"] != model)]
    if rows.empty:
        others = [key for key in table["cohort"].dropna().unique() if key != cohort]
        nearest = min((_difference(cohort, key) for key in others), key=len, default=["model class, or no other model"])
        raise CohortError(f"peers hold no model that may be compared with this one; what differs: {'; '.join(nearest)}")
    return rows


def _difference(key: str, other: str) -> list[str]:
    facts, others = key_facts(key), key_facts(other)
    differing = [name for name in facts if facts[name] != others.get(name)]
    return [f"{name} is {facts[name]} here, {others.get(name, 'not stated')} there" for name in differing]


def _between(models: pd.DataFrame) -> tuple[float, list[str]]:
    """Return the upper bound of the spread between sessions, pooled over the peers, and what must be said of it."""
    repeated = models[models["sessions"] > 1]
    df = int((repeated["sessions"] - 1).sum())
    if not df:
        return 0.0, ["no peer was measured in several sessions: the spread between sessions is not counted"]
    square = ((repeated["session_sd_wh"] / repeated["energy_wh"]) ** 2 * (repeated["sessions"] - 1)).sum() / df
    return float(spread_bound(np.sqrt(square), df + 1)), []
