"""What moves a star: noise, the board, a model that leaves or joins, and how near the edge it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import optimize

from energylab.errors import ParameterError
from energylab.ratings.cohorts import summarise
from energylab.ratings.probabilities import star_probabilities
from energylab.ratings.schemes import Scheme, count_stars, get_scheme
from energylab.ratings.stars import PROBABILITIES, Peers, check_options, peer_groups
from energylab.ratings.uncertainty import stated

#: A star with at least this probability is called sure.
SURE = 0.95


def sureness(stars: pd.DataFrame) -> pd.DataFrame:
    """Say how sure the stars of each group are.

    Parameters
    ----------
    stars : pandas.DataFrame
        From `rate`, with probabilities.

    Returns
    -------
    pandas.DataFrame
        One row per group and a last one for all: ``task, model_class, models`` (with a star), ``unsure`` (shown star
        below a probability of `SURE`), ``expected_wrong`` (sum of the probabilities that the shown star is not the
        true one), ``least_sure``, ``p_least``.

    Raises
    ------
    ParameterError
        If no star has a probability.
    """
    shown = stars[stars["stars"].notna() & stars["p_star_1"].notna()]
    if shown.empty:
        raise ParameterError("no star has a probability: repeat the sessions, or rate with noise=0.01 for 1 %")
    p = shown[list(PROBABILITIES)].to_numpy()[np.arange(len(shown)), shown["stars"].to_numpy(dtype=int) - 1]
    shown = shown.assign(p_shown=p)
    keys = ["cohort", "task", "model_class"]
    rows = [_sureness_of(part) for _, part in shown.groupby(keys, dropna=False, sort=False)]
    total = {**_sureness_of(shown), "task": "all", "model_class": pd.NA}
    return pd.DataFrame([*rows, total]).astype({"model_class": "string"})


def _sureness_of(part: pd.DataFrame) -> dict[str, object]:
    least = part.loc[part["p_shown"].idxmin()]
    return {
        "task": part["task"].iloc[0],
        "model_class": part["model_class"].iloc[0],
        "models": len(part),
        "unsure": int((part["p_shown"] < SURE).sum()),
        "expected_wrong": float((1 - part["p_shown"]).sum()),
        "least_sure": least["model"],
        "p_least": float(least["p_shown"]),
    }


def under_noise(
    df: pd.DataFrame,
    noises: Sequence[float] = (0.001, 0.01, 0.02, 0.05),
    scheme: str | Scheme = "equal_width",
    *,
    gain: float = 0.0,
    own_boards: bool = False,
    draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask what a stated noise would do to each star, whatever the table knows of its own.

    Parameters
    ----------
    df, scheme, draws, seed
        As in `stars.rating`.
    noises : sequence of float
        Relative standard errors of every figure.
    gain : float, default 0.0
        Largest relative gain error of a board's sensor.
    own_boards : bool, default False
        Whether every model ran on a board of its own; otherwise all share one, and its gain moves no star of a
        relative scheme.

    Returns
    -------
    pandas.DataFrame
        One row per noise and model: ``noise, task, model_class, model, cohort, stars``, the probabilities, and
        ``p_flip``, the probability that the shown star is not the true one.

    Raises
    ------
    ParameterError, DataError, CohortError, UnknownNameError
        As `stars.rating`.
    """
    check_options(gain=gain, draws=draws)
    scheme, parts = get_scheme(scheme), []
    for peers, names, stars in _rated(df, scheme):
        for noise in noises:
            check_options(noise=noise)
            uncertainty = stated(peers.rows.size, noise, gain, own_boards)
            p = star_probabilities(peers.energies_wh, uncertainty, scheme, peers.group, draws, peers.rng(seed))
            part = _keys(peers, names).assign(stars=stars, **dict(zip(PROBABILITIES, p.T, strict=True)))
            parts.append(part.assign(noise=noise, p_flip=1 - p[np.arange(len(p)), stars - 1]))
    table = pd.concat(parts, ignore_index=True)
    return table[["noise", *(name for name in table if name != "noise")]]


def most_doubtful(swept: pd.DataFrame, most: int = 10) -> pd.DataFrame:
    """Return the models whose stars noise moves most.

    Parameters
    ----------
    swept : pandas.DataFrame
        From `under_noise`.
    most : int, default 10
        How many.

    Returns
    -------
    pandas.DataFrame
        ``task, model_class, model, stars`` and one column a noise (``0.1 %`` …) with ``p_flip``; the largest sum over
        all noises on top.
    """
    keys = ["task", "model_class", "model", "cohort", "stars"]
    wide = swept.assign(model_class=swept["model_class"].fillna("")).pivot(index=keys, columns="noise", values="p_flip")
    top = wide.loc[wide.sum(axis=1).sort_values(ascending=False, kind="stable").index[:most]].droplevel("cohort")
    top.columns = [f"{100 * noise:g} %" for noise in top.columns]
    return top.reset_index()


def leave_one_out(df: pd.DataFrame, scheme: str | Scheme = "equal_width") -> pd.DataFrame:
    """Leave out each model in turn, and count whose stars change: who holds up the scale?

    Parameters
    ----------
    df, scheme
        As in `stars.rating`.

    Returns
    -------
    pandas.DataFrame
        One row per model left out, in the order of `rate`: ``task, model_class, model, cohort, energy_wh, stars,
        others`` (models that remain), ``changed`` (of these, how many get another star), ``gained, lost`` (stars in
        all); missing where the others alone earn no stars.
    """
    scheme, parts = get_scheme(scheme), []
    for peers, names, stars in _rated(df, scheme):
        moved = np.concatenate([*_without_each(peers, scheme, stars)])
        changed = pd.arrays.IntegerArray(np.count_nonzero(moved, axis=1), np.isnan(moved).any(axis=1))
        part = _keys(peers, names).assign(energy_wh=peers.energies_wh, stars=stars, others=peers.rows.size - 1)
        gained, lost = (_whole(np.clip(sign * moved, 0, None).sum(axis=1)) for sign in (1, -1))
        parts.append(part.assign(changed=changed, gained=gained, lost=lost))
    return pd.concat(parts, ignore_index=True)


def _whole(counts: np.ndarray) -> pd.api.extensions.ExtensionArray:
    """Return counts as whole numbers, missing where NaN."""
    missing = np.isnan(counts)
    return pd.arrays.IntegerArray(np.where(missing, 0, counts).astype(np.int64), missing)


def _without_each(peers: Peers, scheme: Scheme, stars: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, for blocks of models left out, the change of every other model's stars; NaN where not rated."""
    models = peers.rows.size
    block = max(1, 2_000_000 // models)
    for start in range(0, models, block):
        left_out = np.arange(start, min(start + block, models))
        others = np.arange(models - 1) + (np.arange(models - 1) >= left_out[:, None])
        energies = peers.energies_wh[others]
        change = (count_stars(energies, scheme(energies, peers.group)) - stars[others]).astype(float)
        # Only equal energies, or a single one, can be refused: ask of those alone.
        refused = np.zeros(len(left_out), dtype=bool)
        for row in np.flatnonzero(energies.min(axis=1) == energies.max(axis=1)):
            refused[row] = bool(scheme.refusal(energies[row], peers.group))
        yield np.where(refused[:, None], np.nan, change)


def joins(
    df: pd.DataFrame, factors: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 5.0, 10.0), scheme: str | Scheme = "equal_width"
) -> pd.DataFrame:
    """Let one more model join each group, and count whose stars change though nothing was measured anew.

    Parameters
    ----------
    df, scheme
        As in `stars.rating`.
    factors : sequence of float
        Energy of the joining model, as a multiple of the group's highest.

    Returns
    -------
    pandas.DataFrame
        One row per factor and group: ``factor, task, model_class, cohort, models, changed, share``.

    Raises
    ------
    ParameterError
        If a factor is not a positive number.
    """
    scheme, rows = get_scheme(scheme), []
    if not all(np.isfinite(factor) and factor > 0 for factor in factors):
        raise ParameterError(f"factors={factors!r}: give positive multiples of the highest energy")
    for peers, names, stars in _rated(df, scheme):
        for factor in factors:
            joined = np.append(peers.energies_wh, factor * peers.energies_wh.max())
            after = count_stars(joined, scheme(joined, peers.group))[:-1]
            changed = int(np.count_nonzero(after != stars))
            key = _keys(peers, names).iloc[0][["task", "model_class", "cohort"]].to_dict()
            rows.append(
                {"factor": factor, **key, "models": len(stars), "changed": changed, "share": changed / len(stars)}
            )
    return pd.DataFrame(rows).astype({"model_class": "string"})


def margins(df: pd.DataFrame, scheme: str | Scheme = "equal_width") -> pd.DataFrame:
    """Say how near each model stands to the edge of its band, the bands held where they are.

    Returns
    -------
    pandas.DataFrame
        One row per model: ``task, model_class, model, cohort, energy_wh, stars, edge_wh`` (the nearest) and
        ``margin``: the relative change of its energy that reaches the edge, negative for one below it.
    """
    scheme, parts = get_scheme(scheme), []
    for peers, names, stars in _rated(df, scheme):
        edges = np.asarray(scheme(peers.energies_wh, peers.group))
        change = edges / peers.energies_wh[:, None] - 1
        nearest = np.abs(change).argmin(axis=1)
        part = _keys(peers, names).assign(energy_wh=peers.energies_wh, stars=stars, edge_wh=edges[nearest])
        parts.append(part.assign(margin=change[np.arange(len(change)), nearest]))
    return pd.concat(parts, ignore_index=True)


def resolvable_ratio(gain: float = 0.05, level: float = 0.95) -> float:
    """Return by what factor two figures from two boards must differ before their order is sure.

    With gains g uniform on ±gain, independent, two models of measured ratio q are in the right order with
    probability ``1 - ((1 + gain) - q (1 - gain))² / (8 q gain²)``.

    Parameters
    ----------
    gain : float, default 0.05
        Largest relative gain error of a board's sensor.
    level : float, default 0.95
        Probability that the order is right.

    Returns
    -------
    float
        The smallest such q; 1 without gain error.
    """
    check_options(gain=gain, level=level)
    if gain == 0:
        return 1.0
    low, high = 1 - gain, 1 + gain
    if level <= 0.5:
        raise ParameterError(f"level={level!r}: two equal figures are in the right order with probability 0.5 already")
    return float(optimize.brentq(lambda q: 1 - (high - q * low) ** 2 / (8 * q * gain**2) - level, 1.0, high / low))


def _rated(df: pd.DataFrame, scheme: Scheme) -> Iterator[tuple[Peers, np.ndarray, np.ndarray]]:
    """Yield every group that earns stars, with its models' names and stars."""
    summary = summarise(df)
    names = summary.models["model"].to_numpy(dtype=object)
    found = 0
    for peers in peer_groups(summary, None, 0.0):
        if peers.rows.size and not scheme.refusal(peers.energies_wh, peers.group):
            found += 1
            stars = count_stars(peers.energies_wh, scheme(peers.energies_wh, peers.group))
            yield peers, names[peers.rows], stars.astype(np.int64)
    if not found:
        raise ParameterError(f"no group of this table earns stars by {scheme.name}; see the notes of `rate`")


def _keys(peers: Peers, names: np.ndarray) -> pd.DataFrame:
    group = peers.group
    keys = {"task": group.task, "model_class": group.model_class or pd.NA, "model": names, "cohort": group.cohort}
    return pd.DataFrame(keys).astype({"task": "string", "model_class": "string", "cohort": "string"})
