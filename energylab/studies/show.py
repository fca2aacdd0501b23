"""What the ``energylab study`` commands do: load, call, print."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from energylab import store
from energylab.errors import StudyError, unknown_name
from energylab.studies import devices as device_names
from energylab.studies import estimate, lock, packing, runner
from energylab.studies import plan as planning
from energylab.studies import summary as summaries
from energylab.studies.executors import EXECUTORS, slurm
from energylab.studies.folder import JobState, StudyFolder
from energylab.studies.plan import Job, Plan
from energylab.studies.progress import Watch, brief, format_time, plain_console, print_counts, time_left_s

if TYPE_CHECKING:
    import pandas as pd

_FORMATS = ("csv", "parquet", "json")
_AGAIN = ("failed", "invalid")


@dataclass(frozen=True)
class RunOptions:
    """The options of ``energylab study run``, as the command line has them."""

    executor: str = "local"
    devices: str = "auto"
    limit: int | None = None
    cold: bool = False
    detach: bool = False
    again: tuple[str, ...] = ()


def plan(path: Path, results: Path, params: Path | None) -> None:
    """Print the jobs of a study and what they will cost."""
    planned, folder = _planned(path, results, params)
    states = settled(folder, folder.states(planned))
    costs = estimate.estimates(states)
    table = Table(
        title=f"{planned.study.title or planned.name}: {len(planned.jobs)} jobs", title_justify="left", box=None
    )
    for column in ("job", "task", "model", "repeat", "settings", "time", "Wh", "state"):
        table.add_column(column, justify="right" if column in ("time", "Wh") else "left", overflow="fold")
    for job, state in states.items():
        table.add_row(*_plan_row(planned, job, state, costs[job]))
    console = plain_console()
    console.print(table)
    _print_costs(console, planned, [costs[job] for job, state in states.items() if state.status != "done"])


def _planned(path: Path, results: Path, params: Path | None) -> tuple[Plan, StudyFolder]:
    """Load and check a study, with the revisions that were frozen for it."""
    planned = planning.load(path, params=params)
    planning.check(planned, params)
    folder = StudyFolder(planned.name, results)
    return lock.apply(planned, lock.read(folder)), folder


def _plan_row(planned: Plan, job: Job, state: JobState, cost: estimate.Estimate) -> tuple[str, ...]:
    shown = ("task", "model", "repeat", *planned.study.parameters)
    settings = ", ".join(f"{name}={value}" for name, value in job.values.items() if name not in shown)
    at_least = "≥ " if cost.basis == "floor" else ""
    wh = "?" if cost.energy_j is None else f"{cost.energy_j / 3600:.3g}"
    p = job.parameters
    return job.id, p.task_name, p.model, str(p.repeat), settings, at_least + format_time(cost.time_s), wh, state.status


def _print_costs(console: Console, planned: Plan, costs: list[estimate.Estimate]) -> None:
    if not costs:
        console.print("nothing to do: every job is done")
        return
    total = estimate.total(costs)
    bases = {
        "records": "records of the same jobs in this study",
        "published": f"the published figure (one H100) of the model or its shape, and {estimate.ASSUMED_POWER_W:g} W",
        "similar": "records of other models on the same task in this study",
        "floor": "no figure: the time is the protocol's least, without loading; the energy is not known",
    }
    about = "at least" if "floor" in total.by_basis else "about"
    known = [f"{total.energy_j / 3.6e6:.3g} kWh"] if total.unknown < len(costs) else []
    unknown = [f"{total.unknown} jobs of unknown energy"] if total.unknown else []
    console.print(
        f"{len(costs)} jobs to do: {about} {format_time(total.time_s)} on one device at a time, "
        + " and ".join(known + unknown)
    )
    for basis, jobs in total.by_basis.items():
        console.print(f"  {jobs} jobs by {bases[basis]}")
    if planned.duplicates:
        console.print(f"  {len(planned.duplicates)} rows stand for a job that is planned already; it runs once")


def run(path: Path, results: Path, params: Path | None, options: RunOptions) -> int:
    """Run a study with a progress bar and print the results; return 0 when nothing is missing, 130 when stopped."""
    for name in options.again:
        if name not in _AGAIN:
            raise unknown_name("state for --retry", name, _AGAIN)
    planned, folder = _planned(path, results, params)
    if options.executor == "local":
        device_names.check_present(options.devices)
    place = EXECUTORS.get(options.executor).from_study(planned.study, options.devices, options.cold)
    console = plain_console()
    with Watch(folder.states(planned), place.parallel, console) as watch:
        summary = runner.run(
            planned,
            folder,
            place,
            again=options.again,
            limit=options.limit,
            params=str(params.resolve()) if params else None,
            detach=options.detach,
            on_event=watch,
        )
    summaries.show(console, planned, folder, summary)
    if summary.interrupted:
        return 130
    return 0 if all(state.status == "done" for state in summary.states.values()) else 1


def status(name: str, results: Path) -> None:
    """Print the state of every job of a study that is not simply done or left."""
    planned, folder = _existing(name, results)
    states = settled(folder, folder.states(planned))
    waiting = slurm.ask_states(list(slurm.living(folder)))
    console = plain_console()
    print_counts(console, states)
    _print_time_left(console, states)
    for job, state in states.items():
        if state.status not in ("done", "left"):
            console.print(f"{state.status:>8}  {job.id}  {job.label}  {brief(state.reason)}".rstrip())
    for slurm_id, word in waiting.items():
        console.print(f"   slurm  {slurm_id} {word}  log: {slurm.log_path(folder, slurm_id)}")
    for line in lock.strays(lock.read(folder), states):
        console.print(f"   stray  {line}")
    extra = folder.unplanned(planned)
    if extra:
        console.print(f"{len(extra)} jobs in {folder.path} are not in its study.yaml any more: {', '.join(extra)}")


def _print_time_left(console: Console, states: dict[Job, JobState]) -> None:
    durations = [state.last.duration_s for state in states.values() if state.status == "done" and state.last]
    left = sum(state.status in ("left", "running", "measured") for state in states.values())
    if left:
        known = [duration for duration in durations if duration is not None]
        console.print(f"about {format_time(time_left_s(known, left))} for the {left} jobs left, one at a time")


def table(name: str, results: Path, format: str, output: Path | None) -> None:
    """Write the tidy table of a study."""
    if format not in _FORMATS:
        raise unknown_name("format", format, _FORMATS)
    if format == "parquet" and output is None:
        raise StudyError("parquet is not text; name a file with --output")
    frame = store.read(StudyFolder(name, results).path)
    try:
        _write_table(frame, format, output)
    except OSError as error:
        raise StudyError(f"cannot write {output}: {error.strerror or error}; name another file") from error


def _write_table(frame: pd.DataFrame, format: str, output: Path | None) -> None:
    if format == "parquet":
        frame.to_parquet(output, index=False)
        return
    text = frame.to_csv(index=False) if format == "csv" else frame.to_json(orient="records", indent=1)
    if output is None:
        plain_console().out(text, end="")
    else:
        output.write_text(text, encoding="utf-8")


def fetch(path: Path, results: Path, params: Path | None) -> None:
    """Download the models and data of a study, freeze their commits, and print them."""
    planned = planning.load(path, params=params)
    folder = StudyFolder(planned.name, results)
    frozen = lock.fetch(planned, folder, str(params.resolve()) if params else None)
    console = plain_console()
    for model in frozen.models:
        console.print(f"{model.model}  {model.revision or 'main'} -> {model.commit}")
    for data in frozen.data:
        console.print(f"{data.task}: {data.name} -> {data.commit}")
    console.print(f"frozen in {folder.lock_file}; jobs now run offline")


def pack(name: str, results: Path, output: Path | None, authors: tuple[str, ...]) -> None:
    """Write one archive of a study and print where it is."""
    planned, folder = _existing(name, results)
    target = output or Path(f"{name}.tar.gz")
    packing.pack(planned, folder, folder.states(planned), target, authors)
    console = plain_console()
    console.print(f"{target} ({target.stat().st_size / 1e3:,.0f} kB)")
    if not (authors or planned.study.authors):
        console.print("its citation names no author: add `authors: [NAME]` to the study, or --author NAME")


def _existing(name: str, results: Path) -> tuple[Plan, StudyFolder]:
    folder = StudyFolder(name, results)
    if not folder.study_file.is_file():
        known = [path.parent.name for path in Path(results).glob("*/study.yaml")]
        raise unknown_name("study", name, known, f"run it first, or name its results folder ({results}) by --results")
    return lock.apply(planning.load(folder.study_file, name=name), lock.read(folder)), folder


def settled(folder: StudyFolder, states: dict[Job, JobState]) -> dict[Job, JobState]:
    """Call open attempts interrupted when neither a runner nor Slurm is there to finish them."""
    if runner.is_running(folder):
        return states
    alive = set(slurm.living(folder).values())
    return {job: state if job.id in alive else _closed(state) for job, state in states.items()}


def _closed(state: JobState) -> JobState:
    if state.status != "running":
        return state
    return replace(state, status="measured" if state.measured else "left", reason="its runner was killed")
