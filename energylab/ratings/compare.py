"""The same models rated in several ways, side by side: schemes, per token, without idle, other batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from energylab.errors import DataError, ParameterError
from energylab.ratings.schemes import Scheme
from energylab.ratings.stars import rate

_KEYS = ["task", "model_class", "model"]


def side_by_side(ratings: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Set the stars of several ratings of the same models beside each other.

    Parameters
    ----------
    ratings : mapping of str to pandas.DataFrame
        A name for each table of `rate`; the first is what the others are compared with. Models that occur in several
        cohorts of a table are told apart by them: then all tables need the same cohorts.

    Returns
    -------
    pandas.DataFrame
        One row per task, class and model, in the order of the first: ``task, model_class, model``, ``cohort`` where it
        is needed to tell models apart, one column of stars a rating (Int64, missing where it has none), and
        ``changed``: how many of the others give another number of stars than the first.

    Raises
    ------
    ParameterError
        If there is no rating, or a model of several cohorts is in ratings of other cohorts.
    """
    if not ratings:
        raise ParameterError("no rating to compare; pass {'name': rate(df), …}")
    doubled = {name: stars[stars.duplicated(_KEYS)] for name, stars in ratings.items()}
    name, twice = next(((name, rows) for name, rows in doubled.items() if len(rows)), ("", None))
    if twice is not None and len({frozenset(stars["cohort"]) for stars in ratings.values()}) > 1:
        raise ParameterError(
            f"rating {name!r} holds {twice['model'].iloc[0]!r} in several cohorts, and the ratings are not of the same "
            "cohorts; rate one cohort at a time"
        )
    keys = _KEYS if twice is None else [*_KEYS, "cohort"]
    table = pd.concat([stars.set_index(keys)["stars"].rename(name) for name, stars in ratings.items()], axis=1)
    others = table.iloc[:, 1:]
    table["changed"] = others.ne(table.iloc[:, 0], axis=0).fillna(False).sum(axis=1).astype(int)
    return table.reset_index()


def rated_by(table: pd.DataFrame) -> list[str]:
    """Return the names of the ratings in a table of `side_by_side`, in their order."""
    return [name for name in table.columns if name not in (*_KEYS, "cohort", "changed")]


def by_scheme(
    df: pd.DataFrame, schemes: Sequence[str | Scheme] = ("equal_width", "log_width", "quantiles", "reference")
) -> pd.DataFrame:
    """Rate a table by several schemes; see `side_by_side`.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table.
    schemes : sequence of str or Scheme
        The first is what the others are compared with.
    """
    named = {scheme if isinstance(scheme, str) else scheme.name: rate(df, scheme, draws=0) for scheme in schemes}
    return side_by_side(named)


def per_output_token(df: pd.DataFrame) -> pd.DataFrame:
    """Return the table with output tokens in place of queries: `rate` then gives Wh per 1,000 output tokens.

    The tokens of a run are those of its scored phases, and divide the energy of all of them.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table with ``output_tokens``.

    Returns
    -------
    pandas.DataFrame
        Only the rows of models that generate tokens.

    Raises
    ------
    DataError
        If the table has no output tokens at all.
    """
    tokens = _column(df, "output_tokens", "rate records of a task that generates text")
    run = [name for name in (*_KEYS, "cohort", "session", "run") if name in df.columns]
    scored = df["scored"].astype(bool) if "scored" in df.columns else pd.Series(True, index=df.index)
    total = tokens.where(scored).groupby([df[name] for name in run], dropna=False).transform("sum")
    return df.assign(queries=total)[total > 0]


def without_idle(df: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the resting device's share taken off: energy minus idle power times duration.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table with ``duration_s`` and ``idle_power_w`` (mean power at rest with the weights loaded).

    Returns
    -------
    pandas.DataFrame
        With ``energy_j`` above idle; NaN where that is not above 0, since then it is within the meter's error.

    Raises
    ------
    DataError
        If the table has no idle power or no durations.
    """
    idle_w = _column(df, "idle_power_w", "rate records of sessions that measured their idle levels")
    duration_s = _column(df, "duration_s", "rate records, which hold durations")
    above = df["energy_j"].astype(float) - idle_w * duration_s
    return df.assign(energy_j=above.where(above > 0))


def _column(df: pd.DataFrame, name: str, instead: str) -> pd.Series:
    if name not in df.columns or df[name].isna().all():
        raise DataError(f"the table has no {name}; {instead}")
    return df[name].astype(float)


def treatments(df: pd.DataFrame, scheme: str | Scheme = "equal_width") -> pd.DataFrame:
    """Say how many stars hang on how energy is counted: per token, without idle, in batches.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table; what it lacks is named in the row concerned.
    scheme : str or Scheme
        As in `rate`.

    Returns
    -------
    pandas.DataFrame
        One row per treatment: ``treatment, models`` (rated both ways), ``changed`` (stars that differ), ``said``
        (why nothing can be said, empty otherwise).
    """
    rows = []
    for name, treat in (("energy per output token", per_output_token), ("idle energy taken off", without_idle)):
        try:
            rows.append(_changed(name, df, treat(df), scheme, [*_KEYS, "cohort"]))
        except DataError as error:
            rows.append(_unsaid(name, str(error)))
    sizes = sorted(df["batch_size"].dropna().unique()) if "batch_size" in df.columns else []
    if len(sizes) < 2:
        rows.append(_unsaid("batch size", "all models were measured at one batch size; measure them at another too"))
    for size in sizes[1:]:
        parts = (df[df["batch_size"] == each] for each in (sizes[0], size))
        rows.append(_changed(f"batch size {size:g} in place of {sizes[0]:g}", *parts, scheme, _KEYS))
    return pd.DataFrame(rows)


def _changed(
    name: str, before: pd.DataFrame, after: pd.DataFrame, scheme: str | Scheme, keys: list[str]
) -> dict[str, object]:
    rated = [rate(part, scheme, draws=0) for part in (before, after)]
    for part in rated:
        if part.duplicated(keys).any():
            raise ParameterError(f"{name}: a model occurs in several cohorts; compare one cohort at a time")
    known = [part.dropna(subset=["energy_wh"])[[*keys, "energy_wh"]] for part in rated]
    common = known[0].merge(known[1], on=keys)[keys]  # a model that drops out moves the scale: that is no treatment
    stars = [_only(part, common, scheme) for part in rated]
    both = stars[0].merge(stars[1], on=keys, suffixes=("", "_after")).dropna(subset=["stars", "stars_after"])
    changed = int((both["stars"] != both["stars_after"]).sum())
    return {"treatment": name, "models": len(both), "changed": changed, "said": ""}


def _only(rated: pd.DataFrame, models: pd.DataFrame, scheme: str | Scheme) -> pd.DataFrame:
    """Rate some of the models again, as if there were no others."""
    kept = rated.merge(models, on=list(models.columns))
    energies = kept.drop(columns="stars").assign(energy_j=kept["energy_wh"] * 3.6, queries=1)
    if kept.empty:
        return kept[[*models.columns, "stars"]]
    return rate(energies, scheme, draws=0)[[*models.columns, "stars"]]


def _unsaid(name: str, why: str) -> dict[str, object]:
    return {"treatment": name, "models": 0, "changed": 0, "said": why}
