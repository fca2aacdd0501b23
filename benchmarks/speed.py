"""Seconds of processor time: star probabilities, stars of a million models, reading 100,000 records.

    python benchmarks/speed.py [--records 100000]

Goals: star probabilities of 206 models x 10,000 draws in 0.5 s; a million models in 2 s; 100,000 records read from
their cache in 2 s, and one file read after one new record. Best of three, one thread. Exits 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import builders

import energylab
from energylab import store
from energylab.parameters import Parameters


def models(count: int) -> pd.DataFrame:
    """Return a table of one session a model."""
    energy_j = np.random.default_rng(0).lognormal(8, 1.5, count)
    names = [f"owner/model-{number}" for number in range(count)]
    return pd.DataFrame({"task": "summarization", "model": names, "energy_j": energy_j, "queries": 1000})


def records(root: Path, count: int) -> None:
    """Write a study of many jobs: copies of one record with two runs, each under its own job."""
    template = builders.record(Parameters(model="MODEL")).model_dump_json(indent=1)
    job = Parameters(model="MODEL").job_id
    for number in range(count):
        folder = root / "study" / f"{number:016x}" / "attempt-0"
        folder.mkdir(parents=True)
        text = template.replace(job, f"{number:016x}").replace('"MODEL"', f'"model-{number % 500}"')
        (folder / store.FILE_NAME).write_text(text)


def best(call: Callable[[], object], repeats: int = 3) -> float:
    """Return the least processor time of some calls."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


def show(what: str, seconds: float, goal_s: float | None = None) -> bool:
    """Print one row; False where its goal was missed."""
    met = goal_s is None or seconds <= goal_s
    print(
        f"{what:<50} {seconds:8.2f} s"
        + ("" if goal_s is None else f"  goal {goal_s:g} s: {'met' if met else 'MISSED'}")
    )
    return met


def main() -> int:
    """Time every case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    few, many = models(206), models(1_000_000)
    energylab.rate(few, noise=0.01, draws=10)  # imports are not part of it
    met = [
        show("206 models, 10,000 draws", best(lambda: energylab.rate(few, noise=0.01)), 0.5),
        show("1,000,000 models, no draws", best(lambda: energylab.rate(many, draws=0)), 2.0),
    ]
    opened: list[Path] = []
    original = store.read_record
    store.read_record = lambda path: (opened.append(path), original(path))[1]
    with tempfile.TemporaryDirectory() as folder:
        records(Path(folder), options.records)
        time.sleep(2.5)  # past the time in which a change is looked at twice
        show(f"{options.records:,} records, first read", best(lambda: store.read(folder), 1))
        store.read(folder)
        met.append(show(f"{options.records:,} records, from the cache", best(lambda: store.read(folder)), 2.0))
        store.write(builders.record(Parameters(model="new")), Path(folder) / "study" / "new" / "attempt-0")
        opened.clear()
        store.read(folder)
        print(f"files read after one new record: {len(opened)}")
    return 0 if all(met) and len(opened) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
