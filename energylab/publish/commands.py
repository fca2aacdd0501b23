"""Commands that publish; each parses its options, calls one function and prints."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energylab.publish.emissions import PUE

if TYPE_CHECKING:
    from energylab.release import Move, RatedCohort, RatedModel, Release

releases = typer.Typer(help="Rate records into a release, and compare releases.", no_args_is_help=True)
leaderboards = typer.Typer(help="Write a release as web pages.", no_args_is_help=True)

ReleaseName = Annotated[str, typer.Argument(metavar="RELEASE", help="A release's file, or a name in results/releases.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name in the release.")]
WhichTask = Annotated[str | None, typer.Option("--task", help="Task, if the model is rated for several.")]
WhichClass = Annotated[str | None, typer.Option("--model-class", help="Size class, if it is rated in several.")]
Country = Annotated[str | None, typer.Option("--country", help="Country of the grid, FRA or France; default: world.")]
GridIntensity = Annotated[
    float | None, typer.Option("--grid-intensity", help="Grams of CO2e per kWh, instead of a country's.")
]
Address = Annotated[str | None, typer.Option(help="Web address of the leaderboard, for the QR codes.")]


class Format(StrEnum):
    """File formats of a label."""

    svg = "svg"
    png = "png"
    pdf = "pdf"


def mount(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(releases, name="release")
    app.add_typer(leaderboards, name="leaderboard")
    for command in (label, statement, report, publish, budget, compare):
        app.command(command.__name__)(command)


@releases.command("make")
def release_make(
    roots: Annotated[
        list[str], typer.Option("--from", help="Records, folders, CSVs or published:2025-02; repeatable.")
    ],
    name: Annotated[str, typer.Option(help="Name of the release and its file.")],
    date: Annotated[str, typer.Option(help="Date of the release, YYYY-MM-DD.")],
    scheme: Annotated[
        str, typer.Option(help="equal_width, log_width, quantiles, reference, or file.py:Class.")
    ] = "equal_width",
    cohort: Annotated[str | None, typer.Option(help="Cohort to rate if there are several: number or largest.")] = None,
    address: Address = None,
    noise: Annotated[
        float | None, typer.Option(help="Relative standard error assumed without repeats: 0.01 is 1 %.")
    ] = None,
    gain: Annotated[float, typer.Option(help="Largest relative gain error of a board's sensor.")] = 0.05,
    draws: Annotated[int, typer.Option(help="Redraws for the probabilities of stars.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the redraws.")] = 0,
    previous: Annotated[str | None, typer.Option(help="Earlier release, to list what changed.")] = None,
    folder: Annotated[Path, typer.Option(help="Folder of all releases.")] = Path("results/releases"),
) -> None:
    """Rate one cohort per task and size class, and write a dated release; releases are never overwritten."""
    from energylab import release
    from energylab.studies.state import planned_roots

    earlier = None if previous is None else release.read(previous)
    made = release.make(
        planned_roots(roots), name=name, date=date, scheme=scheme, cohort=cohort, address=address, noise=noise,
        gain=gain, draws=draws, seed=seed, previous=earlier,
    )  # fmt: skip
    path = release.write(made, folder)
    for rated in made.cohorts:
        typer.echo(f"{rated.key}: {len(rated.models)} models, {'official' if rated.official else 'not official'}")
    _print_left_out(made, path, "release make")
    if made.previous:
        _print_moves(made.previous.moves)
    typer.echo(f"{path}  sha256 {made.digest()}")


@releases.command("compare")
def release_compare(old: ReleaseName, new: ReleaseName) -> None:
    """Show what changed between two releases: models that joined, left or have other stars, and why."""
    from energylab import release

    _print_moves(release.moves(release.read(old), release.read(new)))


def _print_moves(moves: tuple[Move, ...]) -> None:
    from energylab.publish import text

    for move in moves:
        where = text.cohort_title(move.task, move.model_class)
        stars = f"{move.stars_before or '-'} to {move.stars_now or '-'} stars"
        typer.echo(f"{move.what}: {text.one_line(move.model)} ({where}), {stars}: {move.why}")
    if not moves:
        typer.echo("no changes: the same models and stars")


def _print_left_out(made: Release, path: Path, command: str) -> None:
    """Print how many records were not rated, one line per reason."""
    from energylab.publish import text

    reasons = Counter((left.task, left.why) for left in made.left_out)
    for (task, why), count in reasons.most_common():
        typer.echo(f"left out: {text.plural(count, 'record')} of {text.one_line(task)}, {text.one_line(why)}")
    if reasons:
        typer.echo(f"  all are listed in {path} (left_out); rate another cohort with `energylab {command} --cohort`")


@leaderboards.command("build")
def leaderboard_build(
    release: ReleaseName,
    output: Annotated[Path, typer.Option(help="Folder to write; an earlier leaderboard in it is replaced.")],
    records: Annotated[
        list[Path] | None, typer.Option(help="Folder of records to offer for download; repeatable.")
    ] = None,
    labels: Annotated[bool, typer.Option(help="Draw a label for every model.")] = True,
) -> None:
    """Write the leaderboard of a release as pages that need no server or network."""
    from energylab import release as releases_
    from energylab.publish import leaderboard

    typer.echo(leaderboard.build(releases_.read(release), output, records or (), with_labels=labels))


def _found(
    release: str, model: str, task: str | None, model_class: str | None
) -> tuple[Release, RatedCohort, RatedModel]:
    """Return a release, and the cohort and model in it that the options name."""
    from energylab import release as releases_
    from energylab.publish import page

    made = releases_.read(release)
    return made, *page.find(made, model, task, model_class)


def label(
    release: ReleaseName,
    model: ModelName,
    format: Annotated[Format, typer.Option(help="SVG, or PNG and PDF by Chromium.")] = Format.svg,
    task: WhichTask = None,
    model_class: WhichClass = None,
    output: Annotated[Path | None, typer.Option(help="File to write; by default named after the model.")] = None,
) -> None:
    """Draw the label of one model."""
    from energylab.publish import label as labels

    typer.echo(labels.write(*_found(release, model, task, model_class), format.value, output))


def statement(
    release: ReleaseName,
    model: ModelName,
    task: WhichTask = None,
    model_class: WhichClass = None,
    country: Country = None,
    grid_intensity: GridIntensity = None,
    output: Annotated[Path, typer.Option(help="Folder to write the two files to.")] = Path(),
) -> None:
    """Write the one-page statement on a model for policy and purchasing, as HTML and Markdown."""
    from energylab.publish import emissions
    from energylab.publish import statement as statements

    grid = emissions.grid_of(country, grid_intensity)
    for path in statements.write(*_found(release, model, task, model_class), grid, output):
        typer.echo(path)


def report(
    release: ReleaseName,
    output: Annotated[Path | None, typer.Option(help="HTML file; by default reports/NAME.html.")] = None,
    pdf: Annotated[bool, typer.Option(help="Also write a PDF, by Chromium.")] = False,
) -> None:
    """Render the report of a release as one self-contained page; nothing is measured again."""
    from energylab import release as releases_
    from energylab.publish import report as reports

    made = releases_.read(release)
    typer.echo(reports.write(made, output or Path("reports") / f"{made.name}.html", pdf))


def publish(
    study: Annotated[Path, typer.Argument(help="A study's folder of records: results/NAME.")],
    output: Annotated[Path | None, typer.Option(help="Folder to write; by default STUDY/published.")] = None,
    cohort: Annotated[str, typer.Option(help="Cohort to rate if there are several: number or largest.")] = "largest",
    address: Address = None,
) -> None:
    """Make a release of a study's records, with leaderboard and report."""
    from energylab.publish.report import what_it_cost
    from energylab.publish.study import publish_study

    made = publish_study(study, output or study / "published", cohort, address)
    typer.echo(f"release     {made.release_file}\nleaderboard {made.leaderboard}\nreport      {made.report}")
    if cost := what_it_cost(made.release):
        typer.echo(cost)
    _print_left_out(made.release, made.release_file, "publish")


def budget(
    release: ReleaseName,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="One model of the release, or two.")],
    queries: Annotated[float, typer.Option(min=0, help="Queries a day.")],
    task: WhichTask = None,
    model_class: WhichClass = None,
    country: Country = None,
    grid_intensity: GridIntensity = None,
    pue: Annotated[float, typer.Option(help="Power usage effectiveness of the building.")] = PUE,
    price: Annotated[float, typer.Option(help="Price of a kWh, in any currency.")] = 0.0,
) -> None:
    """Show energy, cost and CO2e of a year of queries, each with its interval, for one or two models."""
    from energylab.publish import budget as budgets
    from energylab.publish import emissions

    grid = emissions.grid_of(country, grid_intensity)
    for name in models:
        _, cohort, model = _found(release, name, task, model_class)
        typer.echo("\n".join(budgets.lines(cohort, model, budgets.budget(model, queries, grid, pue, price))))
    assumed = f"{grid.g_per_kwh:.4g} g CO2e per kWh, {grid.name} ({grid.source})"
    typer.echo(f"{queries:,.10g} queries a day, PUE {pue:g}, {assumed}\n{budgets.LEFT_OUT}")


def compare(
    a: Annotated[Path, typer.Argument(help="Reference records: a folder, file or table.")],
    b: Annotated[Path, typer.Argument(help="New records.")],
    margin: Annotated[str, typer.Option(help="Largest difference that counts as equivalent: 3% or 0.03.")] = "3%",
    alpha: Annotated[float, typer.Option(help="False-alarm rate of each one-sided test.")] = 0.05,
) -> None:
    """Test whether B needs more energy than A: exit status 0 better or equivalent, 1 worse, 3 undecided."""
    from energylab import store
    from energylab.ratings import equivalence

    found = equivalence.compare(store.read(a), store.read(b), equivalence.as_share(margin), alpha)
    typer.echo("\n".join(equivalence.lines(found)))
    raise typer.Exit({"worse": 1, "undecided": 3}.get(found.verdict, 0))
