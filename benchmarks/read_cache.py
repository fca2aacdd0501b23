"""How long ``energylab.read`` takes on 100,000 records: first, from its cache, and after one new record.

    python benchmarks/read_cache.py [--records 100000] [--folder DIR]

Goals: from the cache ≤ 2 s; one new record costs no rescan of contents (one file is read).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import builders

from energylab import store
from energylab.parameters import Parameters

REPEATS = 5


def build(root: Path, records: int) -> None:
    """Write a study of many jobs: copies of one record with two runs, each under its own job."""
    template = builders.record(Parameters(model="MODEL")).model_dump_json(indent=1)
    job = Parameters(model="MODEL").job_id
    for number in range(records):
        folder = root / "study" / f"{number:016x}" / "attempt-0"
        folder.mkdir(parents=True)
        text = template.replace(job, f"{number:016x}").replace('"MODEL"', f'"model-{number % 500}"')
        (folder / store.FILE_NAME).write_text(text)


def timed(root: Path, reads: list[Path]) -> tuple[float, int, int]:
    """Return seconds, rows, and record files opened of one read."""
    reads.clear()
    started = time.perf_counter()
    table = store.read(root)
    return time.perf_counter() - started, len(table), len(reads)


def main() -> None:
    """Build the folder, then print each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    reads: list[Path] = []
    original = store.read_record
    store.read_record = lambda path: (reads.append(path), original(path))[1]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        build(root, options.records)
        time.sleep(2.5)  # past the time in which a change is looked at twice
        print(f"{'':32s}{'seconds':>9s}{'rows':>10s}{'files read':>12s}")
        print("first read                      {:9.2f}{:10d}{:12d}".format(*timed(root, reads)))
        store.read(root)
        cached = [timed(root, reads) for _ in range(REPEATS)]
        print(
            "from the cache, median of 5     {:9.2f}{:10d}{:12d}".format(
                statistics.median(c[0] for c in cached), *cached[0][1:]
            )
        )
        store.write(builders.record(Parameters(model="new")), root / "study" / "new" / "attempt-0")
        print("after one new record            {:9.2f}{:10d}{:12d}".format(*timed(root, reads)))


if __name__ == "__main__":
    main()
