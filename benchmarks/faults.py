"""A study of many short jobs, killed with SIGKILL at random moments and resumed each time.

    python benchmarks/faults.py [--jobs 120] [--kills 100] [--seed 1]

Victims are drawn by the seed: the runner, the kernel, both at once, or the process that executes the notebook.
In the end every job must be done exactly once: no record half-written, lost or counted twice, no job measured again
after its record was there, and no process left. The jobs are real notebooks through papermill with a stand-in for
the measurement (`tests/builders.py`), so that many fit in little time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import builders
import psutil

from energylab import store
from energylab.errors import RecordError
from energylab.studies import plan as planning
from energylab.studies.run import marked
from energylab.studies.state import StudyFolder

VICTIMS = ("runner", "kernel", "both", "job")
JOB_S = 0.7
GIVE_UP_S = 120.0


@dataclass
class Report:
    """What was done, and what is wrong afterwards."""

    kills: Counter = field(default_factory=Counter)
    starts: int = 0
    faults: list[str] = field(default_factory=list)


def run(folder: Path, jobs: int, kills: int, seed: int) -> Report:
    """Run the study in `folder`, kill it `kills` times, let it finish, and check what is there."""
    dice = random.Random(seed)
    path = builders.write_study(
        folder,
        parameters={"task": "sentence_similarity", "model_source": "hub"},
        sweeps=[{"model": [f"m{number}" for number in range(jobs)]}],
    )
    report = Report()
    while report.kills.total() < kills:
        runner = start(folder, path)
        report.starts += 1
        strike_until_gone(runner, dice, report, kills)
        runner.wait(timeout=60 * jobs)  # the last one may have survived, and works on
    start(folder, path).wait(timeout=60 * jobs)
    report.faults += faults(folder, path, jobs)
    return report


def start(folder: Path, path: Path) -> subprocess.Popen:
    """Start ``energylab study run`` as a user would."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{TESTS.parent}:{TESTS}",
        "FAKE_LEDGER": str(folder / "ledger.jsonl"),
        "FAKE_SECONDS": str(JOB_S),
    }
    command = [sys.executable, "-m", "energylab.cli", "study", "run", str(path), "--devices", "cpu"]
    with (folder / "runner.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def strike_until_gone(runner: subprocess.Popen, dice: random.Random, report: Report, kills: int) -> None:
    """Kill victims of one runner at random moments until the runner itself was one of them."""
    while report.kills.total() < kills:
        victim = dice.choice(VICTIMS)
        wait_for_moment(runner, victim, dice)
        if runner.poll() is not None:
            raise RuntimeError(f"the study ended after {report.kills.total()} kills; give it more --jobs")
        struck = [process for process in victims(runner, victim) if kill(process)]
        report.kills[victim] += bool(struck)
        if victim in ("runner", "both"):
            runner.wait()
            return


def wait_for_moment(runner: subprocess.Popen, victim: str, dice: random.Random) -> None:
    """Wait for a random moment: while it starts up, or up to two jobs after the first victim can be seen."""
    if victim == "runner" and dice.random() < 0.3:
        time.sleep(dice.uniform(0.0, 6.0))
        return
    deadline = time.monotonic() + GIVE_UP_S
    while runner.poll() is None and not kernels(runner) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(dice.uniform(0.0, 3 * JOB_S))
    while victim in ("kernel", "both") and runner.poll() is None and not kernels(runner):
        time.sleep(0.002)


def victims(runner: subprocess.Popen, victim: str) -> list[psutil.Process]:
    """Return the processes that `victim` stands for, as they are now."""
    here = [psutil.Process(runner.pid)]
    jobs = [process for process in children(runner) if process.ppid() == runner.pid]
    return {"runner": here, "kernel": kernels(runner), "both": kernels(runner) + here, "job": jobs}[victim]


def children(runner: subprocess.Popen) -> list[psutil.Process]:
    """Return everything that the runner has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(runner.pid).children(recursive=True)
    return []


def kernels(runner: subprocess.Popen) -> list[psutil.Process]:
    """Return the kernels of the runner's jobs."""
    found = []
    for process in children(runner):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [process] if "ipykernel_launcher" in process.cmdline() else []
    return found


def kill(process: psutil.Process) -> bool:
    """Send SIGKILL; say whether the process was there to get it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
        return True
    return False


def faults(folder: Path, path: Path, jobs: int) -> list[str]:
    """Return everything that is not as it must be."""
    planned = planning.load(path)
    study = StudyFolder(planned.name, folder / "results")
    states, attempts = study.states(planned), defaultdict(list)
    found = [f"{job.label}: {state.status} {state.reason}" for job, state in states.items() if state.status != "done"]
    for record in study.path.rglob(store.FILE_NAME):
        try:
            content = store.read_record(record)
            attempts[content.job_id].append(content.attempt)
        except RecordError as error:
            found.append(str(error))
    table = store.read(study.path)
    found += [f"{job}: {len(some)} records" for job, some in attempts.items() if len(some) != 1]
    found += [f"{n} jobs of {jobs} are there" for n in (len(attempts), table.job_id.nunique()) if n != jobs]
    found += [] if table.groupby("job_id").session.nunique().eq(1).all() else ["the table counts a job twice"]
    for line in map(json.loads, (folder / "ledger.jsonl").read_text().splitlines()):
        if line["what"] == "begin" and line["attempt"] > min(attempts.get(line["job"], [0])):
            found.append(f"{line['job']}: measured again in attempt {line['attempt']}")
    found += [f"left behind: {file}" for file in study.path.rglob(".*.tmp")]
    return found + [f"process {pid} is left" for pid in marked(study.path)]


def main() -> int:
    """Run and print the report; the exit status says whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=120)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options, started = parser.parse_args(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    report = run(folder, options.jobs, options.kills, options.seed)
    victims = ", ".join(f"{name} {count}" for name, count in sorted(report.kills.items()))
    print(f"{options.jobs} jobs, {report.kills.total()} kills ({victims}), seed {options.seed}, in {folder}")
    print(f"{report.starts} starts of the runner, {time.monotonic() - started:.0f} s")
    print("\n".join(report.faults) or "every job done once; nothing half-written, lost, doubled or left running")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
