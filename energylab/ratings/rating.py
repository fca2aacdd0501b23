"""Rate a tidy table: energies, two intervals, stars, and how sure each star and each rank is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from energylab.energy import Group, ModelEnergies, check_options, model_energies
from energylab.ratings.chances import Uncertainty, chances, rank_sets
from energylab.ratings.schemes import STARS, Bands, Scheme, count_stars, get_scheme, make_bands
from energylab.statistics.uncertainty import GAIN_ERROR

PROBABILITIES = tuple(f"p_star_{star}" for star in range(1, STARS + 1))
RANKS = ("rank", "rank_low", "rank_high")
INTERVALS = ("repeatability_low", "repeatability_high", "expanded_low", "expanded_high")

#: What a rating takes from `energylab.energy.ModelEnergies` of each model.
FIGURES = ("sessions", "boards", "energy_wh", *INTERVALS, "df", "spread")

#: A group with fewer models than this (two per number of stars) is called thin.
THIN = 2 * STARS

#: A star with at least this probability is called sure.
SURE = 0.95


@dataclass(frozen=True)
class Rating:
    """Result of `rate_with_bands`: the table of `rate`, and each group's bands in the order of the table."""

    stars: pd.DataFrame
    bands: tuple[Bands, ...]


@dataclass(frozen=True)
class RatedGroup:
    """The rated models of a group by ascending energy: rows in the table of stars, names, energies."""

    group: Group
    rows: np.ndarray
    names: np.ndarray
    energies_wh: np.ndarray
    uncertainty: Uncertainty | None  # None without repeats and stated noise

    def rng(self, seed: int) -> np.random.Generator:
        """Return the group's own random generator, so that results do not depend on other groups in the table."""
        key = repr((self.group.cohort, self.group.task, self.group.model_class))
        return np.random.default_rng([seed, zlib.crc32(key.encode())])


def rate(df: pd.DataFrame, scheme: str | Scheme = "equal_width", **options) -> pd.DataFrame:
    """Rate every model within its group, with probabilities of its stars.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table (`energylab.read`), or any table with ``task, model, energy_j, queries``.
    scheme : str or Scheme, default "equal_width"
        How bands are made: ``equal_width`` (as published), ``log_width``, ``quantiles``, ``reference`` (fixed
        bands of a file), your own ``module:Class`` or ``file.py:Class``, or a scheme object.
    **options
        ``noise, gain, draws, seed, level``: see `rate_with_bands`.

    Returns
    -------
    pandas.DataFrame
        One row per cohort, task, model class and model, sorted by these and energy:

        - ``task, model_class, model, cohort, energy_kind, sessions`` (complete ones), ``boards`` (number of boards);
        - ``energy_wh``: Wh per 1,000 queries; NaN if unavailable;
        - ``repeatability_low, repeatability_high, expanded_low, expanded_high``: the two intervals, in Wh, with ``df``,
          the degrees of freedom of the first, and ``spread``, its source (sessions, boards, other models of the group,
          a stated noise, runs); NaN without repeats. See `energylab.energy.model_energies`;
        - ``stars``: Int64, missing if not rated;
        - ``p_star_1 … p_star_5, expected_stars``: NaN without repeats and stated noise;
        - ``rank`` (1: lowest energy), ``rank_low, rank_high``: Int64; simultaneous confidence range of the ranks;
        - ``p_next``: probability that the model truly uses less energy than the next;
        - ``marks``: warnings of its sessions (busy host, truncated input, outputs that are not finite);
        - ``note``: why there is no star, what the intervals assume, whether the group is thin.

    Notes
    -----
    Rules for degenerate input:

    ==================================  =======================================================================
    input                               rule
    ==================================  =======================================================================
    one model in a group                energy, no star (a fixed scheme rates it)
    all energies of a group equal       energies, no stars (a fixed scheme rates them)
    NaN, or a row that is not valid     its session is unavailable; other sessions of the model are used
    no complete session                 the model has no energy and no star, and does not influence the bands
    interval reaches zero               energy, no star, and does not influence the bands
    infinite, zero or negative energy   refused: `DataError`
    unknown model class                 refused: `UnknownNameError`
    no class among classed models       energy, no star, and does not influence the bands
    two records of one model            two sessions: their mean is rated
    the same run and phase twice        refused: `DataError`
    rows that may not be compared       refused: `CohortError`
    energy within 1e-9 above an edge    counts as below it
    ==================================  =======================================================================
    """
    return rate_with_bands(df, scheme, **options).stars


def rate_with_bands(
    df: pd.DataFrame,
    scheme: str | Scheme = "equal_width",
    *,
    noise: float | None = None,
    gain: float = GAIN_ERROR,
    draws: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Rating:
    """Rate as `rate` does, and also return the bands of each group.

    Parameters
    ----------
    df, scheme
        As in `rate`.
    noise : float, optional
        Relative standard error assumed for figures without repeats (such as published tables). None: their intervals
        and probabilities are unknown.
    gain : float, default 0.05
        Largest relative gain error of a board's sensor, in either direction.
    draws : int, default 10,000
        Redraws of each group; 0 for stars without probabilities.
    seed : int, default 0
        Seed of the redraws.
    level : float, default 0.95
        Confidence level of the intervals and of the ranges of ranks.

    Raises
    ------
    DataError
        If the table lacks a column or holds an unusable row.
    CohortError
        If a group mixes rows that may not be compared.
    UnknownNameError, ParameterError
        If the scheme or a model class is not known, or an option is out of its range.
    """
    check_options(noise=noise, gain=gain, draws=draws, level=level)
    scheme = get_scheme(scheme)
    found = model_energies(df, noise=noise, gain=gain, level=level)
    table = _frame(found)
    stars = np.zeros(len(table), dtype=np.int64)  # 0 where there is none
    ranks = np.zeros((len(table), len(RANKS)), dtype=np.int64)
    probabilities, p_next = np.full((len(table), STARS), np.nan), np.full(len(table), np.nan)
    bands, group_notes = [], []
    for rated in rated_groups(found, gain):
        rows, made = rated.rows, make_bands(scheme, rated.group, rated.energies_wh)
        ranks[rows] = _ranks(rated, level)
        if not made.reason:
            stars[rows] = count_stars(rated.energies_wh, np.asarray(made.edges_wh))
            if draws and rated.uncertainty is not None:
                redrawn = chances(rated.energies_wh, rated.uncertainty, scheme, rated.group, draws, rated.rng(seed))
                probabilities[rows], p_next[rows] = redrawn
        bands.append(made)
        group_notes.append(_group_note(rated, made, scheme))
    table["stars"] = _whole(stars)
    table[list(PROBABILITIES)] = probabilities
    # A sum, not a matrix product: its rounding would depend on how many rows there are.
    table["expected_stars"] = (probabilities * np.arange(1, STARS + 1)).sum(axis=1)
    table[list(RANKS)] = pd.DataFrame({name: _whole(column) for name, column in zip(RANKS, ranks.T, strict=True)})
    table["p_next"] = p_next
    table["marks"] = _marks(df, table)
    table["note"] = _notes(found.models, group_notes)
    return Rating(table, tuple(bands))


def rated_groups(found: ModelEnergies, gain: float) -> Iterator[RatedGroup]:
    """Yield for each group the models that have an energy, an interval above zero and, if others have one, a class."""
    group, energy, names = (found.models[name].to_numpy() for name in ("group", "energy_wh", "model"))
    usable = ~np.isnan(energy) & found.models["classed"].to_numpy() & ~_reaches_zero(found.models)
    starts = np.searchsorted(group, np.arange(len(found.groups) + 1))
    for at, each in enumerate(found.groups):
        rows = np.arange(starts[at], starts[at + 1])
        rows = rows[usable[rows]]
        yield RatedGroup(each, rows, names[rows], energy[rows], _uncertainty(found, rows, gain))


def _reaches_zero(models: pd.DataFrame) -> np.ndarray:
    return (models["expanded_low"] <= 0).to_numpy()


def _uncertainty(found: ModelEnergies, rows: np.ndarray, gain: float) -> Uncertainty | None:
    """Return the uncertainty of the models of a group; None if it is unknown for one of them."""
    se, df = (found.models[name].to_numpy()[rows] for name in ("session_se", "session_df"))
    if not rows.size or np.isnan(se).any():
        return None
    part = found.boards[found.boards["row"].isin(rows)]
    if part["board"].nunique() < 2:
        return Uncertainty(se, df, np.ones((rows.size, 1)), gain)
    shares = part.pivot(index="row", columns="board", values="share").reindex(rows).fillna(0.0)
    return Uncertainty(se, df, shares.to_numpy(), gain)


def _frame(found: ModelEnergies) -> pd.DataFrame:
    """Return the columns of the table up to the energies."""
    of_row = found.models["group"].to_numpy()
    fields = {
        name: pd.array([getattr(group, name) for group in found.groups], dtype="string").take(of_row)
        for name in ("task", "model_class", "cohort", "energy_kind")
    }
    own = {name: found.models[name].array for name in ("model", *FIGURES)}
    order = ("task", "model_class", "model", "cohort", "energy_kind", *FIGURES)
    return pd.DataFrame({name: {**fields, **own}[name] for name in order}, copy=False)


def _ranks(rated: RatedGroup, level: float) -> np.ndarray:
    """Return the rank of each model and its range; a range of 0 if the uncertainty is unknown."""
    models = rated.rows.size
    ranks = np.zeros((models, len(RANKS)), dtype=np.int64)
    ranks[:, 0] = np.arange(1, models + 1)
    if rated.uncertainty is not None and models > 1:
        ranks[:, 1], ranks[:, 2] = rank_sets(rated.energies_wh, rated.uncertainty, level)
    return ranks


def _whole(counts: np.ndarray) -> pd.arrays.IntegerArray:
    """Return integers, with 0 as missing."""
    return pd.arrays.IntegerArray(np.maximum(counts, 1), counts == 0)


def _marks(df: pd.DataFrame, table: pd.DataFrame) -> pd.arrays.StringArray:
    """Return the warnings of each model's sessions, each once."""
    marks = pd.array([""], dtype="string").take(np.zeros(len(table), dtype=np.int64))
    marked = df[df["marks"].astype("string").fillna("") != ""] if "marks" in df else df.iloc[:0]
    keys = ["task", "model", *(["cohort"] if "cohort" in df else [])]
    for key, part in marked.groupby(keys, sort=False):
        same = np.all([(table[name] == value).to_numpy() for name, value in zip(keys, key, strict=True)], axis=0)
        texts = sorted({text.strip() for each in part["marks"] for text in each.split(",")})
        marks[same] = ", ".join(texts)
    return marks


def _group_note(rated: RatedGroup, bands: Bands, scheme: Scheme) -> str:
    models = rated.energies_wh.size
    thin = scheme.relative and not bands.reason and models < THIN
    return _join(bands.reason, f"thin group of {models} models: a star means little" if thin else "")


def _notes(models: pd.DataFrame, group_notes: list[str]) -> pd.arrays.StringArray:
    """Join each model's notes: why it is not rated, what its intervals assume, notes on its group."""
    own, texts = pd.factorize(models["note"])
    every = [_join(group, text) for group in group_notes for text in texts]
    notes = pd.array(every, dtype="string").take(models["group"].to_numpy() * len(texts) + own)
    sessions, classed, zero = models["sessions"].to_numpy(), models["classed"].to_numpy(), _reaches_zero(models)
    for row in np.flatnonzero((sessions == 0) | ~classed | zero):
        missing = "" if classed[row] else "not rated: no size class given"
        unsure = "not rated: its interval reaches zero; measure more sessions (`repeats`)" if zero[row] else ""
        gap = "" if sessions[row] else f"not rated: {models['note'].iloc[row]}"
        notes[row] = _join(gap, missing, unsure, models["note"].iloc[row] if sessions[row] else "")
    return notes


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
