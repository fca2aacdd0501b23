"""How much energy a session takes until its star is decided among measured peers, and how often that star is right.

    python benchmarks/energy_to_star.py

It runs the studies of `benchmarks/replayed` as a user does, ``energylab study run … peers.yaml``, then ``… star.yaml``,
in a folder that is thrown away: 24 notebooks. The share is that of the energy of ten runs, without warm-up and idle
levels; a star is right when it is that of the published energies.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from energylab import published, store
from energylab.record import Record

STUDIES = Path(__file__).resolve().parent / "replayed"


def records(folder: str, study: str) -> dict[str, Record]:
    """Run a study by the command; return one record a model."""
    command = [sys.executable, "-m", "energylab.cli", "study", "run", str(STUDIES / f"{study}.yaml")]
    subprocess.run([*command, "--results", "results"], cwd=folder, check=True)
    return {record.model.name: record for _, record in store.read_records(Path(folder) / "results" / study)}


def spent_j(record: Record) -> float:
    """Return the energy of every window."""
    return sum(window.energy_j for window in record.windows if window.energy_j is not None)


def main() -> int:
    """Print one line a model, then the summary; 1 when a decided star is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        peers, asked = records(folder, "peers"), records(folder, "star")
    table = published.load().set_index("model")
    energy = table.loc[table["task"] == "summarization", "energy_wh"][list(asked)].sort_values()
    edges = np.linspace(energy.min(), energy.max(), 6)[1:-1]
    shares, decided, right = [], 0, 0
    for name, each in energy.items():
        stop, truth = asked[name].stop, 5 - int((each > edges * (1 + 1e-9)).sum())
        shares.append(spent_j(asked[name]) / spent_j(peers[name]))
        decided += stop.reached
        right += stop.reached and stop.details["stars"] == [truth]
        print(f"{name:<40} {100 * shares[-1]:6.2f} %  {stop.units:4d} blocks  {stop.details['stars']} of {truth}")
    print(f"share of ten runs: median {100 * np.median(shares):.2f} %, mean {100 * np.mean(shares):.2f} %")
    print(f"decided {decided} of {len(energy)}; right {right} of {decided}")
    return 0 if right == decided else 1


if __name__ == "__main__":
    sys.exit(main())
