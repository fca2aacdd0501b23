"""How often what pages say of right answers and of comparisons holds: coverage, false alarms and power, by simulation.

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

from energylab.ratings.equivalence import compare
from energylab.ratings.right_answers import per_right_answer

GAIN = 0.05

#: Queries, CV between sessions, how far a right answer raises its energy, sessions.
ANSWERS = ((120, 0.01, 1.0, 3), (400, 0.01, 0.0, 3), (120, 0.03, -0.5, 5))

#: Sessions of each set, their CV, true ratio, boards of A and B.
COMPARED = ((3, 0.01, 1.0, "x"), (3, 0.01, 1.03, "x"), (5, 0.02, 1.0, "x"), (5, 0.02, 1.03, "x"), (5, 0.01, 1.0, "xy"))


def covered(rng: np.random.Generator, queries: int, cv: float, link: float, sessions: int) -> bool:
    """Say whether one interval of the energy of right answers holds the truth; `link` ties energy to the answer."""
    right = rng.random(queries) < 0.6
    joules = (1.0 + link * right) * (1 + 0.2 * rng.random(queries)) * (1 + rng.uniform(-GAIN, GAIN))
    runs = [scored_record(joules * (1 + cv * rng.standard_normal()), right, number, 2) for number in range(sessions)]
    found = per_right_answer(runs)
    truth = 1.1 * (1 + link * 0.6) / 0.6 / 3.6
    return found.low <= truth <= found.high


def table(rng: np.random.Generator, mean_j: float, sessions: int, cv: float, board: str) -> pd.DataFrame:
    """Return sessions of one model on one board."""
    energies = mean_j * (1 + cv * rng.standard_normal(sessions)) * 100
    names = [f"{board}-{number}-{rng.integers(1 << 40)}" for number in range(sessions)]
    shared = {"task": "t", "model": "m", "queries": 100, "board": board, "cohort": "c", "energy_kind": "simulated"}
    return pd.DataFrame({"energy_j": energies, "session": names} | shared)


def verdicts(rng: np.random.Generator, draws: int, sessions: int, cv: float, ratio: float, boards: str) -> Counter:
    """Count the verdicts of comparisons in which B truly needs `ratio` times what A needs."""
    counted: Counter = Counter()
    for _ in range(draws):
        gains = {board: 1 + rng.uniform(-GAIN, GAIN) for board in boards}
        a = table(rng, 10 * gains[boards[0]], sessions, cv, boards[0])
        b = table(rng, 10 * ratio * gains[boards[-1]], sessions, cv, boards[-1])
        counted[compare(a, b).verdict] += 1
    return counted


def main() -> None:
    """Print every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    print("energy of right answers: share of 95 % intervals that hold the truth")
    for seed, (queries, cv, link, sessions) in enumerate(
        [(120, 0.01, 1.0, 3), (400, 0.01, 0.0, 3), (120, 0.03, -0.5, 5)]
    ):
        rng = np.random.default_rng(seed)
        share = sum(covered(rng, queries, cv, link, sessions) for _ in range(draws)) / draws
        print(f"  {queries} queries, CV {cv:.0%}, link {link:+.1f}, {sessions} sessions: {share:.1%}", flush=True)
    print("comparisons at a margin of 3 % and a false-alarm rate of 5 %: share of each verdict")
    situations = [
        (3, 0.01, 1.0, "x"),
        (3, 0.01, 1.03, "x"),
        (5, 0.02, 1.0, "x"),
        (5, 0.02, 1.03, "x"),
        (5, 0.01, 1.0, "xy"),
    ]
    for seed, (sessions, cv, ratio, boards) in enumerate(situations):
        counted = verdicts(np.random.default_rng(100 + seed), draws, sessions, cv, ratio, boards)
        shown = ", ".join(f"{name} {count / draws:.1%}" for name, count in counted.most_common())
        print(f"  {sessions} sessions, CV {cv:.0%}, B/A {ratio:.2f}, boards {boards}: {shown}", flush=True)


if __name__ == "__main__":
    main()
