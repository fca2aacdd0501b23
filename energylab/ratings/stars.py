"""Rate a tidy table: energies, two intervals, stars and how sure each star is."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from energylab.errors import ParameterError
from energylab.ratings.cohorts import Summary, summarise
from energylab.ratings.probabilities import Uncertainty, star_probabilities
from energylab.ratings.schemes import STARS, Bands, Group, Scheme, count_stars, get_scheme

PROBABILITIES = tuple(f"p_star_{star}" for star in range(1, STARS + 1))


@dataclass(frozen=True)
class Rating:
    """Stars and the bands they were read from.

    Attributes
    ----------
    stars : pandas.DataFrame
        As returned by `rate`.
    bands : tuple of Bands
        One per group, in the order of the table.
    """

    stars: pd.DataFrame
    bands: tuple[Bands, ...]


def rate(df: pd.DataFrame, scheme: str | Scheme = "equal_width", **options) -> pd.DataFrame:
    """Rate every model among its peers, and say how sure each star is.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table (`energylab.read`), or any table with ``task, model, energy_j, queries``.
    scheme : str or Scheme, default "equal_width"
        How bands are made: ``equal_width`` (as published), ``log_width``, ``quantiles``, or a scheme object.
    **options
        ``noise, gain, draws, seed, level``: see `rating`.

    Returns
    -------
    pandas.DataFrame
        One row per cohort, task, model class and model, sorted by these and energy: ``task, model_class,
        model, cohort, energy_kind, sessions, energy_wh`` (per 1,000 queries), ``repeatability_low,
        repeatability_high, expanded_low, expanded_high`` (Wh; NaN when unknown), ``stars`` (Int64; missing
        when not rated), ``p_star_1 … p_star_5, expected_stars`` (NaN when the uncertainty is unknown),
        ``note``.

    Raises
    ------
    DataError, CohortError, UnknownNameError, ParameterError
        See `rating`.
    """
    return rating(df, scheme, **options).stars


def rating(
    df: pd.DataFrame,
    scheme: str | Scheme = "equal_width",
    *,
    noise: float | None = None,
    gain: float = 0.05,
    draws: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Rating:
    """Rate a tidy table and keep the bands; `rate` gives the table alone.

    Parameters
    ----------
    df, scheme
        As in `rate`.
    noise : float, optional
        Relative standard error to assume for figures without any repeat (published tables have none). None:
        their intervals and probabilities stay unknown.
    gain : float, default 0.05
        Largest relative gain error of a board's sensor, in either direction.
    draws : int, default 10,000
        Redraws of each group; 0 for stars without probabilities.
    seed : int, default 0
        Seed of the redraws; each group has its own stream, so other groups in the table change nothing.
    level : float, default 0.95
        Confidence level of the intervals.

    Returns
    -------
    Rating
        Table and bands.

    Raises
    ------
    DataError
        If the table lacks a column or holds an unusable row; see `cohorts.summarise`.
    CohortError
        If a group mixes what may not be compared.
    UnknownNameError
        If the scheme or a model class is not known.
    ParameterError
        If an option is out of its range.
    """
    _check_options(noise, gain, draws, level)
    scheme = get_scheme(scheme)
    summary = summarise(df)
    table = _frame(summary)
    relative_se, dof, notes = _standard_errors(summary.models, noise)
    _add_intervals(table, relative_se, dof, gain, level)
    bands = []
    for number, group in enumerate(summary.groups):
        rows = np.flatnonzero(summary.models["group"].to_numpy() == number)
        usable = rows[(summary.models["energy_wh"].notna() & summary.models["classed"]).to_numpy()[rows]]
        found = _bands(table["energy_wh"].to_numpy()[usable], scheme, group, bool(len(usable)))
        bands.append(found)
        if found.reason:
            notes[usable] += found.reason + "; "
            continue
        energies = table["energy_wh"].to_numpy()[usable]
        table.loc[usable, "stars"] = count_stars(energies, np.asarray(found.edges_wh))
        if draws and np.isfinite(relative_se[usable]).all():
            boards, shared = _board_shares(summary.boards, usable)
            uncertainty = Uncertainty(
                relative_se[usable], dof[usable], boards, 0.0 if shared and scheme.relative else gain
            )
            rng = np.random.default_rng(
                [seed, zlib.crc32(repr((group.cohort, group.task, group.model_class)).encode())]
            )
            table.loc[usable, list(PROBABILITIES)] = star_probabilities(
                energies, uncertainty, scheme, group, draws, rng
            )
    table["expected_stars"] = table[list(PROBABILITIES)].to_numpy() @ np.arange(1, STARS + 1)
    table["note"] = _notes(summary, notes)
    return Rating(table, tuple(bands))


def _check_options(noise: float | None, gain: float, draws: int, level: float) -> None:
    if noise is not None and not 0 < noise < 1:
        raise ParameterError(
            f"noise={noise!r}: a relative standard error between 0 and 1, such as 0.01 for 1 %, or None"
        )
    if not 0 <= gain < 1:
        raise ParameterError(f"gain={gain!r}: a relative gain error from 0 up to 1, such as 0.05 for ±5 %")
    if draws < 0 or int(draws) != draws:
        raise ParameterError(f"draws={draws!r}: a whole number, 0 for stars without probabilities")
    if not 0 < level < 1:
        raise ParameterError(f"level={level!r}: a confidence level between 0 and 1, such as 0.95")


def _frame(summary: Summary) -> pd.DataFrame:
    groups, models = summary.groups, summary.models
    number = models["group"].to_numpy()

    def spread(field: str) -> pd.Series:
        return pd.Series(pd.Categorical.from_codes(number, range(len(groups)))).map(
            {index: getattr(group, field) for index, group in enumerate(groups)}
        )

    table = pd.DataFrame(
        {
            "task": spread("task").astype("string"),
            "model_class": spread("model_class").astype("string"),
            "model": models["model"],
            "cohort": spread("cohort").astype("string"),
            "energy_kind": spread("energy_kind").astype("string"),
            "sessions": models["sessions"],
            "energy_wh": models["energy_wh"],
        }
    )
    for name in ("repeatability_low", "repeatability_high", "expanded_low", "expanded_high"):
        table[name] = np.nan
    table["stars"] = pd.array(np.zeros(len(table), dtype=np.int64), dtype="Int64")
    table["stars"] = table["stars"].mask(np.ones(len(table), dtype=bool))
    for name in PROBABILITIES:
        table[name] = np.nan
    return table


def _bands(energies: np.ndarray, scheme: Scheme, group: Group, any_usable: bool) -> Bands:
    reason = ""
    if not any_usable:
        reason = "no model of this group has an energy"
    elif scheme.relative and energies.size < 2:
        reason = "not rated: the only model of its group"
    elif scheme.relative and energies.min() == energies.max():
        reason = "not rated: all models of its group have the same energy"
    edges = () if reason else tuple(map(float, scheme(energies, group)))
    return Bands(
        scheme.name,
        scheme.version,
        group.cohort,
        group.task,
        group.model_class,
        edges,
        int(energies.size),
        reason,
    )


def _standard_errors(models: pd.DataFrame, noise: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return relative standard errors, degrees of freedom and notes; NaN where nothing is known."""
    energy = models["energy_wh"].to_numpy()
    sessions, runs = models["sessions"].to_numpy(), models["runs"].to_numpy()
    relative_se = np.full(len(models), np.nan)
    dof = np.full(len(models), np.inf)
    notes = np.full(len(models), "", dtype=object)
    many = sessions > 1
    relative_se[many] = (models["session_sd_wh"].to_numpy() / energy / np.sqrt(np.maximum(sessions, 1)))[many]
    dof[many] = sessions[many] - 1
    one = (sessions == 1) & (runs > 1)
    relative_se[one] = (models["run_sd_wh"].to_numpy() / energy / np.sqrt(np.maximum(runs, 1)))[one]
    dof[one] = runs[one] - 1
    notes[one] += "within-session interval: one session says nothing of the next; "
    bare = (sessions == 1) & (runs == 1)
    if noise is not None:
        relative_se[bare] = noise
        notes[bare] += f"noise of {noise:.2%} assumed: no repeat; "
    else:
        notes[bare] += "no repeat, so no interval; "
    return relative_se, dof, notes


def _add_intervals(
    table: pd.DataFrame, relative_se: np.ndarray, dof: np.ndarray, gain: float, level: float
) -> None:
    energy = table["energy_wh"].to_numpy()
    half = energy * relative_se * stats.t.ppf((1 + level) / 2, dof)
    table["repeatability_low"], table["repeatability_high"] = np.maximum(energy - half, 0.0), energy + half
    expanded = np.hypot(half, energy * gain)
    table["expanded_low"], table["expanded_high"] = np.maximum(energy - expanded, 0.0), energy + expanded


def _board_shares(boards: pd.DataFrame, rows: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the share of each model's sessions on each board, and whether all ran on one."""
    part = boards[boards["row"].isin(rows)]
    if part["board"].nunique() < 2:
        return np.ones((len(rows), 1)), True
    shares = part.pivot(index="row", columns="board", values="share").reindex(rows).fillna(0.0)
    return shares.to_numpy(), False


def _notes(summary: Summary, notes: np.ndarray) -> pd.Series:
    models = summary.models
    lost = models["lost"].to_numpy()
    for row in np.flatnonzero(lost):
        of = lost[row] + models["sessions"].to_numpy()[row]
        notes[row] += f"{lost[row]} of {of} sessions unavailable; "
    unclassed = ~models["classed"].to_numpy()
    notes[unclassed] += "not rated: no model class among models that have one; "
    return pd.Series(notes).str.removesuffix("; ")
