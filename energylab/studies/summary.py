"""What a run leaves to look at: the results as a table, and where notebooks and figures are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from energylab import store
from energylab.errors import EnergylabError
from energylab.studies.folder import StudyFolder
from energylab.studies.plan import Plan
from energylab.studies.progress import brief, print_counts
from energylab.studies.runner import Summary
from energylab.table import difference

if TYPE_CHECKING:
    import pandas as pd

_FACTS = ["task", "model", "cohort"]


def show(console: Console, plan: Plan, folder: StudyFolder, summary: Summary) -> None:
    """Print the results of a study, the paths to look at, and what is missing with its reason."""
    if any(state.record is not None for state in summary.states.values()):
        _print_results(console, plan, folder)
    _print_paths(console, summary)
    for job, why in summary.refused.items():
        console.print(f" refused  {job.label}: {why}")
    for job, state in summary.states.items():
        if state.status in ("failed", "invalid", "measured") or (state.status == "left" and state.reason):
            console.print(f"{state.status:>8}  {job.label}: {brief(state.reason)}")
    print_counts(console, summary.states)


def _print_results(console: Console, plan: Plan, folder: StudyFolder) -> None:
    records = store.read(folder.path)
    planned = records["job_id"].isin([job.id for job in plan.jobs])
    strays = records.loc[~planned, "job_id"].nunique()
    records = records[planned]  # a model that was taken out of the study must not set the others' stars
    try:
        rated = results(records)
        figure = draw(rated, folder.path / "figures" / "energies.png")
    except EnergylabError as error:  # the records are there all the same
        console.print(f"not rated: {error}")
        return
    rows = Table(title=f"{plan.study.title or plan.name}: energy of 1,000 queries", title_justify="left", box=None)
    differs = _differences(rated)
    columns = ["task", "model", "source", "Wh", "95 % interval", "stars", "kind", "quality"]
    for column in columns + (["setting"] if any(differs) else []):
        rows.add_column(column, justify="right" if column in ("Wh", "stars") else "left", overflow="fold")
    for row, setting in zip(rated.itertuples(), differs, strict=True):
        rows.add_row(*_cells(row), *([setting] if any(differs) else []))
    console.print(rows)
    for note in sorted(set(rated["note"].dropna()) - {""}):
        console.print(f"note: {note}")
    if strays:
        console.print(f"left out, since the study plans them no more: {strays} of the jobs in {folder.path}")
    console.print(f"figure: {figure}")


def results(records: pd.DataFrame) -> pd.DataFrame:
    """Rate the records of a study, with each model's source and quality beside its energy.

    Parameters
    ----------
    records : pandas.DataFrame
        The tidy table.

    Returns
    -------
    pandas.DataFrame
        As `energylab.rate` returns it, with ``model_source, quality_metric, quality`` (mean over sessions).
    """
    from energylab.ratings import rate

    facts = {"model_source": "first", "quality_metric": "first", "quality": "mean"}
    beside = records.groupby(_FACTS, as_index=False).agg(facts)
    return rate(records).merge(beside, on=_FACTS, how="left")


def _differences(rated: pd.DataFrame) -> list[str]:
    """Say of each row what sets its cohort apart from others of its task; the source has a column of its own."""
    keys = rated.groupby(rated["task"])["cohort"].transform(lambda each: [tuple(each.unique())] * len(each))
    said = (difference(key, others) for key, others in zip(rated["cohort"], keys, strict=True))
    return ["; ".join(fact for fact in each.split("; ") if not fact.startswith("model source=")) for each in said]


def draw(rated: pd.DataFrame, path: Path) -> Path:
    """Draw the ratings of a study into a PNG, and return its path."""
    from energylab import figures

    path.parent.mkdir(parents=True, exist_ok=True)
    figures.plot(rated).savefig(path, dpi=150)
    return path


def _cells(row) -> tuple[str, ...]:
    import pandas as pd

    low, high = row.repeatability_low, row.repeatability_high
    return (
        row.task if pd.isna(row.model_class) else f"{row.task} {row.model_class}",
        row.model,
        row.model_source,
        "unavailable" if pd.isna(row.energy_wh) else f"{row.energy_wh:.4g}",
        "" if pd.isna(low) else f"{low:.4g} to {high:.4g}",
        "" if pd.isna(row.stars) else str(row.stars),
        row.energy_kind,
        "" if pd.isna(row.quality) else f"{row.quality_metric} {row.quality:.3f}",
    )


def _print_paths(console: Console, summary: Summary) -> None:
    """Print one line a notebook, with its figures."""
    for job, state in summary.states.items():
        if state.notebook_path is not None:
            figures = sorted((state.notebook_path.parent / "figures").glob("*.png"))
            shown = f"  ({len(figures)} figures in {figures[0].parent})" if figures else ""
            console.print(f"{job.label}: {state.notebook_path}{shown}")
