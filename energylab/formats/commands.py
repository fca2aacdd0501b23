"""Commands for other programs' files: each parses its options, calls one function, and prints."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energylab.publish.commands import Country, GridIntensity, ModelName, ReleaseName, WhichClass, WhichTask

if TYPE_CHECKING:
    from energylab.formats import Imported

export = typer.Typer(help="Write figures as other people's files.", no_args_is_help=True)

RecordFile = Annotated[Path, typer.Argument(metavar="RECORD", help="A record's file or folder.")]
Output = Annotated[Path | None, typer.Option(help="File to write; by default the terminal.")]


def mount(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("import")(import_)
    app.add_typer(export, name="export")


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Reports, tables, or zip archives of them.")],
    unit: Annotated[str | None, typer.Option(help="Unit of energies that nothing proves: kWh, Wh, J …")] = None,
    task: Annotated[str | None, typer.Option(help="The task, where the file does not name it.")] = None,
    model: Annotated[str | None, typer.Option(help="The model, where the file does not name it.")] = None,
    model_class: Annotated[str | None, typer.Option(help="A, B or C, where the file does not say.")] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="Queries the energy is of, where it does not say.")] = None,
    component: Annotated[
        str | None, typer.Option(help="Whose energy is rated: gpu (default), cpu, ram, total.")
    ] = None,
    model_column: Annotated[str | None, typer.Option(help="Column of a table that names the model.")] = None,
    leave_out_invalid: Annotated[bool, typer.Option(help="Drop invalid runs and list them in the record.")] = False,
    format: Annotated[str | None, typer.Option(help="Name of the format; by default the file shows it.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("results/imported"),
) -> None:
    """Import other programs' reports and tables as records with energy kind `imported`, rated separately."""
    from energylab import formats

    asked = formats.Asked(unit, task, model, model_class, queries, component, model_column, leave_out_invalid)
    for line in report(formats.import_files(files, output, asked, format)):
        typer.echo(line)


def report(found: Sequence[Imported]) -> Iterable[str]:
    """Yield the imported files with format, unit and energies, then the missing facts."""
    from energylab.publish.text import plural

    for source in dict.fromkeys(each.source for each in found):
        yield from _file(source, [each for each in found if each.source == source])
    new = sum(each.new for each in found)
    yield plural(new, "new record") + (f", {len(found) - new} already present" if new < len(found) else "")


def _file(source: str, sessions: list[Imported]) -> Iterable[str]:
    from energylab.publish.text import one_line, plural

    origin = sessions[0].record.extra["import"]
    yield f"{one_line(source)}: {sessions[0].format}, {plural(len(sessions), 'session')}"
    yield f"  unit: {origin['unit']}, by {one_line(origin['unit_proof'])}"
    for each in sessions:
        yield from _session(each)
    lacking = Counter(name for each in sessions for name in each.record.missing)
    everywhere = [name for name, count in lacking.items() if count == len(sessions)]
    yield f"  not stated: {', '.join(everywhere)}"
    for note in dict.fromkeys(note for each in sessions for note in each.record.extra["import"]["notes"]):
        yield f"  note: {one_line(note)}"


def _session(each: Imported) -> Iterable[str]:
    from energylab.publish.text import KIND_WORDS, cohort_title, one_line, plural

    record, rated, left_out = each.record, each.rated, each.record.extra["import"]["left_out"]
    figure = _wh(rated.without_wh if left_out else rated.with_wh) + " per 1,000 queries"
    figure = figure if record.valid else f"no figure: {record.reasons[0]}"
    where = cohort_title(record.task.name, record.model.model_class)
    yield f"  {one_line(record.model.name)}, {where}: {figure} ({KIND_WORDS['imported']})"
    if rated.invalid:
        shift = "" if rated.shift is None else f" ({100 * rated.shift:+.1f} % from the invalid ones)"
        yield (
            f"    {rated.invalid} of {plural(rated.runs, 'run')} have an energy that is zero, negative or otherwise "
            f"invalid; with them {_wh(rated.with_wh)}, without them {_wh(rated.without_wh)}{shift}"
        )
    if rated.invalid and not record.valid:
        yield "    the record is invalid and is not rated; --leave-out-invalid keeps the other runs and lists these"
    if left_out:
        yield f"    {plural(len(left_out), 'run')} excluded on request"


def _wh(value: float | None) -> str:
    return "no figure" if value is None else f"{value:.6g} Wh"


@export.command("card")
def export_card(
    release: ReleaseName,
    model: ModelName,
    task: WhichTask = None,
    model_class: WhichClass = None,
    country: Country = None,
    grid_intensity: GridIntensity = None,
    output: Output = None,
) -> None:
    """Write the metadata of a Hugging Face model card: model-index, with the energy of inference."""
    from energylab import release as releases
    from energylab.formats.model_card import model_card
    from energylab.publish import emissions, page

    made = releases.read(release)
    cohort, rated = page.find(made, model, task, model_class)
    _write(model_card(made, cohort, rated, emissions.grid_of(country, grid_intensity)), output)


@export.command("table")
def export_table(
    roots: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of records: results/NAME.")],
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("tables"),
    name: Annotated[str, typer.Option(help="Name of the files.")] = "table",
) -> None:
    """Write all records of a study as one table (CSV and Parquet), with a description of every column."""
    from energylab.formats import study_table

    for path in study_table.write(roots, output, name):
        typer.echo(path)


@export.command("submission")
def export_submission(
    record: RecordFile,
    output: Annotated[Path, typer.Option(help="The archive to write.")] = Path("submission.zip"),
    unofficial: Annotated[bool, typer.Option(help="Write one that is not official too; the report says why.")] = False,
) -> None:
    """Write a session as a zip archive for the AI Energy Score portal."""
    from energylab import store
    from energylab.formats import submission

    typer.echo(submission.write(store.read_record(record), output, unofficial))


@export.command("boamps")
def export_boamps(
    record: RecordFile,
    publisher: Annotated[str, typer.Option(help="Organisation that publishes the report.")] = "",
    infrastructure: Annotated[str, typer.Option(help="publicCloud, privateCloud, onPremise or other.")] = "other",
    country: Country = None,
    output: Output = None,
) -> None:
    """Write a session as a BoAmps report (JSON), valid against its schemas."""
    from energylab import store
    from energylab.formats import disclosure
    from energylab.publish import emissions

    grid = emissions.grid_of(country) if country else None
    _write(disclosure.boamps(store.read_record(record), publisher, infrastructure, grid), output)


@export.command("annex-xi")
def export_annex_xi(record: RecordFile, output: Output = None) -> None:
    """Write the energy part of the EU AI Act's Annex XI documentation, as Markdown, without training."""
    from energylab import store
    from energylab.formats import disclosure

    _write(disclosure.annex_xi(store.read_record(record)), output)


@export.command("sci")
def export_sci(
    record: RecordFile,
    country: Country = None,
    grid_intensity: GridIntensity = None,
    embodied: Annotated[float | None, typer.Option(help="Embodied grams of CO2e a functional unit.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries of a functional unit.")] = 1000,
    output: Output = None,
) -> None:
    """Write a session's Software Carbon Intensity score for AI (consumer), as JSON."""
    from energylab import store
    from energylab.formats import disclosure
    from energylab.publish import emissions

    grid = emissions.grid_of(country, grid_intensity)
    _write(disclosure.sci(store.read_record(record), grid, embodied, queries), output)


def _write(content: str | dict[str, Any], output: Path | None) -> None:
    from energylab.publish import page

    text = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(page.write(output, text))
