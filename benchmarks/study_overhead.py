"""Seconds a job beyond its own work: this workbench's runner against the papermill command in a loop.

    python benchmarks/study_overhead.py [--jobs 10] [--folder DIR]

The same notebooks with the same parameters, one after the other and interleaved: job 1 by the runner with its warm
process, by the runner with ``--cold``, and by ``papermill`` on the command line; then job 2 … A notebook imports torch
and transformers, as every benchmark does, works for a known time, and writes its record. Goal: ≤ 0.8 s a job, warm.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import builders

from energylab.studies import plan as planning
from energylab.studies import runner
from energylab.studies.executors.local import LocalExecutor
from energylab.studies.folder import StudyFolder
from energylab.studies.forge_client import ForgeServer

WORK_S = 0.5
GOAL_S = 0.8


def by_runner(plan: planning.Plan, folder: StudyFolder, executor: LocalExecutor) -> float:
    """Run the next job of the study; return the seconds it took."""
    started = time.perf_counter()
    summary = runner.run(plan, folder, executor, limit=1)
    seconds = time.perf_counter() - started
    if summary.attempts != 1:
        raise RuntimeError(f"{summary.attempts} attempts instead of one: {summary.states}")
    return seconds


def by_papermill(plan: planning.Plan, number: int, folder: Path) -> float:
    """Run a job's notebook by the papermill command; return the seconds it took."""
    job = plan.jobs[number]
    values = folder / f"values-{number}.yaml"
    values.write_text(yaml.safe_dump({**job.values, "output_folder": str(folder / f"by-hand-{number}")}))
    command = [sys.executable, "-m", "papermill", str(plan.notebook), str(folder / "out.ipynb"), "-f", str(values)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def show(name: str, seconds: list[float]) -> None:
    """Print one line of figures, in seconds beyond the job's own work."""
    beyond = sorted(value - WORK_S for value in seconds)
    figures = (statistics.median(beyond), statistics.fmean(beyond), beyond[0], beyond[-1])
    print(f"{name:34s}" + "".join(f"{figure:9.2f}" for figure in figures))


def main() -> None:
    """Run all arms, interleaved, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = f"{TESTS.parent}:{TESTS}"
    os.environ["FAKE_SECONDS"] = str(WORK_S)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        content = {
            "parameters": {"task": "sentence_similarity", "model_source": "hub"},
            "sweeps": [{"model": [f"m{number}" for number in range(options.jobs)]}],
            "cells": ("import torch, transformers",),
        }
        plans = {arm: planning.load(builders.write_study(folder, arm, **content)) for arm in ("warm", "cold")}
        studies = {arm: StudyFolder(arm, folder / "results") for arm in plans}
        runtime = Path(tempfile.mkdtemp(prefix="overhead-"))
        forge = ForgeServer(runtime, marker=str(folder))
        started = time.perf_counter()
        forge.ensure()
        warm_up_s = time.perf_counter() - started
        seconds: dict[str, list[float]] = {"warm": [], "cold": [], "papermill": []}
        for number in range(options.jobs):
            warm, cold = LocalExecutor("cpu", forge=forge), LocalExecutor("cpu", cold=True)
            seconds["warm"].append(by_runner(plans["warm"], studies["warm"], warm))
            seconds["cold"].append(by_runner(plans["cold"], studies["cold"], cold))
            seconds["papermill"].append(by_papermill(plans["warm"], number, folder))
        forge.close()
    print(
        f"{options.jobs} jobs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds beyond {WORK_S} s of work"
    )
    print(f"{'':34s}" + "".join(f"{column:>9s}" for column in ("median", "mean", "least", "most")))
    show("runner, warm process", seconds["warm"])
    show("runner, --cold", seconds["cold"])
    show("papermill command", seconds["papermill"])
    print(f"warming up, once a study: {warm_up_s:.1f} s; goal for a warm job: {GOAL_S} s")


if __name__ == "__main__":
    main()
