"""How much energy a session takes until its star is decided among measured peers, and how often that star is right.

    python benchmarks/energy_to_star.py [--task summarization] [--models 8] [--probability 0.95]

Each model of a published group is measured on a replayed board with the published energies' ratios: in two sessions of
ten runs as a peer, then once more among the others with ``star_probability`` and ``peers``, as a study's settings or
`energylab.measure` take them. Sessions and runs deviate by 0.6 and 0.4 %, queries by 50 %. The share is that of the
energy of ten runs; a star is right when it is that of the true energies.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

import energylab
from energylab import published
from energylab.clock import ManualClock
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.record import Record

RUNS, QUERIES, POWER_W = 10, 100, 300.0
SESSION_CV, RUN_CV, QUERY_CV = 0.006, 0.004, 0.5


def measure(name: str, seconds: float, session: int, folder: Path | None = None, **stop) -> Record:
    """Measure a model that takes `seconds` a query at 300 W on average, in one session of its own deviation."""
    clock = ManualClock()
    board = SimulatedBoard(clock, 50.0)
    rng = np.random.default_rng([session, *name.encode()])
    lengths = np.exp(QUERY_CV * np.random.default_rng(list(name.encode())).standard_normal(QUERIES))
    lengths *= seconds / lengths.mean()
    of_session, of_run, asked = SESSION_CV * rng.standard_normal(), RUN_CV * rng.standard_normal(10_000), [0]

    def work(query: int) -> None:
        asked[0] += 1
        deviation = of_session + of_run[asked[0] // QUERIES]
        board.work(lengths[query] * (1 + deviation), POWER_W)

    work.__qualname__ = name
    meter = ReplayMeter(board, clock, power_limit_w=700.0)
    settings = {"runs": RUNS, "warm_up_max_s": 60.0, "seed": session, **stop}
    return energylab.measure(
        fn=work, queries=range(QUERIES), meters=[meter], clock=clock, output_folder=folder, **settings
    )


def spent_j(record: Record) -> float:
    """Return the energy of every window."""
    return sum(window.energy_j for window in record.windows if window.energy_j is not None)


def main() -> int:
    """Print one line a model, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="summarization")
    parser.add_argument("--models", type=int, default=8, help="of the group, evenly from lightest to heaviest")
    parser.add_argument("--probability", type=float, default=0.95)
    options = parser.parse_args()
    table = published.load()
    energy = table[table["task"] == options.task].set_index("model")["energy_wh"].sort_values()
    energy = energy.iloc[np.unique(np.linspace(0, len(energy) - 1, options.models).astype(int))]
    seconds = 0.2 * energy / energy.min()
    edges = np.linspace(seconds.min(), seconds.max(), 6)[1:-1]
    shares, right, undecided = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        full = {}
        for name, each in seconds.items():
            for session in (0, 1):
                full[name] = spent_j(measure(name, each, session, Path(folder) / name / str(session)))
        for name, each in seconds.items():
            record = measure(name, each, 2, star_probability=options.probability, peers=folder)
            stars, truth = record.stop.details["stars"], 5 - int((each > edges * (1 + 1e-9)).sum())
            shares.append(spent_j(record) / full[name])
            undecided += len(stars) > 1
            right += stars == [truth]
            print(
                f"{name:<45} {100 * shares[-1]:6.2f} %  {record.stop.units:4d} blocks  {stars} of {truth}", flush=True
            )
    decided = len(seconds) - undecided
    print(f"share of ten runs: median {100 * np.median(shares):.2f} %, mean {100 * np.mean(shares):.2f} %")
    print(f"decided {decided} of {len(seconds)}; right {right} of {decided}")
    return 0 if right == decided else 1


if __name__ == "__main__":
    sys.exit(main())
