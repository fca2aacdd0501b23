"""A study of many short jobs, killed with SIGKILL at random moments and resumed each time.

    python benchmarks/faults.py [--jobs 120] [--kills 100] [--seed 1] [--folder DIR]

Victims are drawn by the seed: the runner, the kernel, both at once, or the process that executes the notebook.
In the end every job must be done exactly once: no record half-written, lost or counted twice, no job measured again
after its record was there, and no process left. The jobs are real notebooks through papermill with a stand-in for
the measurement (`tests/builders.py`), so that many fit in little time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
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
    attempts: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def run(folder: Path, jobs: int, kills: int, seed: int) -> Report:
    """Run the study in `folder`, kill it `kills` times, let it finish, and check what is there.

    Raises
    ------
    RuntimeError
        If the study was finished before the last kill: the count would not be what it says.
    """
    dice = random.Random(seed)
    path = builders.write_study(
        folder,
        parameters={"task": "sentence_similarity", "model_source": "hub"},
        sweeps=[{"model": [f"m{number}" for number in range(jobs)]}],
    )
    report, started = Report(), time.monotonic()
    while report.kills.total() < kills:
        runner = start(folder, path)
        report.starts += 1
        strike_until_gone(runner, folder, dice, report, kills)
        runner.wait(timeout=60 * jobs)  # the last one may have survived, and works on
    runner = start(folder, path)
    report.starts += 1
    runner.wait(timeout=60 * jobs)
    report.seconds = time.monotonic() - started
    report.faults += faults(folder, path, jobs)
    report.attempts = len(list(folder.glob("results/fake/*/attempt-*")))
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


def strike_until_gone(runner: subprocess.Popen, folder: Path, dice: random.Random, report: Report, kills: int) -> None:
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
    jobs = [p for p in children(runner) if p.ppid() == runner.pid]
    return {"runner": here, "kernel": kernels(runner), "both": kernels(runner) + here, "job": jobs}[victim]


def children(runner: subprocess.Popen) -> list[psutil.Process]:
    """Return everything that the runner has started."""
    try:
        return psutil.Process(runner.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kernels(runner: subprocess.Popen) -> list[psutil.Process]:
    """Return the kernels of the runner's jobs."""
    found = []
    for process in children(runner):
        try:
            found += [process] if "ipykernel_launcher" in process.cmdline() else []
        except psutil.NoSuchProcess:
            continue
    return found


def kill(process: psutil.Process) -> bool:
    """Send SIGKILL; say whether the process was there to get it."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def faults(folder: Path, path: Path, jobs: int) -> list[str]:
    """Return everything that is not as it must be."""
    planned = planning.load(path)
    study = StudyFolder(planned.name, folder / "results")
    found = [
        f"{job.label}: {state.status} {state.reason}"
        for job, state in study.states(planned).items()
        if state.status != "done"
    ]
    attempts = defaultdict(list)
    for record in study.path.rglob(store.FILE_NAME):
        try:
            content = store.read_record(record)
            attempts[content.job_id].append(content.attempt)
        except RecordError as error:
            found.append(str(error))
    found += [f"{job}: {len(some)} records" for job, some in attempts.items() if len(some) != 1]
    found += [] if len(attempts) == jobs else [f"{len(attempts)} jobs have a record, {jobs} were planned"]
    table = store.read(study.path)
    found += [] if table.groupby("job_id").session.nunique().eq(1).all() else ["the table counts a job twice"]
    found += [] if table.job_id.nunique() == jobs else [f"the table has {table.job_id.nunique()} jobs"]
    found += measured_again(folder / "ledger.jsonl", attempts)
    found += [f"left behind: {file}" for file in study.path.rglob(".*.tmp")]
    found += [f"process {pid} is left" for pid in marked(study.path)]
    return found


def measured_again(ledger: Path, attempts: dict[str, list[int]]) -> list[str]:
    """Return jobs that began a measurement after the one that left their record."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [
        f"{line['job']}: measured again in attempt {line['attempt']}"
        for line in lines
        if line["what"] == "begin" and line["attempt"] > min(attempts.get(line["job"], [0]))
    ]


def main() -> int:
    """Run and print the report; the exit status says whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=120)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    report = run(folder, options.jobs, options.kills, options.seed)
    victims = ", ".join(f"{name} {count}" for name, count in sorted(report.kills.items()))
    print(f"{options.jobs} jobs, {report.kills.total()} kills ({victims}), seed {options.seed}")
    print(f"{report.starts} starts of the runner, {report.attempts} attempts, {report.seconds:.0f} s, in {folder}")
    print(
        "\n".join(report.faults) or "every job done exactly once; nothing half-written, lost, doubled or left running"
    )
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
