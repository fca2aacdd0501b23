"""The commands of studies, and their display of progress, remaining time, energy and results."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress
from rich.table import Table

from energylab import store
from energylab.energy import J_PER_WH
from energylab.errors import EnergylabError, StudyError, unknown_name
from energylab.parameters import Parameters
from energylab.studies import devices as device_names
from energylab.studies import estimate, slurm
from energylab.studies import pack as packing
from energylab.studies import plan as planning
from energylab.studies import run as running
from energylab.studies.estimate import format_time, jobs, spent_j
from energylab.studies.plan import Job, LockedModel, Plan
from energylab.studies.state import JobState, StudyFolder, planned_roots

app = typer.Typer(help="Plan, run and share studies: many jobs from one YAML file.", no_args_is_help=True)

StudyPath = Annotated[Path, typer.Argument(help="A study's YAML file, or the name of one in params/studies/.")]
StudyName = Annotated[str, typer.Argument(help="The name of a study: its folder in results/.")]
Results = Annotated[Path, typer.Option(help="The folder of all studies.")]
Params = Annotated[Path | None, typer.Option(help="Folder with the layout of params/; default: ./params or above.")]
Devices = Annotated[str, typer.Option(help="auto, cpu, or GPU indices or UUIDs separated by commas.")]

#: Where jobs may run.
EXECUTORS = ("local", "slurm")
_AGAIN = ("failed", "invalid")
_NUMBERS = ("runs x queries", "time", "Wh", "stars")  # columns
_ORDER = ("done", "measured", "running", "failed", "invalid", "left")


@app.command("plan")
def plan(path: StudyPath, params: Params = None, results: Results = Path("results")) -> None:
    """Show the jobs of a study, their ids, and an estimate of time and energy."""
    planned, folder = _planned(path, results, params)
    folder.check_source(planned)
    states, _ = current(folder, planned)
    gpus_by_slurm = planned.study.slurm.gres is not None and shutil.which("sbatch") is not None
    on_gpu = gpus_by_slurm or device_names.available() != [device_names.CPU]
    costs = estimate.estimates(states, on_gpu)
    title = f"{planned.study.title or planned.name}: {jobs(len(planned.jobs))}"
    console = plain_console()
    console.print(_table(title, [_plan_row(job, state, costs[job]) for job, state in states.items()]))
    left = [costs[job] for job, state in states.items() if state.status != "done"]
    for line in estimate.summary_lines(left) if left else ["nothing to do: every job is done"]:
        console.print(line)
    for line in protocol_lines(planned.jobs):
        console.print(line)
    if planned.duplicates:
        console.print(f"  repeated in the study, and run once: {jobs(len(planned.duplicates))}")


def _planned(path: Path, results: Path, params: Path | None) -> tuple[Plan, StudyFolder]:
    """Load and check a study, with the revisions that were frozen for it."""
    planned = planning.load(path, params=params, results=results)
    planning.check(planned, params)
    folder = StudyFolder(planned.name, results)
    return planning.freeze(planned, folder.lock), folder


def protocol_lines(planned: Sequence[Job]) -> list[str]:
    """Return how jobs are measured, one line for each protocol and its settings."""
    ways = Counter(_way(job.parameters) for job in planned)
    return [f"{jobs(count)} measured with {way}" for way, count in ways.items()]


def _way(p: Parameters) -> str:
    windows = f"windows of at least {p.window_s:g} s, warm-up {p.warm_up_min_s:g} to {p.warm_up_max_s:g} s"
    windows = windows if p.protocol == "steady" else "windows and warm-up as the published runner's"
    return f"protocol {p.protocol}, {windows}, idle {p.idle_s:g} s, meter {p.meter}"


def _plan_row(job: Job, state: JobState, cost: estimate.Estimate) -> dict[str, str]:
    p = job.parameters
    return {
        "job": job.id,
        "task": p.task_name,
        "model": p.model,
        "repeat": str(p.repeat),
        "settings": job.setting,
        "runs x queries": f"{p.runs} x {p.samples:,}",
        "time": ("≥ " if cost.basis == "floor" else "") + format_time(cost.time_s),
        "Wh": "?" if cost.energy_j is None else f"{cost.energy_j / J_PER_WH:.3g}",
        "state": state.status,
    }


def _table(title: str, rows: Sequence[Mapping[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for column in rows[0]:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    return table


@app.command("run")
def run(
    path: StudyPath,
    executor: Annotated[str, typer.Option(help="Where jobs run: local or slurm.")] = "local",
    devices: Devices = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Start at most this many jobs.")] = None,
    detach: Annotated[bool, typer.Option(help="Submit the jobs and return; only for Slurm.")] = False,
    retry: Annotated[list[str] | None, typer.Option(help="Also run jobs in this state: failed, invalid.")] = None,
    params: Params = None,
    results: Results = Path("results"),
) -> None:
    """Run all missing jobs of a study; it can be interrupted at any time and called again."""
    for name in retry or ():
        if name not in _AGAIN:
            raise unknown_name("state for --retry", name, _AGAIN)
    planned, folder = _planned(path, results, params)
    place, parallel = executor_for(planned, executor, devices, detach)
    console = plain_console()
    with Watch(folder.states(planned), parallel, console) as watch:
        summary = running.run(
            planned, folder, place, again=retry or (), limit=limit, params=str(params.resolve()) if params else None,
            on_event=watch,
        )  # fmt: skip
    show(console, planned, folder, summary)
    done = all(state.status == "done" for state in summary.states.values())
    sys.exit(130 if summary.interrupted else 0 if done or detach else 1)


def executor_for(planned: Plan, name: str, devices: str, detach: bool = False) -> tuple[running.Executor, int]:
    """Return the executor of a study's jobs, and how many it runs at the same time."""
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS)
    if name == "local":
        if detach:
            raise StudyError("--detach: local jobs end with this command; use it with --executor slurm")
        device_names.check_present(devices)
        return partial(running.local, devices=devices), len(device_names.available(devices))
    if devices != "auto":
        raise StudyError(f"--devices {devices}: Slurm assigns devices itself; set gres in the study's slurm section")
    settings = planned.study.slurm
    return partial(slurm.slurm, settings=settings, detach=detach), settings.max_parallel


@app.command("status")
def status(name: StudyName, results: Results = Path("results")) -> None:
    """Show which jobs are done, running, failed (with the reason), invalid or left."""
    planned, folder = _existing(name, results)
    states, waiting = current(folder, planned)
    console = plain_console()
    print_counts(console, states)
    durations = [state.last.duration_s for state in states.values() if state.status == "done" and state.last]
    left = sum(state.status in ("left", "running", "measured") for state in states.values())
    if left:
        console.print(time_left([each for each in durations if each is not None], left, 1))
    for job, state in states.items():
        if state.status not in ("done", "left"):
            console.print(f"{state.status:>8}  {job.id}  {job.label}  {brief(state.reason)}".rstrip())
    for slurm_id, (_, word) in waiting.items():
        console.print(f"   slurm  {slurm_id} {word}  log: {folder.path}/slurm/{slurm_id}_0_log.out")
    if any(word == slurm.UNKNOWN for _, word in waiting.values()):
        console.print("Slurm's state is unknown here (no squeue): use the cluster's login node")
    for line in packing.strays(folder.lock, states):
        console.print(f"  differs  {line}")
    extra = folder.unplanned(planned)
    if extra:
        console.print(f"no longer in study.yaml: {jobs(len(extra))} in {folder.path}: {', '.join(extra)}")


def _existing(name: str, results: Path) -> tuple[Plan, StudyFolder]:
    folder = StudyFolder(name, results)
    if not folder.study_file.is_file():
        known = [path.parent.name for path in planning.run_studies(results)]
        raise unknown_name("study", name, known, f"run it first, or give its results folder ({results}) by --results")
    return planning.freeze(planning.load(folder.study_file, name=name), folder.lock), folder


def current(folder: StudyFolder, planned: Plan) -> tuple[dict[Job, JobState], dict[str, tuple[str, str]]]:
    """Return the state of every job, and the jobs in Slurm; attempts without a runner count as interrupted."""
    states, waiting = folder.states(planned), slurm.waiting(folder)
    alive = {job_id for job_id, _ in waiting.values()}
    if not folder.is_running():
        states = {job: state if job.id in alive else _closed(state) for job, state in states.items()}
    return states, waiting


def _closed(state: JobState) -> JobState:
    if state.status != "running":
        return state
    return replace(state, status="measured" if state.measured else "left", reason="its runner was killed")


@app.command("fetch")
def fetch(path: StudyPath, params: Params = None, results: Results = Path("results")) -> None:
    """Download a study's models and data, and freeze their revisions; jobs then run offline."""
    planned = planning.load(path, params=params, results=results)
    folder = StudyFolder(planned.name, results)
    frozen = packing.fetch(planned, folder, str(params.resolve()) if params else None)
    console = plain_console()
    for each in (*frozen.models, *frozen.data):
        console.print(f"{each.model if isinstance(each, LockedModel) else each.name} -> {each.commit}")
    console.print(f"frozen in {folder.lock_file}; jobs now run offline")


@app.command("pack")
def pack(
    name: StudyName,
    output: Annotated[Path | None, typer.Option(help="The archive; by default NAME.tar.gz.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="For the citation; may be given several times.")] = None,
    results: Results = Path("results"),
) -> None:
    """Write one archive of a study to share and cite: study, lock, versions, records, CITATION.cff."""
    planned, folder = _existing(name, results)
    target = output or Path(f"{name}.tar.gz")
    packing.pack(planned, folder, folder.states(planned), target, tuple(author or ()))
    console = plain_console()
    console.print(f"{target} ({target.stat().st_size / 1e3:,.0f} kB)")
    if not (author or planned.study.authors):
        console.print("its citation names no author: add `authors: [NAME]` to the study, or --author NAME")


def plain_console() -> Console:
    """Return a console that prints plain text; 160 columns wide if it is not a terminal, so that lines stay whole."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, markup=False, soft_wrap=True, width=160)


def brief(reason: str) -> str:
    """Return a reason on one line of at most 200 characters; the job's files have the full text."""
    return textwrap.shorten(reason, 200, placeholder=" …")


def time_left(durations_s: list[float], left: int, parallel: int) -> str:
    """Return the estimated time for the remaining jobs, from the durations of finished ones."""
    if not durations_s:
        return f"{jobs(left)} left; time unknown until one finishes"
    seconds = sum(durations_s) / len(durations_s) * left / min(parallel, left)
    at_once = f", {parallel} at once" if parallel > 1 else ", one at a time" if left > 1 else ""
    return f"{jobs(left)} left: about {format_time(seconds)}{at_once}"


def print_counts(console: Console, states: Mapping[Job, JobState]) -> None:
    """Print how many jobs are in each state, and the energy of all records by kind of energy."""
    counts = Counter(state.status for state in states.values())
    spent: dict[str, float] = defaultdict(float)
    for state in states.values():
        if state.record is not None:
            spent[state.record.energy_kind] += spent_j(state.record)
    text = ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
    energy = " + ".join(f"{joules / J_PER_WH:.3g} Wh {kind}" for kind, joules in sorted(spent.items()))
    console.print(f"{jobs(len(states))}: {text}" + (f"; {energy} spent" if energy else ""), highlight=False)


class Watch:
    """Shows progress of a run: a bar on a terminal, otherwise one line per job. Called with each event."""

    def __init__(self, states: Mapping[Job, JobState], parallel: int, console: Console) -> None:
        self.states, self.parallel, self.console = dict(states), parallel, console
        self._durations: list[float] = []
        columns = ("jobs", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}")
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=len(states), completed=self._over(), note="")

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def __call__(self, event: str, job: Job, state: JobState) -> None:
        """Show one event; a job's time is counted from its start, without waiting in a queue."""
        self.states[job] = state
        if event == "start":
            return
        seconds = state.last.duration_s if state.last else None
        self._durations += [seconds] if seconds is not None else []
        took = "" if seconds is None else f"  ({seconds:.1f} s)"
        reason = f": {brief(state.reason)}" if state.reason else ""
        word = "again" if event == "retry" else state.status
        self.console.print(f"{word:>8}  {job.label}{took}{reason}", highlight=False, markup=False)
        left = len(self.states) - self._over()
        note = time_left(self._durations, left, self.parallel) if left else ""
        self._bar.update(self._task, completed=self._over(), note=note)

    def _over(self) -> int:
        return sum(state.status in ("done", "failed", "invalid") for state in self.states.values())


def show(console: Console, planned: Plan, folder: StudyFolder, summary: running.Summary) -> None:
    """Print the results of a study, the place of its files, and missing jobs with reasons."""
    if any(state.record is not None for state in summary.states.values()):
        _print_results(console, planned, folder)
    if any(state.notebook_path is not None for state in summary.states.values()):
        console.print(f"records and notebooks: {folder.path}/JOB/attempt-N/; `energylab study plan` lists the jobs")
    for job, why in summary.refused.items():
        console.print(f" refused  {job.label}: {why}")
    for job, state in summary.states.items():
        if state.status in ("failed", "invalid", "measured") or (state.status == "left" and state.reason):
            console.print(f"{state.status:>8}  {job.label}: {brief(state.reason)}")
    print_counts(console, summary.states)


def _print_results(console: Console, planned: Plan, folder: StudyFolder) -> None:
    from energylab.protocol.validity import WARNINGS
    from energylab.ratings import rate
    from energylab.table import difference

    try:
        rated = rate(store.read(*planned_roots([folder.path])))
    except EnergylabError as error:  # the records are still there
        console.print(f"not rated: {error}")
        return
    cohorts = {task: tuple(rows["cohort"].unique()) for task, rows in rated.groupby("task")}
    rows = [_cells(row, difference(row.cohort, cohorts[row.task])) for row in rated.itertuples()]
    console.print(_table(f"{planned.study.title or planned.name}: energy of 1,000 queries", rows))
    for note in sorted(set(rated["note"].dropna()) - {""}):
        console.print(f"note: {note}")
    for mark, models in rated.assign(mark=rated["marks"].str.split(", ")).explode("mark").groupby("mark")["model"]:
        if mark:
            console.print(f"warning: {mark}, {WARNINGS[mark]}: {', '.join(sorted(set(models)))}", highlight=False)
    if strays := folder.unplanned(planned):
        console.print(f"not included, since no longer in the study: {jobs(len(strays))} in {folder.path}")


def _cells(row: Any, setting: str) -> dict[str, str]:
    import pandas as pd

    low, high = row.repeatability_low, row.repeatability_high
    return {
        "task": row.task if pd.isna(row.model_class) else f"{row.task} {row.model_class}",
        "model": row.model,
        "setting": setting,
        "Wh": "unavailable" if pd.isna(row.energy_wh) else f"{row.energy_wh:.4g}",
        "95 % interval": "" if pd.isna(low) else f"{low:.4g} to {high:.4g}",
        "stars": "" if pd.isna(row.stars) else str(row.stars),
        "kind": row.energy_kind,
    }


def mount(into: typer.Typer) -> None:
    """Add these commands to the command line."""
    into.add_typer(app, name="study")
