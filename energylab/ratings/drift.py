"""From one release to the next: who joined, who left, whose star moved, and why."""

from __future__ import annotations

import pandas as pd

from energylab.errors import ParameterError, unknown_name
from energylab.ratings.schemes import Bands, Scheme, stars_for
from energylab.ratings.stars import Rating, rating

_KEYS = ["task", "model_class", "model"]


def drift(before: Rating, after: Rating) -> pd.DataFrame:
    """Compare two ratings star by star.

    A changed star is traced: ``own energy`` if the new energy moves it within the old bands, ``scale`` if the new
    bands move the old energy, ``both`` or ``either`` if both or neither do so alone.

    Parameters
    ----------
    before, after : Rating
        Two ratings, each with one cohort a task and model class (the device may differ).

    Returns
    -------
    pandas.DataFrame
        One row per task, class and model of either: ``task, model_class, model, energy_before_wh, energy_after_wh,
        stars_before, stars_after, move`` (``joined``, ``left``, ``same``, ``up``, ``down``, ``now rated``, ``no
        longer rated``, ``not rated``) and ``why`` (for ``up`` and ``down``).

    Raises
    ------
    ParameterError
        If a rating holds a model in two cohorts.
    """
    parts = [_side(rating, suffix) for rating, suffix in ((before, "before"), (after, "after"))]
    both = parts[0].merge(parts[1], on=_KEYS, how="outer", indicator="side")
    both["move"] = [_move(row) for row in both.itertuples()]
    bands = tuple({(part.task, part.model_class): part for part in rating.bands} for rating in (before, after))
    both["why"] = [_why(row, *bands) if row.move in ("up", "down") else "" for row in both.itertuples()]
    order = ["task", "model_class", "model", "energy_before_wh", "energy_after_wh", "stars_before", "stars_after"]
    both = both.sort_values(["task", "model_class", "energy_after_wh", "model"], ignore_index=True)
    return both[[*order, "move", "why"]]


def _side(rating: Rating, suffix: str) -> pd.DataFrame:
    doubled = rating.stars[rating.stars.duplicated(_KEYS)]
    if len(doubled):
        raise ParameterError(
            f"the rating {suffix} holds {doubled['model'].iloc[0]!r} in several cohorts; rate one cohort at a time"
        )
    named = {"energy_wh": f"energy_{suffix}_wh", "stars": f"stars_{suffix}"}
    return rating.stars[[*_KEYS, "energy_wh", "stars"]].rename(columns=named)


def _move(row) -> str:
    if row.side != "both":
        return "left" if row.side == "left_only" else "joined"
    before, after = row.stars_before, row.stars_after
    if pd.isna(before) or pd.isna(after):
        return (
            "not rated" if pd.isna(before) and pd.isna(after) else "now rated" if pd.isna(before) else "no longer rated"
        )
    return "same" if before == after else "up" if after > before else "down"


def _why(row, before: dict[tuple, Bands], after: dict[tuple, Bands]) -> str:
    group = (row.task, None if pd.isna(row.model_class) else row.model_class)
    own = stars_for(row.energy_after_wh, before[group])[0] != row.stars_before
    scale = stars_for(row.energy_before_wh, after[group])[0] != row.stars_before
    return {(True, False): "own energy", (False, True): "scale", (True, True): "both", (False, False): "either"}[
        own, scale
    ]


def joining(df: pd.DataFrame, model: str | None = None, scheme: str | Scheme = "equal_width") -> pd.DataFrame:
    """Show the drift that one model causes, as if it had joined last.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table.
    model : str, optional
        The newcomer; the heaviest of the largest group by default.
    scheme : str or Scheme
        As in `rate`.

    Returns
    -------
    pandas.DataFrame
        As `drift`, of the newcomer's own group; of several cohorts, the one with most models of its task.

    Raises
    ------
    UnknownNameError
        If no model has that name.
    ParameterError
        If it earns no star.
    """
    if model is not None and model not in set(df["model"]):
        raise unknown_name("model", model, df["model"].unique())
    rated = rating(df, scheme, draws=0).stars.dropna(subset=["stars"])
    own = _largest_group(rated if model is None else rated[rated["model"] == model], rated)
    if own.empty:
        raise ParameterError(f"{model or 'no model'} earns no star by this scheme; see the notes of `rate`")
    newest = own.loc[own["energy_wh"].idxmax()]
    model = newest["model"]
    df = df[df["cohort"] == newest["cohort"]] if "cohort" in df else df
    after = rating(df, scheme, draws=0)
    before = rating(df[df["model"] != model], scheme, draws=0)
    moved = drift(before, after)
    newcomer = moved[moved["model"] == model]
    return moved.merge(newcomer[_KEYS[:2]].drop_duplicates(), on=_KEYS[:2])


def _largest_group(candidates: pd.DataFrame, rated: pd.DataFrame) -> pd.DataFrame:
    """Return the candidates of the group that has most rated models."""
    keys = ["cohort", *_KEYS[:2]]
    size = rated.groupby(keys, dropna=False)["model"].transform("size").reindex(candidates.index)
    return candidates[size == size.max()]
