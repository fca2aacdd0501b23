"""Rate a tidy table: energies, two intervals, stars, and how sure each star and each rank is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from energylab.errors import ParameterError
from energylab.ratings.chances import chances, rank_sets
from energylab.ratings.cohorts import Group, Summary, summarise
from energylab.ratings.schemes import STARS, Bands, Scheme, count_stars, get_scheme, make_bands
from energylab.ratings.uncertainty import Uncertainty, interval_notes, intervals, learn

PROBABILITIES = tuple(f"p_star_{star}" for star in range(1, STARS + 1))
RANKS = ("rank", "rank_low", "rank_high")

#: A group with fewer models than this has fewer than two a star, and is said to be thin.
THIN = 2 * STARS

#: A star with at least this probability is called sure.
SURE = 0.95


@dataclass(frozen=True)
class Rating:
    """Stars (as returned by `rate`) and the bands they were read from, one a group, in the order of the table."""

    stars: pd.DataFrame
    bands: tuple[Bands, ...]


@dataclass(frozen=True)
class Peers:
    """The models of one group that take part in its scale.

    Attributes
    ----------
    group : Group
        What they share.
    rows : ndarray of int, shape (models,)
        Their rows in the table of stars.
    energies_wh : ndarray, shape (models,)
        Wh per 1,000 queries, ascending.
    uncertainty : Uncertainty or None
        None when nothing was repeated and no noise is stated.
    note : str
        What a reader must know of the uncertainty.
    """

    group: Group
    rows: np.ndarray
    energies_wh: np.ndarray
    uncertainty: Uncertainty | None
    note: str

    def rng(self, seed: int) -> np.random.Generator:
        """Return the group's own stream, so that other groups in the table change nothing."""
        key = repr((self.group.cohort, self.group.task, self.group.model_class))
        return np.random.default_rng([seed, zlib.crc32(key.encode())])


def rate(df: pd.DataFrame, scheme: str | Scheme = "equal_width", **options) -> pd.DataFrame:
    """Rate every model among its peers, and say how sure each star is.

    Parameters
    ----------
    df : pandas.DataFrame
        Tidy table (`energylab.read`), or any table with ``task, model, energy_j, queries``.
    scheme : str or Scheme, default "equal_width"
        How bands are made: ``equal_width`` (as published), ``log_width``, ``quantiles``, ``reference`` (fixed
        bands of a file), ``module:Class`` or ``file.py:Class`` of one's own, or a scheme object.
    **options
        ``noise, gain, draws, seed, level``: see `rating`.

    Returns
    -------
    pandas.DataFrame
        One row per cohort, task, model class and model, sorted by these and energy:

        - ``task, model_class, model, cohort, energy_kind, sessions`` (complete ones);
        - ``energy_wh``: mean over sessions, Wh per 1,000 queries; NaN when unavailable;
        - ``repeatability_low, repeatability_high, expanded_low, expanded_high``: the two intervals, in Wh, and ``df``,
          the degrees of freedom of the first; NaN when nothing was repeated;
        - ``stars``: Int64, missing when not rated;
        - ``p_star_1 … p_star_5, expected_stars``: NaN when nothing was repeated and no noise is stated;
        - ``rank`` (1 uses least), ``rank_low, rank_high``: Int64; a confidence set for all ranks of the group at once;
        - ``p_next``: probability that the model truly uses less than the next;
        - ``marks``: what was marked in its sessions (a busy host, truncated input, outputs that are not finite);
        - ``note``: why there is no star, what the intervals lack, whether the group is thin.

    Raises
    ------
    DataError, CohortError, UnknownNameError, ParameterError
        See `rating`.

    Notes
    -----
    What becomes of degenerate input:

    ==================================  =======================================================================
    input                               rule
    ==================================  =======================================================================
    one model in a group                energy, no star (a fixed scheme rates it)
    all energies of a group equal       energies, no stars (a fixed scheme rates them)
    NaN, or a row that is not valid     its session is unavailable; the model keeps its complete sessions
    no complete session                 the model has no energy and no star, and moves nobody's band
    interval reaches zero               energy, no star, and moves nobody's band
    infinite, zero or negative energy   refused: `DataError`
    unknown model class                 refused: `UnknownNameError`
    no class among classed models       energy, no star, and moves nobody's band
    two records of one model            two sessions: their mean is rated
    the same run and phase twice        refused: `DataError`
    what may not be compared            refused: `CohortError`
    energy within 1e-9 above an edge    counts as below it
    ==================================  =======================================================================
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
        Relative standard error to assume for figures without any repeat (published tables have none). None: their
        intervals and probabilities stay unknown.
    gain : float, default 0.05
        Largest relative gain error of a board's sensor, in either direction.
    draws : int, default 10,000
        Redraws of each group; 0 for stars without probabilities.
    seed : int, default 0
        Seed of the redraws.
    level : float, default 0.95
        Confidence level of the intervals and of the sets for ranks.

    Returns
    -------
    Rating
        Table and bands.

    Raises
    ------
    DataError
        If the table lacks a column or holds an unusable row.
    CohortError
        If a group mixes what may not be compared, or a fixed scheme does not hold for its device.
    UnknownNameError
        If the scheme or a model class is not known.
    ParameterError
        If an option is out of its range.
    """
    check_options(noise=noise, gain=gain, draws=draws, level=level)
    scheme = get_scheme(scheme)
    summary = summarise(df)
    table = _frame(summary, noise, gain, level)
    stars = np.zeros(len(table), dtype=np.int64)  # 0 where there is none
    ranks = np.zeros((len(table), len(RANKS)), dtype=np.int64)
    probabilities, p_next = np.full((len(table), STARS), np.nan), np.full(len(table), np.nan)
    bands, group_notes = [], []
    for peers in peer_groups(summary, table["expanded_low"].to_numpy(), noise, gain):
        rows, made = peers.rows, make_bands(scheme, peers.group, peers.energies_wh)
        ranks[rows] = _ranks(peers, level)
        if not made.reason:
            stars[rows] = count_stars(peers.energies_wh, np.asarray(made.edges_wh))
            if draws and peers.uncertainty is not None:
                found = chances(peers.energies_wh, peers.uncertainty, scheme, peers.group, draws, peers.rng(seed))
                probabilities[rows], p_next[rows] = found
        bands.append(made)
        group_notes.append(_group_note(peers, made, scheme))
    table["stars"] = _whole(stars)
    table[list(PROBABILITIES)] = probabilities
    # A sum, not a matrix product: its rounding would depend on how many rows there are.
    table["expected_stars"] = (probabilities * np.arange(1, STARS + 1)).sum(axis=1)
    table[list(RANKS)] = pd.DataFrame({name: _whole(column) for name, column in zip(RANKS, ranks.T, strict=True)})
    table["p_next"] = p_next
    table["marks"] = _marks(df, summary)
    table["note"] = _notes(summary.models, table["expanded_low"].to_numpy(), group_notes)
    return Rating(table, tuple(bands))


def check_options(*, noise: float | None = None, gain: float = 0.0, draws: int = 0, level: float = 0.95) -> None:
    """Refuse options out of their range: a ParameterError names the option, its value and what is allowed."""
    if noise is not None and not 0 <= noise < 1:
        raise ParameterError(f"noise={noise!r}: give a relative standard error from 0 up to 1, 0.01 for 1 %, or None")
    if not 0 <= gain < 1:
        raise ParameterError(f"gain={gain!r}: give a relative gain error from 0 up to 1, 0.05 for ±5 %")
    if draws < 0 or int(draws) != draws:
        raise ParameterError(f"draws={draws!r}: give a whole number, 0 for stars without probabilities")
    if not 0 < level < 1:
        raise ParameterError(f"level={level!r}: give a confidence level between 0 and 1, such as 0.95")


def peers_of(df: pd.DataFrame, noise: float | None = None, gain: float = 0.05) -> Iterator[tuple[Peers, np.ndarray]]:
    """Yield the models of each group that take part in its scale, and their names."""
    summary = summarise(df)
    names = summary.models["model"].to_numpy(dtype=object)
    low = _frame(summary, noise, gain, 0.95)["expanded_low"].to_numpy()
    for peers in peer_groups(summary, low, noise, gain):
        yield peers, names[peers.rows]


def peer_groups(summary: Summary, expanded_low: np.ndarray, noise: float | None, gain: float) -> Iterator[Peers]:
    """Yield the models of each group that have an energy above zero, and a class where the others have one."""
    group = summary.models["group"].to_numpy()
    usable = (summary.models["energy_wh"].notna() & summary.models["classed"]).to_numpy() & ~(expanded_low <= 0)
    starts = np.searchsorted(group, np.arange(len(summary.groups) + 1))
    for at, found in enumerate(summary.groups):
        rows = np.arange(starts[at], starts[at + 1])
        rows = rows[usable[rows]]
        uncertainty, note = learn(summary, rows, noise, gain) if rows.size else (None, "")
        yield Peers(found, rows, summary.models["energy_wh"].to_numpy()[rows], uncertainty, note)


def _frame(summary: Summary, noise: float | None, gain: float, level: float) -> pd.DataFrame:
    """Return the table as far as the energies."""
    groups, models = summary.groups, summary.models
    of_row = models["group"].to_numpy()
    energy = models["energy_wh"].to_numpy()

    def each(field: str) -> pd.api.extensions.ExtensionArray:
        return pd.array([getattr(group, field) for group in groups], dtype="string").take(of_row)

    half, expanded = intervals(models, noise, gain, level)
    return pd.DataFrame(
        {
            "task": each("task"),
            "model_class": each("model_class"),
            "model": models["model"].array,
            "cohort": each("cohort"),
            "energy_kind": each("energy_kind"),
            "sessions": models["sessions"].array,
            "energy_wh": energy,
            "repeatability_low": np.maximum(energy * (1 - half), 0.0),
            "repeatability_high": energy * (1 + half),
            "expanded_low": np.maximum(energy * (1 - expanded), 0.0),
            "expanded_high": energy * (1 + expanded),
            "df": _degrees_of_freedom(models),
        },
        copy=False,
    )


def _degrees_of_freedom(models: pd.DataFrame) -> np.ndarray:
    """Return those of the repeatability intervals; NaN where nothing was repeated."""
    sessions, runs = models["sessions"].to_numpy(), models["runs"].to_numpy()
    return np.select([sessions > 1, (sessions == 1) & (runs > 1)], [sessions - 1.0, runs - 1.0], np.nan)


def _ranks(peers: Peers, level: float) -> np.ndarray:
    """Return rank and its range of each model; a range of 0 where nobody knows the uncertainty."""
    models = peers.rows.size
    ranks = np.zeros((models, len(RANKS)), dtype=np.int64)
    ranks[:, 0] = np.arange(1, models + 1)
    if peers.uncertainty is not None and models > 1:
        ranks[:, 1], ranks[:, 2] = rank_sets(peers.energies_wh, peers.uncertainty, level)
    return ranks


def _whole(counts: np.ndarray) -> pd.arrays.IntegerArray:
    """Return whole numbers, missing where 0."""
    return pd.arrays.IntegerArray(np.maximum(counts, 1), counts == 0)


def _marks(df: pd.DataFrame, summary: Summary) -> pd.api.extensions.ExtensionArray:
    """Return what was marked in the sessions of each model, each once."""
    marks = pd.array([""], dtype="string").take(np.zeros(len(summary.models), dtype=np.int64))
    marked = df[df["marks"].astype("string").fillna("") != ""] if "marks" in df else df.iloc[:0]
    keys = ["task", "model", *(["cohort"] if "cohort" in df else [])]
    for key, part in marked.groupby(keys, sort=False):
        wanted = dict(zip(keys, key, strict=True))
        texts = sorted({text.strip() for each in part["marks"] for text in each.split(",")})
        same = summary.models["model"].to_numpy(dtype=object) == wanted["model"]
        for row in np.flatnonzero(same):
            group = summary.groups[summary.models["group"].iloc[row]]
            if group.task == wanted["task"] and group.cohort == wanted.get("cohort", group.cohort):
                marks[row] = ", ".join(texts)
    return marks


def _group_note(peers: Peers, bands: Bands, scheme: Scheme) -> str:
    models = peers.energies_wh.size
    thin = scheme.relative and not bands.reason and models < THIN
    return _join(bands.reason, peers.note, f"thin group of {models} models: a star means little" if thin else "")


def _notes(models: pd.DataFrame, expanded_low: np.ndarray, group_notes: list[str]) -> pd.arrays.StringArray:
    """Put each model's notes together: what it lacks itself, its interval's, its group's."""
    codes, texts = interval_notes(models)
    every = [_join(text, note) for note in group_notes for text in texts]
    notes = pd.array(every, dtype="string").take(models["group"].to_numpy() * len(texts) + codes)
    lost, sessions, classed = (models[name].to_numpy() for name in ("lost", "sessions", "classed"))
    zero = expanded_low <= 0
    for row in np.flatnonzero((lost > 0) | ~classed | zero):
        gap = f"{lost[row]} of {lost[row] + sessions[row]} sessions unavailable" if lost[row] else ""
        gap = f"not rated: {gap}" if not sessions[row] else gap
        missing = "" if classed[row] else "not rated: no size class given"
        unsure = "not rated: its interval reaches zero; repeat it" if zero[row] else ""
        notes[row] = _join(gap, missing, unsure, notes[row] if classed[row] else "")
    return notes


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
