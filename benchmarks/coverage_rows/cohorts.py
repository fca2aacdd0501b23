"""Rows on sessions of known spread, and on a cohort that is measured until its stars are decided."""

from __future__ import annotations

import numpy as np

from coverage_rows import autoregressive, row
from energylab.energy import Group
from energylab.ratings.schemes import EqualWidth, count_stars
from energylab.statistics.anytime import anytime_terms
from energylab.statistics.cohort_stop import judge, measure_next, split_error
from energylab.statistics.evidence import Evidence, Part
from energylab.statistics.sessions import KNOWN_DF, known_half_width, known_ratio, spread_bound

SESSIONS = 60
SPREAD = 0.02


def held(deviation: np.ndarray, spread) -> np.ndarray:
    """Whether the interval of the mean held after every session; one row of deviations a simulation."""
    number = np.arange(1, deviation.shape[1] + 1)
    half = known_half_width(number, np.asarray(spread).reshape(-1, 1), 0.95)
    return np.all(np.abs(np.cumsum(deviation, axis=1) / number) <= half, axis=1)


@row("sessions of known spread", f"looked at after each of {SESSIONS}", "at least 95 %")
def _(rng, count):
    return held(SPREAD * rng.standard_normal((count, SESSIONS)), SPREAD)


@row("sessions of known spread", "the spread bounded by 40 earlier sessions", "at least 95 %")
def _(rng, count):
    seen = SPREAD * np.sqrt(rng.chisquare(39, count) / 39)
    return held(SPREAD * rng.standard_normal((count, SESSIONS)), spread_bound(seen, 40))


@row("sessions of known spread", "the spread taken for half of what it is")
def _(rng, count):
    return held(SPREAD * rng.standard_normal((count, SESSIONS)), SPREAD / 2)


@row("sessions of known spread", "neighbours correlated by 0.5")
def _(rng, count):
    return held(SPREAD * autoregressive(rng, count, SESSIONS, 0.5), SPREAD)


@row("joint evidence", "difference of two models, the wider one measured next, 100 looks", "at least 95 %")
def _(rng, count):
    deviation = np.cumsum(0.1 * rng.standard_normal((count, 2, 100)), axis=2) / np.arange(1, 101)
    look, right = np.zeros((count, 2), int), np.ones(count, bool)
    for _ in range(100):
        mean = np.take_along_axis(deviation, look[..., None], 2)[..., 0]
        part = Part(0.1 / np.sqrt(look + 1.0), np.full(look.shape, KNOWN_DF), known_ratio(look + 1.0, 0.95))
        evidence = Evidence(mean, (part,))
        half = evidence.half_width(0.05, evidence.price[:, ::-1])
        right &= np.abs(mean[:, 0] - mean[:, 1]) <= np.hypot(half[:, 0], half[:, 1])
        look[np.arange(count), np.abs(mean).argmax(axis=1)] += 1  # a choice that looks at the errors themselves
        look = np.minimum(look, 99)
    return right


@row("stars of a cohort", "6 models measured together until decided, 40 runs of a finite set", "at least 95 %")
def _(rng, count):
    return [each for start in range(0, count, 1000) for each in cohorts(rng, min(1000, count - start))]


def cohorts(rng, count: int, models: int = 6, runs: int = 40) -> np.ndarray:
    """Whether a star chosen at random beforehand is among those left when the rule ends, one a cohort."""
    truth = np.exp(rng.uniform(0, 1.5, (count, models, 1)))
    query = 1 + 0.2 * rng.standard_normal((count, models, runs))
    energy = truth * query / query.mean(axis=2, keepdims=True)
    energy *= 1 + SPREAD * rng.standard_normal(energy.shape)
    terms = anytime_terms(energy, level=0.99, tuned_windows=12, population_windows=runs, sampling_share=1.0)
    number = np.broadcast_to(np.arange(1.0, runs + 1), energy.shape)
    known = terms.mean * SPREAD / np.sqrt(number)
    every = (
        terms.mean,
        terms.error,
        number - 1,
        np.broadcast_to(terms.ratio, energy.shape),
        known,
        known_ratio(number, 0.99),
    )
    look, open_ = np.full((count, models), 5), np.ones((count, models), bool)
    fewest, most = np.ones_like(look), np.full_like(look, 5)
    levels = split_error(0.95, models)
    while True:
        mean, error, df, ratio, spread, weight = (np.take_along_axis(e, look[..., None], 2)[..., 0] for e in every)
        parts = Part(error, df, ratio), Part(spread, np.full_like(spread, KNOWN_DF), weight)
        verdict = judge(Evidence(mean, parts), levels)
        fewest, most = np.where(open_, verdict.fewest, fewest), np.where(open_, verdict.most, most)
        open_ &= ~verdict.decided
        go = measure_next(verdict, open_, look < runs - 1)
        if not go.any():
            break
        look = look + go
    stars = count_stars(truth[..., 0], EqualWidth()(truth[..., 0], Group("any")))
    chosen = np.arange(count), rng.integers(models, size=count)
    return ((fewest <= stars) & (stars <= most))[chosen]
