"""How often what pages say of right answers, comparisons and ranks holds: coverage, wrong verdicts and power.

    python benchmarks/verdicts.py [--draws 4000]

Prints one row a situation. Truths, gains, sessions and queries are drawn anew in every draw; seeds are fixed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from release_builders import scored_record

from energylab.energy import model_energies
from energylab.ratings import rate
from energylab.ratings.equivalence import judge
from energylab.ratings.right_answers import of_energy
from energylab.statistics.uncertainty import gain_variance
from energylab.table import record_rows, tidy_frame

GAIN, QUERIES_A_BLOCK, RATED_AT_ONCE = 0.05, 8, 200

#: Queries, CV between sessions, how far a right answer raises its energy, sessions.
ANSWERS = ((120, 0.01, 1.0, 3), (400, 0.01, 0.0, 3), (120, 0.03, -0.5, 5))

#: Sessions of each set, their CV, true ratio, boards of A and B.
COMPARED = ((3, 0.01, 1.0, "x"), (3, 0.01, 1.03, "x"), (5, 0.02, 1.0, "x"), (5, 0.02, 1.03, "x"), (5, 0.01, 1.0, "xy"))

#: Models, CV between sessions, ratio between neighbours, sessions.
RANKED = ((20, 0.01, 1.0, 3), (20, 0.02, 1.02, 3), (5, 0.02, 1.0, 2), (40, 0.01, 1.005, 5))


def covered(rng: np.random.Generator, draws: int, queries: int, cv: float, link: float, sessions: int) -> float:
    """Return the share of intervals that hold the energy of right answers; `link` ties energy to the answer."""
    truth, held = 1.1 * (1 + link * 0.6) / 0.6 / 3.6, 0
    for start in range(0, draws, RATED_AT_ONCE):
        groups = []
        for _ in range(min(RATED_AT_ONCE, draws - start)):
            right = rng.random(queries) < 0.6
            joules = (1.0 + link * right) * (1 + 0.2 * rng.random(queries)) * (1 + rng.uniform(-GAIN, GAIN))
            seen = [joules * (1 + cv * rng.standard_normal()) for _ in range(sessions)]
            groups.append([scored_record(each, right, n, QUERIES_A_BLOCK) for n, each in enumerate(seen)])
        rows = [[row for record in group for row in record_rows(record)] for group in groups]
        cohort = np.repeat(np.arange(len(groups)), [len(each) for each in rows]).astype(str)
        found = model_energies(tidy_frame([row for each in rows for row in each]).assign(cohort=cohort))
        of_group = {each.cohort: row for each, (_, row) in zip(found.groups, found.models.iterrows(), strict=True)}
        answers = [of_energy(of_group[str(at)], group) for at, group in enumerate(groups)]
        held += sum(each.low <= truth <= each.high for each in answers)
    return held / draws


def verdicts(rng: np.random.Generator, draws: int, sessions: int, cv: float, ratio: float, boards: str) -> Counter:
    """Count the verdicts of pairs of sets of which B truly needs `ratio` times what A needs."""
    counted: Counter = Counter()
    for start in range(0, draws, RATED_AT_ONCE):
        pairs = min(RATED_AT_ONCE, draws - start)
        gains = 1 + rng.uniform(-GAIN, GAIN, (pairs, 2, 1))
        gains = gains if len(boards) > 1 else gains[:, :1]
        energies = np.array([[1.0], [ratio]]) * gains * (1 + cv * rng.standard_normal((pairs, 2, sessions)))
        table = _table(energies)
        found = model_energies(table.assign(board=np.where(table["model"] == 0, boards[0], boards[-1])), gain=GAIN)
        unshared = gain_variance(GAIN) * (2.0 if len(boards) > 1 else 0.0)
        for _, rows in found.models.sort_values("model").groupby("group"):
            counted[judge(rows, unshared, 0.03, 0.05, "simulated").verdict] += 1
    return counted


def _table(energies: np.ndarray) -> pd.DataFrame:
    """Return energies of so many cohorts, models and sessions as a tidy table."""
    cohort, model, session = (each.ravel() for each in np.indices(energies.shape))
    table = pd.DataFrame({"cohort": cohort.astype(str), "model": model, "session": np.arange(session.size)})
    return table.assign(task="t", queries=1, energy_kind="simulated", energy_j=energies.ravel())


def ranks_inside(rng: np.random.Generator, draws: int, models: int, cv: float, ratio: float, sessions: int) -> float:
    """Return the share of cohorts whose ranges hold every rank; models that truly tie may have any of their ranks."""
    truth = ratio ** np.arange(models)
    lowest = truth.searchsorted(truth, side="left") + 1
    highest = truth.searchsorted(truth, side="right")
    inside = []
    for start in range(0, draws, RATED_AT_ONCE):
        cohorts = min(RATED_AT_ONCE, draws - start)
        seen = truth[:, None] * (1 + cv * rng.standard_normal((cohorts, models, sessions)))
        rated = rate(_table(seen), gain=0.0, draws=0)
        at = rated["model"].to_numpy(int)
        holds = (rated["rank_low"] <= lowest[at]) & (rated["rank_high"] >= highest[at])
        inside += holds.groupby(rated["cohort"]).all().tolist()
    return float(np.mean(inside))


def main() -> None:
    """Print every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    print("energy of right answers: share of 95 % intervals that hold the truth")
    for seed, (queries, cv, link, sessions) in enumerate(ANSWERS):
        share = covered(np.random.default_rng(seed), draws, queries, cv, link, sessions)
        print(f"  {queries} queries, CV {cv:.0%}, link {link:+.1f}, {sessions} sessions: {share:.1%}", flush=True)
    print("comparisons at a margin of 3 % and a false-alarm rate of 5 %: share of each verdict")
    for seed, (sessions, cv, ratio, boards) in enumerate(COMPARED, start=100):
        counted = verdicts(np.random.default_rng(seed), draws, sessions, cv, ratio, boards)
        shown = ", ".join(f"{name} {count / draws:.1%}" for name, count in counted.most_common())
        print(f"  {sessions} sessions, CV {cv:.0%}, B/A {ratio:.2f}, boards {boards}: {shown}", flush=True)
    print("ranks: share of cohorts whose 95 % ranges hold all of its ranks, a tie's every rank included")
    for seed, (models, cv, ratio, sessions) in enumerate(RANKED, start=200):
        share = ranks_inside(np.random.default_rng(seed), draws, models, cv, ratio, sessions)
        print(f"  {models} models {ratio - 1:.1%} apart, CV {cv:.0%}, {sessions} sessions: {share:.1%}", flush=True)


if __name__ == "__main__":
    main()
