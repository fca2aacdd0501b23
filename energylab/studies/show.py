"""What the ``energylab study`` commands print."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from energylab import store
from energylab.errors import StudyError, unknown_name
from energylab.record import SCORED_PHASES, Record
from energylab.studies import plan as planning
from energylab.studies import runner
from energylab.studies.executors import EXECUTORS
from energylab.studies.folder import JobState, StudyFolder
from energylab.studies.plan import Job, Plan
from energylab.studies.progress import Watch, format_energy, spent_by_kind

_FORMATS = ("csv", "parquet", "json")
_AGAIN = ("failed", "invalid")


def plan(path: Path, results: Path, params: Path | None) -> Plan:
    """Print the jobs of a study."""
    planned = planning.load(path, params=params)
    states = StudyFolder(planned.name, results).states(planned)
    table = Table(title=f"{planned.name}: {len(planned.jobs)} jobs", title_justify="left")
    for column in ("job", "task", "model", "repeat", "settings", "state"):
        table.add_column(column, overflow="fold")
    for job, state in states.items():
        given = {k: v for k, v in job.values.items() if k not in ("task", "model", "repeat", *planned.study.parameters)}
        settings = ", ".join(f"{name}={value}" for name, value in given.items())
        p = job.parameters
        table.add_row(job.id, p.task, p.model, str(p.repeat), settings, state.status)
    console = Console()
    console.print(table)
    if planned.duplicates:
        console.print(f"{len(planned.duplicates)} rows stand for a job that is planned already; it runs once.")
    return planned


def run(
    path: Path,
    results: Path,
    params: Path | None,
    executor: str,
    devices: str,
    limit: int | None,
    cold: bool,
    detach: bool,
    again: tuple[str, ...],
) -> int:
    """Run a study with a progress bar; print the results. Returns the exit status: 0 when nothing is missing."""
    for name in again:
        if name not in _AGAIN:
            raise unknown_name("state for --retry", name, _AGAIN)
    planned = planning.load(path, params=params)
    folder = StudyFolder(planned.name, results)
    place = EXECUTORS.get(executor).from_study(planned.study, devices, cold)
    console = Console()
    with Watch(folder.states(planned), len(getattr(place, "devices", ())) or 1, console) as watch:
        params = str(params.resolve()) if params else None
        options = {"again": again, "limit": limit, "params": params, "detach": detach}
        summary = runner.run(planned, folder, place, on_event=watch, **options)
    _print_summary(console, planned, folder, summary)
    if summary.interrupted:
        return 130
    return 0 if all(state.status == "done" for state in summary.states.values()) else 1


def status(name: str, results: Path) -> None:
    """Print the state of every job of a study."""
    planned, folder = _existing(name, results)
    states = _settled(folder, folder.states(planned))
    console = Console()
    _print_counts(console, states)
    for job, state in states.items():
        if state.status not in ("done", "left"):
            last = state.last.reason if state.last and state.status == "running" else state.reason
            console.print(f"{state.status:>8}  {job.id}  {job.label}  {last}", markup=False, highlight=False)
    extra = folder.unplanned(planned)
    if extra:
        console.print(f"{len(extra)} jobs in {folder.path} are not planned by its study.yaml: {', '.join(extra)}")


def table(name: str, results: Path, format: str, output: Path | None) -> None:
    """Write the tidy table of a study."""
    if format not in _FORMATS:
        raise unknown_name("format", format, _FORMATS)
    if format == "parquet" and output is None:
        raise StudyError("parquet is not text; name a file with --output")
    frame = store.read(StudyFolder(name, results).path)
    if format == "parquet":
        frame.to_parquet(output, index=False)
        return
    text = frame.to_csv(index=False) if format == "csv" else frame.to_json(orient="records", indent=1)
    if output is None:
        Console(soft_wrap=True).out(text, end="")
    else:
        output.write_text(text, encoding="utf-8")


def _existing(name: str, results: Path) -> tuple[Plan, StudyFolder]:
    folder = StudyFolder(name, results)
    if not folder.study_file.is_file():
        known = [path.parent.name for path in Path(results).glob("*/study.yaml")]
        raise unknown_name("study", name, known, f"run it first, or name its results folder ({results}) by --results")
    return planning.load(folder.study_file, name=name), folder


def _settled(folder: StudyFolder, states: dict[Job, JobState]) -> dict[Job, JobState]:
    """Call open attempts interrupted when no runner is alive to finish them."""
    from dataclasses import replace

    if runner.is_running(folder):
        return states
    return {
        job: replace(state, status="measured" if state.measured else "left", reason="its runner was killed")
        if state.status == "running"
        else state
        for job, state in states.items()
    }


def _print_counts(console: Console, states: dict[Job, JobState]) -> None:
    counts = Counter(state.status for state in states.values())
    order = ("done", "measured", "running", "failed", "invalid", "left")
    text = ", ".join(f"{counts[status]} {status}" for status in order if counts[status])
    console.print(f"{len(states)} jobs: {text}; {format_energy(spent_by_kind(states))} spent", highlight=False)


def _print_summary(console: Console, planned: Plan, folder: StudyFolder, summary: runner.Summary) -> None:
    rows = Table(title=f"{planned.study.title or planned.name}: energy per 1,000 queries", title_justify="left")
    for column in ("task", "model", "source", "repeat", "Wh", "kind", "quality"):
        rows.add_column(column, justify="right" if column == "Wh" else "left", overflow="fold")
    recorded = [state for state in summary.states.values() if state.record is not None]
    for state in sorted(recorded, key=lambda s: (s.record.task.name, _wh_per_1000(s.record) or 0.0)):
        rows.add_row(*_row(state.record))
    console.print(rows)
    _print_paths(console, summary)
    for job, why in summary.refused.items():
        console.print(f" refused  {job.label}: {why}", markup=False, highlight=False)
    for job, state in summary.states.items():
        if state.status in ("failed", "invalid", "measured"):
            console.print(f"{state.status:>8}  {job.label}: {state.reason}", markup=False, highlight=False)
    _print_counts(console, summary.states)


def _row(record: Record) -> tuple[str, ...]:
    wh = _wh_per_1000(record)
    quality = next((f"{q.metric} {q.value:.3f}" for q in record.quality if q.value is not None), "")
    return (
        record.task.name,
        record.model.name,
        record.model.source,
        str(record.repeat),
        "unavailable" if wh is None else f"{wh:.4g}",
        record.energy_kind,
        quality,
    )


def _print_paths(console: Console, summary: runner.Summary) -> None:
    """Print one line a notebook, with its figures."""
    for job, state in summary.states.items():
        if state.notebook_path is not None:
            figures = sorted((state.notebook_path.parent / "figures").glob("*.png"))
            shown = f"  ({len(figures)} figures in {figures[0].parent})" if figures else ""
            console.print(f"{job.label}: {state.notebook_path}{shown}", markup=False, highlight=False, soft_wrap=True)


def _wh_per_1000(record: Record) -> float | None:
    """Return mean scored energy of a run in Wh per 1,000 queries; None when any part of it is unavailable."""
    scored = [total for total in record.totals() if total.phase in SCORED_PHASES]
    if not scored or any(total.energy_j is None for total in scored):
        return None
    runs = len({total.run for total in scored})
    return sum(total.energy_j for total in scored) / runs / record.queries * 1000 / 3600
