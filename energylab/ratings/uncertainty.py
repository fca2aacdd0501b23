"""How far each model's figure may be from its true energy, learnt from repeats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special, stats

from energylab.ratings.cohorts import Summary
from energylab.statistics.uncertainty import SESSIONS_WANTED, combined_half_width

#: Degrees of freedom of a stated, not estimated, spread: as good as normal.
STATED_DF = 1e6

#: Said where a model has so few sessions that its own interval is far wider than what the probabilities rest on.
POOLED = "each interval rests on its model's own sessions, star probabilities on the scatter of the whole group"


@dataclass(frozen=True)
class Uncertainty:
    """Relative uncertainty of the models of one group.

    Attributes
    ----------
    relative_se : ndarray, shape (models,)
        Relative standard error of each energy.
    df : ndarray, shape (models,)
        Degrees of freedom it is known with.
    boards : ndarray, shape (models, boards)
        Share of each model's sessions on each board; rows sum to 1.
    gain : float
        Largest relative gain error of a board's sensor, in either direction.
    """

    relative_se: np.ndarray
    df: np.ndarray
    boards: np.ndarray
    gain: float = 0.0


def stated(models: int, noise: float, gain: float = 0.0, own_boards: bool = False) -> Uncertainty:
    """Return the same stated relative standard error for all models.

    Parameters
    ----------
    models : int
        How many.
    noise : float
        Relative standard error of each figure.
    gain : float, default 0.0
        Largest relative gain error of a board's sensor.
    own_boards : bool, default False
        Whether every model ran on a board of its own, or all on one.
    """
    boards = np.eye(models) if own_boards else np.ones((models, 1))
    return Uncertainty(np.full(models, float(noise)), np.full(models, STATED_DF), boards, gain)


def learn(summary: Summary, rows: np.ndarray, noise: float | None, gain: float) -> tuple[Uncertainty | None, str]:
    """Learn a group's uncertainty from its own repeats.

    With two sessions of some model, from the spread between sessions; otherwise from the spread between the runs of
    single sessions; otherwise `noise` is taken. Variances of few repeats are themselves uncertain, so each is
    drawn towards the group's by `moderate`; a model without a repeat takes the group's.

    Parameters
    ----------
    summary : Summary
        All models.
    rows : ndarray of int, shape (models,)
        The group's, as rows of ``summary.models``; all have an energy.
    noise : float or None
        Relative standard error to assume where nothing was repeated.
    gain : float
        Largest relative gain error of a board's sensor.

    Returns
    -------
    Uncertainty or None
        None when nothing was repeated and no noise is stated.
    str
        What a reader must know; empty when the spread is that between sessions of every model, and each has enough.
    """
    models = summary.models.iloc[rows]
    sessions, runs = models["sessions"].to_numpy(), models["runs"].to_numpy()
    boards = _board_shares(summary.boards, rows)
    if (sessions > 1).any():
        relative, count = models["session_sd_wh"] / models["energy_wh"], sessions
        note = POOLED if len(rows) > 1 and ((sessions > 1) & (sessions < SESSIONS_WANTED)).any() else ""
    elif (runs > 1).any():
        relative, count = models["run_sd_wh"] / models["energy_wh"], runs
        note = "probabilities from the spread within a session"
    elif noise is not None:
        everyone = np.full(len(rows), float(noise)), np.full(len(rows), STATED_DF)
        return Uncertainty(*everyone, boards, gain), f"noise of {100 * noise:.3g} % assumed"
    else:
        return None, "no repeat: no interval"
    variance, df = moderate(relative.to_numpy() ** 2, count - 1)
    return Uncertainty(np.sqrt(variance / count), df, boards, gain), note


def moderate(variance: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw variances that rest on few repeats towards their common value (empirical Bayes).

    True variances are taken to scatter like ``d0 · s0² / chi²(d0)``; d0 and s0² are found from the mean and the
    variance of the logarithms of the estimates. Each becomes ``(d0 · s0² + d · s²) / (d0 + d)`` with ``d0 + d``
    degrees of freedom, but no more than all estimates have together.

    Parameters
    ----------
    variance : ndarray, shape (models,)
        Estimated variances; any value where `df` is 0.
    df : ndarray, shape (models,)
        Degrees of freedom of each, at least one of them above 0.

    Returns
    -------
    variance, df : ndarray, shape (models,)

    References
    ----------
    Smyth (2004), Linear models and empirical Bayes methods for assessing differential expression in microarray
    experiments, Statistical Applications in Genetics and Molecular Biology 3, article 3, section 6.
    """
    has = df > 0
    pooled_df = float(df[has].sum())
    pooled = float((df[has] * variance[has]).sum() / pooled_df)
    prior_df, prior = _prior(variance[has], df[has], pooled)
    if np.isinf(prior_df):
        return np.full(len(df), pooled), np.full(len(df), pooled_df)
    own = np.where(has, variance, 0.0)
    return (prior_df * prior + df * own) / (prior_df + df), np.minimum(prior_df + df, pooled_df)


def _prior(variance: np.ndarray, df: np.ndarray, pooled: float) -> tuple[float, float]:
    """Return d0 (infinite when the estimates scatter no more than chance) and s0²."""
    if len(variance) < 2 or pooled == 0:
        return np.inf, pooled
    # Two equal repeats give a variance of 0, whose logarithm would say too much.
    logs = np.log(np.maximum(variance, 1e-5 * np.median(variance[variance > 0])))
    centred = logs - special.digamma(df / 2) + np.log(df / 2)
    excess = centred.var(ddof=1) - special.polygamma(1, df / 2).mean()
    if excess <= 0:
        return np.inf, pooled
    prior_df = 2 * _inverse_trigamma(excess)
    return prior_df, float(np.exp(centred.mean() + special.digamma(prior_df / 2) - np.log(prior_df / 2)))


def _inverse_trigamma(y: float) -> float:
    """Solve ``trigamma(x) = y`` for x > 0 by Newton's method on 1/trigamma, which is nearly straight."""
    x = 0.5 + 1 / y
    for _ in range(20):
        value = special.polygamma(1, x)
        x += value * (1 - value / y) / special.polygamma(2, x)
    return float(x)


def _board_shares(boards: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Return the share of each model's sessions on each board; one board when the table names none."""
    part = boards[boards["row"].isin(rows)]
    if part["board"].nunique() < 2:
        return np.ones((len(rows), 1))
    return part.pivot(index="row", columns="board", values="share").reindex(rows).fillna(0.0).to_numpy()


def intervals(models: pd.DataFrame, noise: float | None, gain: float, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative half-widths of both intervals of every model, each from its own repeats alone.

    The formulas are those of `statistics.uncertainty.mean_interval` and `statistics.uncertainty.expanded`, for all
    models at once.

    Parameters
    ----------
    models : pandas.DataFrame
        ``Summary.models``.
    noise : float or None
        Relative standard error of models without any repeat; None: their intervals are unknown.
    gain : float
        Largest relative gain error of a board's sensor.
    level : float
        Confidence level.

    Returns
    -------
    repeatability, expanded : ndarray, shape (models,)
        As a fraction of the energy; NaN where unknown.
    """
    sessions, runs = models["sessions"].to_numpy(), models["runs"].to_numpy()
    count = np.where(sessions > 1, sessions, runs)
    sd = np.where(sessions > 1, models["session_sd_wh"], models["run_sd_wh"]) / models["energy_wh"].to_numpy()
    bare = (sessions == 1) & (runs == 1)
    df = np.where(bare, STATED_DF, count - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        standard_error = np.where(bare, np.nan if noise is None else noise, sd / np.sqrt(count))
    half, expanded = np.full(len(models), np.nan), np.full(len(models), np.nan)
    known = ~np.isnan(standard_error)
    for each in np.unique(df[known]):
        part = np.flatnonzero(known & (df == each))
        values, back = np.unique(standard_error[part], return_inverse=True)
        half[part] = (stats.t.ppf(0.5 + level / 2, each) * values)[back]
        expanded[part] = combined_half_width(values, float(each), gain / np.sqrt(3), level)[0][back]
    return half, expanded


def interval_notes(models: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Return what a reader must know of each model's repeatability interval.

    Returns
    -------
    codes : ndarray of int, shape (models,)
        Which of the texts.
    texts : list of str
        The first is empty: nothing to say.
    """
    sessions, runs = models["sessions"].to_numpy(), models["runs"].to_numpy()
    codes = np.where((sessions > 1) & (sessions < SESSIONS_WANTED), sessions, 0)
    texts = ["", "within-session interval: one session says nothing of the next"]
    texts += [f"{few} sessions; at least {SESSIONS_WANTED} are wanted" for few in range(2, SESSIONS_WANTED)]
    return np.where((sessions == 1) & (runs > 1), 1, codes), texts
