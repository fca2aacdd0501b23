"""Seconds a job beyond its own work: this workbench's runner against the papermill command in a loop.

    python benchmarks/study_overhead.py [--jobs 10]

The same notebooks with the same parameters, one after the other and interleaved: job 1 by the runner and by
``papermill`` on the command line; then job 2 … A notebook imports torch and transformers, as every benchmark does,
works for a known time, and writes its record.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pandas as pd
import yaml

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import builders

from energylab.studies import plan as planning
from energylab.studies.run import local, run
from energylab.studies.state import StudyFolder

WORK_S = 0.5


def by_runner(plan: planning.Plan, folder: StudyFolder) -> float:
    """Run the next job of the study; return the seconds it took beyond its work."""
    started = time.perf_counter()
    summary = run(plan, folder, partial(local, devices="cpu"), limit=1)
    if summary.attempts != 1:
        raise RuntimeError(f"{summary.attempts} attempts instead of one: {summary.states}")
    return time.perf_counter() - started - WORK_S


def by_papermill(plan: planning.Plan, number: int, folder: Path) -> float:
    """Run a job's notebook by the papermill command; return the seconds it took beyond its work."""
    values = folder / f"values-{number}.yaml"
    given = {**plan.jobs[number].values, "output_folder": str(folder / f"by-hand-{number}")}
    values.write_text(yaml.safe_dump(given))
    command = [sys.executable, "-m", "papermill", str(plan.notebook), str(folder / "out.ipynb"), "-f", str(values)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started - WORK_S


def main() -> None:
    """Run both arms, interleaved, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10)
    jobs = parser.parse_args().jobs
    os.environ |= {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "FAKE_SECONDS": str(WORK_S)}
    with tempfile.TemporaryDirectory() as name:
        path = builders.write_study(
            Path(name),
            parameters={"task": "sentence_similarity", "model_source": "hub"},
            sweeps=[{"model": [f"m{number}" for number in range(jobs)]}],
            cells=("import torch, transformers",),
        )
        plan = planning.load(path)
        study = StudyFolder(plan.name, Path(name) / "results")
        pairs = [(by_runner(plan, study), by_papermill(plan, number, Path(name))) for number in range(jobs)]
    table = pd.DataFrame(pairs, columns=["runner", "papermill command"])
    print(f"{jobs} jobs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds beyond {WORK_S} s of work")
    print(table.agg(["median", "mean", "min", "max"]).T.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
