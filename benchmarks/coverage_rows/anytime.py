"""Rows on intervals that are looked at after every window."""

from __future__ import annotations

import numpy as np
from scipy import stats

from coverage_rows import autoregressive, lognormal, row
from energylab.statistics.anytime import anytime_path
from energylab.statistics.decided import StarQuestion
from energylab.statistics.intervals import Interval
from energylab.statistics.repeats import Repeats
from energylab.statistics.sequential import StopRule

LOOKS = 200


@row("anytime-valid", f"looked at after each of {LOOKS} Gaussian windows", "at least 95 %")
def _(rng, count):
    return anytime_path(1 + 0.1 * rng.standard_normal((count, LOOKS))).covers(np.ones(count))


@row("anytime-valid", f"{LOOKS} windows, regression on a covariate", "at least 95 %")
def _(rng, count):
    x = rng.standard_normal((count, LOOKS))
    return anytime_path(1 + 0.3 * x + 0.1 * rng.standard_normal(x.shape), x).covers(np.ones(count))


@row("anytime-valid", "all 50 windows of a finite set of queries, with FPC", "at least 95 %")
def _(rng, count):
    y = 1 + 0.1 * rng.standard_normal((count, 50))
    return anytime_path(y, population_windows=50, sampling_share=1.0).covers(y.mean(axis=1))


@row("anytime-valid", "3 passes over 500 queries dealt anew to 50 windows, FPC for the queries' share", "at least 95 %")
def _(rng, count):
    query = 1 + 0.3 * rng.standard_normal((count, 500))
    passes = [rng.permuted(query, axis=1).reshape(count, 50, 10).mean(axis=2) for _ in range(3)]
    noise = 0.04 * rng.standard_normal((count, 150))
    share = 0.3**2 / 10 / (0.3**2 / 10 + 0.04**2)
    path = anytime_path(np.concatenate(passes, axis=1) + noise, population_windows=50, sampling_share=share)
    return path.covers(query.mean(axis=1))


def clusters(rng, count: int, cv: float) -> np.ndarray:
    """Means of 20 lognormal queries a window."""
    return np.stack([lognormal(rng, cv, (count, 20)).mean(axis=1) for _ in range(LOOKS)], axis=1)


@row("anytime-valid", f"{LOOKS} windows of 20 queries, lognormal of CV 0.5", "at least 95 %")
def _(rng, count):
    return from_look(anytime_path(clusters(rng, count, 0.5)), 5)


@row("anytime-valid", f"{LOOKS} windows of 20 queries, lognormal of CV 1")
def _(rng, count):
    return from_look(anytime_path(clusters(rng, count, 1.0)), 5)


def from_look(path, least: int) -> np.ndarray:
    """Coverage at every look from window number `least` on: `StopRule` does not stop before."""
    return ~np.any(np.abs(path.mean - 1)[:, least - 1 :] > path.half_width[:, least - 1 :], axis=1)


@row("anytime-valid", "stopped by a StopRule at ±5 %, windows of 20 queries of CV 0.3", "at least 95 %")
def _(rng, count):
    return [stopped_covers(1 + 0.3 / np.sqrt(20) * rng.standard_normal(LOOKS)) for _ in range(count)]


def stopped_covers(energy_per_query_j: np.ndarray) -> bool:
    rule = StopRule(0.05, max_windows=LOOKS)
    for energy_j in energy_per_query_j:
        decision = rule.update(20 * energy_j, 20)
        if decision.stop:
            return decision.interval.low <= 1 <= decision.interval.high
    raise RuntimeError("the rule did not stop at its cap")


@row("anytime-valid", "3 passes over 8 blocks of lognormal energies of CV 0.5, noise 2 %, unknown", "at least 95 %")
def _(rng, count):
    block = lognormal(rng, 0.5, (count, 1, 8))
    energy = block + 0.02 * rng.standard_normal((count, 3, 8))
    return [always_covers(energy[i], block[i].mean()) for i in range(count)]


def always_covers(energy_j: np.ndarray, truth: float) -> bool:
    """Whether the interval of repeated blocks held at every look; one query a block."""
    repeats = Repeats(energy_j.shape[1])
    for number, value in enumerate(energy_j.ravel()):
        repeats.take(number % energy_j.shape[1], value, 1)
        found = repeats.interval(0.05) if number >= energy_j.shape[1] else None
        if found and abs(found[0] - truth) > found[1]:
            return False
    return True


@row("star decided by an anytime-valid interval", "edges known, energies anywhere between them", "at least 95 %")
def _(rng, count):
    edges = np.array([0.9, 1.0, 1.1, 1.2])
    truth = rng.uniform(0.8, 1.3, count)
    path = anytime_path(truth[:, None] * (1 + 0.1 * rng.standard_normal((count, LOOKS))))
    return [decided_right(path.mean[i], path.half_width[i], edges, truth[i]) for i in range(count)]


def decided_right(mean, half_width, edges, truth) -> bool:
    """Whether the first star that is left is the true one; at the cap, whether the true one is among those left."""
    question = StarQuestion(edges, edges)
    low, high = mean - half_width, mean + half_width
    decided = np.searchsorted(edges, low) == np.searchsorted(edges, high)
    decided[:4] = False  # a StopRule does not stop before its fifth window
    at = int(np.argmax(decided)) if decided.any() else -1
    interval = Interval(mean[at], low[at], high[at], 0.95, LOOKS, "anytime-valid t", "within-session")
    true_stars = len(edges) + 1 - int(np.searchsorted(edges, truth))
    return true_stars in question.stars(interval)


@row("anytime-valid", f"{LOOKS} windows of 1 query, lognormal of CV 1")
def _(rng, count):
    return from_look(anytime_path(lognormal(rng, 1.0, (count, LOOKS))), 5)


@row("anytime-valid", f"{LOOKS} windows, neighbours correlated by 0.5")
def _(rng, count):
    return anytime_path(1 + 0.1 * autoregressive(rng, count, LOOKS, 0.5)).covers(np.ones(count))


@row("anytime-valid", f"{LOOKS} windows, warm-up decays from 5 % within 20 windows, noise 2 %")
def _(rng, count):
    warm_up = 0.05 * np.exp(-np.arange(LOOKS) / 20)
    return anytime_path(1 + warm_up + 0.02 * rng.standard_normal((count, LOOKS))).covers(np.ones(count))


@row("fixed-sample t, looked at after every window from the 5th", f"{LOOKS} Gaussian windows")
def _(rng, count):
    y = 1 + 0.1 * rng.standard_normal((count, LOOKS))
    n = np.arange(1, LOOKS + 1)
    mean = np.cumsum(y, axis=1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt((np.cumsum(y**2, axis=1) - n * mean**2) / (n - 1))
        held = np.abs(mean - 1) <= stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n)
    return held[:, 4:].all(axis=1)
