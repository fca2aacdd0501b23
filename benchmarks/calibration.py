"""Do star probabilities mean what they say: of the stars called with 85-95 %, how many are right?

    python benchmarks/calibration.py                # full size, minutes on one core
    python benchmarks/calibration.py --size 0.05    # a twentieth of the cohorts

Every cohort is simulated anew: its size is that of a published group drawn at random, its true energies come from a
smoothed density of that group's published ones, each model is measured in three sessions whose relative spread is the
stated run CV (nobody tells the rating), and `energylab.rate` learns the spread and gives every star its probability.
A call is the most probable star of a model, with its probability; it is right when it is the star of the true
energies. Calls of one cohort share its extremes, so intervals are clustered by cohort: a Wilson interval at the
effective number of calls. Goal: the share right within 3 points of the mean probability called. For the fixed
published energies, where no density is drawn from, only the curve is printed. Exits 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rate_rows import PUBLISHED, clustered_wilson, true_stars

from energylab.ratings import rate
from energylab.ratings.rating import PROBABILITIES

SEED = 20250203
SESSIONS = 3
DRAWS = 2000
AT_ONCE = 400  # cohorts in one table
LOW, HIGH, GOAL = 0.85, 0.95, 0.03

#: Run CV, how much it differs between models (sd of its logarithm), cohorts at full size: rare calls need more.
ROWS = ((0.002, 0.0, 16_000), (0.01, 0.0, 9_000), (0.02, 0.0, 6_000), (0.05, 0.0, 3_000), (0.02, 0.5, 5_000))


@dataclass(frozen=True)
class Calls:
    """The calls of many cohorts: probability called, whether right, and whose cohort."""

    probability: np.ndarray
    right: np.ndarray
    cohort: np.ndarray

    def within(self, low: float, high: float) -> Calls:
        """Return the calls whose probability lies in [low, high)."""
        kept = (self.probability >= low) & (self.probability < high)
        return Calls(self.probability[kept], self.right[kept], self.cohort[kept])


def smoothed(rng: np.random.Generator, energies_wh: np.ndarray) -> np.ndarray:
    """Draw as many energies as given from a Gaussian kernel density of their logarithms (Silverman's width)."""
    logs = np.log(energies_wh)
    quartiles = np.subtract(*np.percentile(logs, [75, 25]))
    width = 0.9 * min(logs.std(ddof=1), quartiles / 1.34) * logs.size**-0.2
    return np.exp(rng.choice(logs, logs.size) + width * rng.standard_normal(logs.size))


def measured(rng: np.random.Generator, truths: list[np.ndarray], run_cv: float, uneven: float) -> pd.DataFrame:
    """Return a tidy table: every model of every cohort in `SESSIONS` sessions."""
    truth = np.concatenate(truths)
    cv = run_cv * np.exp(uneven * rng.standard_normal(truth.size) - uneven**2)  # mean square stays run_cv²
    seen = truth[:, None] * np.exp(cv[:, None] * rng.standard_normal((truth.size, SESSIONS)))
    cohort = np.repeat(np.arange(len(truths)), [each.size for each in truths])
    return pd.DataFrame(
        {
            "task": "summarization",
            "cohort": np.repeat(cohort, SESSIONS),
            "model": np.repeat(np.arange(truth.size), SESSIONS),
            "session": np.tile(np.arange(SESSIONS), truth.size),
            "energy_j": seen.ravel() * 3600,
            "queries": 1000,
            "energy_kind": "simulated",
        }
    )


def calls(rng: np.random.Generator, truths: list[np.ndarray], run_cv: float, uneven: float, seed: int) -> Calls:
    """Rate cohorts once each and compare with the truth."""
    stars = rate(measured(rng, truths, run_cv, uneven), gain=0.0, draws=DRAWS, seed=seed).sort_values("model")
    p = stars[list(PROBABILITIES)].to_numpy()
    truth = np.concatenate([true_stars(each) for each in truths])
    return Calls(p.max(axis=1), p.argmax(axis=1) + 1 == truth, stars["cohort"].astype(int).to_numpy())


def simulate(run_cv: float, uneven: float, cohorts: int, fixed: bool = False) -> Calls:
    """Simulate `cohorts` cohorts, `AT_ONCE` a table; `fixed` takes the published energies as they are."""
    rng = np.random.default_rng([SEED, round(run_cv * 1e6), round(uneven * 1e3), fixed])
    groups = list(PUBLISHED.values())
    parts = []
    for start in range(0, cohorts, AT_ONCE):
        chosen = [groups[i] for i in rng.integers(len(groups), size=min(AT_ONCE, cohorts - start))]
        truths = chosen if fixed else [smoothed(rng, each) for each in chosen]
        found = calls(rng, truths, run_cv, uneven, seed=start)
        parts.append(Calls(found.probability, found.right, found.cohort))
    return joined(parts)


def curve(found: Calls) -> str:
    """Return share right by probability called, as a line of text."""
    edges = [0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.01]
    cells = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        part = found.within(low, high)
        if part.right.size:
            cells.append(f"{100 * part.probability.mean():.1f}>{100 * part.right.mean():.1f} ({part.right.size})")
    return "  ".join(cells)


def joined(parts: list[Calls]) -> Calls:
    """Put calls together; cohorts of different parts stay different."""
    starts = np.cumsum([0] + [part.cohort.max() + 1 for part in parts[:-1]])
    moved = [Calls(part.probability, part.right, part.cohort + at) for part, at in zip(parts, starts, strict=True)]
    return Calls(*(np.concatenate([getattr(part, name) for part in moved]) for name in Calls.__annotations__))


def row(name: str, cohorts: int, found: Calls) -> bool:
    """Print one line of the table; return whether the goal is met."""
    part = found.within(LOW, HIGH)
    low, high = clustered_wilson(part.right, part.cohort)
    called, right = part.probability.mean(), part.right.mean()
    met = abs(right - called) <= GOAL
    shares = f"{part.right.size:>7} {100 * called:>6.2f} % {100 * right:>6.2f} %"
    wilson = f"{100 * low:.2f}-{100 * high:.2f} %"
    verdict = f"{'met' if met else 'MISSED'}: {100 * (right - called):+.2f}"
    print(f"{name:<18} {cohorts:>8} {shares}  {wilson:<22} {verdict}", flush=True)
    return bool(met)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of the full number of cohorts")
    size = parser.parse_args(arguments).size
    began, missed = time.perf_counter(), 0
    called = f"stars called with {LOW:.0%}-{HIGH:.0%}"
    print(f"Simulated: {called}, {SESSIONS} sessions a model, {DRAWS} redraws, seed {SEED}\n")
    columns = f"{'run CV':<18} {'cohorts':>8} {'calls':>7} {'called':>8} {'right':>8}"
    print(f"{columns}  {'95 % Wilson, clustered':<22} goal ±3 points")
    every = []
    for run_cv, uneven, cohorts in ROWS:
        count = max(1, round(cohorts * size))
        found = simulate(run_cv, uneven, count)
        name = f"{run_cv:.1%}" + (f", sd(log) {uneven:g}" if uneven else "")
        missed += not row(name, count, found)
        every.append((name, found))
    together = joined([found for _, found in every])
    missed += not row("all of them", together.cohort.max() + 1, together)
    curves = [(name, curve(found)) for name, found in every]
    print("\nCurves, called % > right % (calls):")
    for name, line in curves:
        print(f"  {name}: {line}")
    print("\nThe published energies as they are, curve only:")
    for run_cv in (0.01, 0.05):
        print(f"  {run_cv:.1%}: {curve(simulate(run_cv, 0.0, max(1, round(2500 * size)), fixed=True))}")
    print(f"\n{time.perf_counter() - began:.0f} s; goals missed: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
