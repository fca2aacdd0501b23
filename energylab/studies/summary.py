"""What a run leaves to look at: the results as a table, and where notebooks and figures are."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from energylab.record import SCORED_PHASES, Record
from energylab.studies.folder import StudyFolder
from energylab.studies.plan import Plan
from energylab.studies.progress import brief, print_counts
from energylab.studies.runner import Summary


def show(console: Console, plan: Plan, folder: StudyFolder, summary: Summary) -> None:
    """Print the results of a study, the paths to look at, and what is missing with its reason."""
    rows = Table(title=f"{plan.study.title or plan.name}: energy per 1,000 queries", title_justify="left")
    for column in ("task", "model", "source", "repeat", "Wh", "kind", "quality"):
        rows.add_column(column, justify="right" if column == "Wh" else "left", overflow="fold")
    records = [state.record for state in summary.states.values() if state.record is not None]
    for record in sorted(records, key=lambda record: (record.task.name, wh_per_1000(record) or 0.0)):
        rows.add_row(*_row(record))
    console.print(rows)
    _print_paths(console, summary)
    for job, why in summary.refused.items():
        console.print(f" refused  {job.label}: {why}", markup=False, highlight=False)
    for job, state in summary.states.items():
        if state.status in ("failed", "invalid", "measured"):
            line = f"{state.status:>8}  {job.label}: {brief(state.reason)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    print_counts(console, summary.states)


def _row(record: Record) -> tuple[str, ...]:
    wh = wh_per_1000(record)
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


def _print_paths(console: Console, summary: Summary) -> None:
    """Print one line a notebook, with its figures."""
    for job, state in summary.states.items():
        if state.notebook_path is not None:
            figures = sorted((state.notebook_path.parent / "figures").glob("*.png"))
            shown = f"  ({len(figures)} figures in {figures[0].parent})" if figures else ""
            console.print(f"{job.label}: {state.notebook_path}{shown}", markup=False, highlight=False, soft_wrap=True)


def wh_per_1000(record: Record) -> float | None:
    """Return mean scored energy of a run in Wh per 1,000 queries; None when any part of it is unavailable."""
    scored = [total for total in record.totals() if total.phase in SCORED_PHASES]
    if not scored or any(total.energy_j is None for total in scored):
        return None
    runs = len({total.run for total in scored})
    return sum(total.energy_j for total in scored) / runs / record.queries * 1000 / 3600
