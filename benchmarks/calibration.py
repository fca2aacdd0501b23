"""Do star probabilities, orders and ranks mean what they say: of what is called with 80-99 %, how much is right?

    python benchmarks/calibration.py                # full size, about an hour of processor time
    python benchmarks/calibration.py --size 0.05    # a twentieth of them

Every cohort is simulated anew from true energies, each model is measured in three sessions of a stated spread (nobody
tells the rating), and `energylab.rate` learns the spread. A shown star is called with its probability and right when it
is the star of the true energies; a pair of neighbours is called with the probability of its order; the ranges of all
ranks of a cohort are right when every true rank is inside. Goals: what is called with 80 to 99 % is right as often
within 3 points; all ranks at once in at least 94 % of the cohorts. Exits 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from energylab import published
from energylab.ratings import rate
from energylab.ratings.schemes import EqualWidth, count_stars
from energylab.ratings.stability import shown_probability

SEED, SESSIONS, DRAWS, AT_ONCE = 20251130, 3, 1000, 200
LOW, HIGH, GOAL, RANKS_GOAL = 0.80, 0.99, 0.03, 0.94
BINS = (0.5, 0.8, 0.9, 0.95, 0.99)

_TABLE = published.load()
GROUPS = [part["energy_wh"].to_numpy() for _, part in _TABLE.groupby(["task", "model_class"], dropna=False)]


def crowded(low: int, high: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Return a world with so many models within 0.5 % at either end, and a dozen and a half anywhere between."""

    def world(rng: np.random.Generator) -> np.ndarray:
        bottom, top = 10 * rng.uniform(1, 1.005, low), 100 * rng.uniform(0.995, 1, high)
        return np.concatenate([bottom, rng.uniform(15, 80, 18), top])

    return world


def like_published(rng: np.random.Generator) -> np.ndarray:
    """Draw as many energies as a published group has, from a kernel density of their logarithms (Silverman's width)."""
    logs = np.log(GROUPS[rng.integers(len(GROUPS))])
    quartiles = np.subtract(*np.percentile(logs, [75, 25]))
    width = 0.9 * min(logs.std(ddof=1), quartiles / 1.34) * logs.size**-0.2
    return np.exp(rng.choice(logs, logs.size) + width * rng.standard_normal(logs.size))


#: Cohorts of a row at full size: enough for thousands of calls where bands are crowded.
COHORTS = 10_000

#: Name, world, spread between sessions, how much that differs between models (sd of its logarithm).
ROWS = (
    ("12 at the top", crowded(1, 12), 0.05, 0.0),
    ("12 at the bottom", crowded(12, 1), 0.05, 0.0),
    ("12 at both ends", crowded(12, 12), 0.05, 0.0),
    ("clear ends", crowded(1, 1), 0.05, 0.0),
    ("as published", like_published, 0.002, 0.0),
    ("as published", like_published, 0.01, 0.0),
    ("as published", like_published, 0.02, 0.0),
    ("as published", like_published, 0.05, 0.0),
    ("as published, uneven", like_published, 0.02, 0.5),
)


def measured(rng: np.random.Generator, truths: list[np.ndarray], cv: float, uneven: float) -> pd.DataFrame:
    """Return a tidy table: every model of every cohort in `SESSIONS` sessions."""
    truth = np.concatenate(truths)
    own = cv * np.exp(uneven * rng.standard_normal(truth.size) - uneven**2)  # mean square stays cv²
    seen = truth[:, None] * np.exp(own[:, None] * rng.standard_normal((truth.size, SESSIONS)))
    cohort = np.repeat(np.arange(len(truths)), [each.size for each in truths])
    columns = {"cohort": cohort.astype(str), "model": np.arange(truth.size)}
    table = pd.DataFrame({name: np.repeat(values, SESSIONS) for name, values in columns.items()})
    session = np.tile(np.arange(SESSIONS), truth.size)
    return table.assign(task="t", session=session, energy_j=seen.ravel() * 3600, queries=1000, energy_kind="simulated")


def simulate(at: int, cohorts: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return calls of stars and of orders, as rows of probability and whether right, and the share of ranks covered."""
    _, world, cv, uneven = ROWS[at]
    rng = np.random.default_rng([SEED, at])
    stars, pairs, covered = [], [], []
    for start in range(0, cohorts, AT_ONCE):
        truths = [world(rng) for _ in range(min(AT_ONCE, cohorts - start))]
        rated = rate(measured(rng, truths, cv, uneven), gain=0.0, draws=DRAWS, seed=start)
        every = np.concatenate(truths)
        right = np.concatenate([count_stars(each, EqualWidth()(each, None)) for each in truths])
        rank = np.concatenate([each.argsort().argsort() + 1 for each in truths])
        rated = rated.assign(truth=every[rated["model"]], right=right[rated["model"]], true_rank=rank[rated["model"]])
        inside = rated["true_rank"].between(rated["rank_low"], rated["rank_high"])
        covered += inside.groupby(rated["cohort"]).all().tolist()
        pairs.append(np.column_stack([rated["p_next"], rated["truth"] < rated["truth"].shift(-1)])[rated["p_next"] > 0])
        shown = rated.dropna(subset=["stars", "p_star_1"])
        stars.append(np.column_stack([shown_probability(shown), shown["stars"] == shown["right"]]).astype(float))
    return np.concatenate(stars), np.concatenate(pairs).astype(float), float(np.mean(covered))


def within(calls: np.ndarray, low: float, high: float) -> str:
    """Return called and right, in per cent, and how many, of the calls between two probabilities."""
    part = calls[(calls[:, 0] >= low) & (calls[:, 0] < high)]
    called, right = 100 * part.mean(axis=0) if len(part) else (np.nan, np.nan)
    return f"{called:.1f}>{right:.1f} ({len(part)})"


def row(at: int, size: float) -> bool:
    """Print one row; return whether its goals are met."""
    name, _, cv, _ = ROWS[at]
    cohorts = max(1, round(COHORTS * size))
    stars, pairs, covered = simulate(at, cohorts)
    met = covered >= RANKS_GOAL
    for what, calls in (("stars", stars), ("orders", pairs)):
        part = calls[(calls[:, 0] >= LOW) & (calls[:, 0] < HIGH)]
        gap = float(np.subtract(*part.mean(axis=0)[::-1])) if len(part) else 0.0
        met &= abs(gap) <= GOAL
        bins = "  ".join(within(calls, *edges) for edges in zip(BINS[:-1], BINS[1:], strict=True))
        print(f"{name:<22} {100 * cv:>4g} %  {what:<6} {100 * gap:>+6.2f} ({len(part)})   {bins}", flush=True)
    verdict = "met" if met else "MISSED"
    print(f"{'':<30}  {cohorts} cohorts, ranks all inside in {100 * covered:.1f} %   {verdict}", flush=True)
    return met


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of the full number of cohorts")
    parser.add_argument("--row", type=int, choices=range(len(ROWS)), help="one row alone, by its number from 0")
    options, began = parser.parse_args(arguments), time.perf_counter()
    print(f"Simulated: {SESSIONS} sessions a model, {DRAWS} redraws, seed {SEED}")
    print(f"cohort, spread, points right above called (calls with {LOW:.0%}-{HIGH:.0%}), then called > right by bin")
    rows = range(len(ROWS)) if options.row is None else [options.row]
    missed = sum(not row(at, options.size) for at in rows)
    print(f"{time.perf_counter() - began:.0f} s; rows that miss a goal: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
