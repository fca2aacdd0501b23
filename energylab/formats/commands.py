"""Commands for other people's files: each parses, calls one function, and prints."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from energylab.publish.commands import Country, GridIntensity, ModelName, ReleaseName, WhichClass, WhichTask

export = typer.Typer(help="Write figures as other people's files.", no_args_is_help=True)


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
    cohort: Annotated[str | None, typer.Option(help="A name that sets these records apart from others.")] = None,
    leave_out_invalid: Annotated[bool, typer.Option(help="Drop invalid runs and list them in the record.")] = False,
    format: Annotated[str | None, typer.Option(help="Name of the format; by default the file shows it.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("results/imported"),
) -> None:
    """Read other programs' reports and tables into records of their own cohort, energy kind `imported`."""
    from energylab import formats

    asked = formats.Asked(unit, task, model, model_class, queries, component, model_column, cohort, leave_out_invalid)
    for line in report(formats.import_files(files, output, asked, format)):
        typer.echo(line)


@export.command("card")
def export_card(
    release: ReleaseName,
    model: ModelName,
    task: WhichTask = None,
    model_class: WhichClass = None,
    country: Country = None,
    grid_intensity: GridIntensity = None,
    output: Annotated[Path | None, typer.Option(help="File to write; by default the terminal.")] = None,
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
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default the CSV goes to the terminal.")
    ] = None,
    format: Annotated[list[str] | None, typer.Option(help="csv or parquet; both by default.")] = None,
    name: Annotated[str, typer.Option(help="Name of the files.")] = "table",
) -> None:
    """Write all records of a study as one tidy table, CSV and Parquet, with a data dictionary of every column."""
    from energylab.formats import study_table

    if output is None:
        typer.echo(study_table.csv_of(study_table.read(roots)), nl=False)
        return
    for path in study_table.write(roots, output, tuple(format or study_table.FORMATS), name):
        typer.echo(path)


@export.command("submission")
def export_submission(
    record: Annotated[Path, typer.Argument(help="A record's file or folder.")],
    output: Annotated[Path, typer.Option(help="The archive to write.")] = Path("submission.zip"),
    unofficial: Annotated[bool, typer.Option(help="Write one that is not official too; the report says why.")] = False,
) -> None:
    """Write the zip archive that the AI Energy Score portal takes, of one session."""
    from energylab import store
    from energylab.formats import submission

    typer.echo(submission.write(store.read_record(record), output, unofficial))


def _write(text: str, output: Path | None) -> None:
    from energylab.errors import FormatError

    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FormatError(f"cannot write {output}: {error.strerror}; choose another --output") from error
    typer.echo(output)


def report(found: Iterable) -> Iterable[str]:
    """Yield what was imported: by file its format, unit and figures, then what is missing."""
    from energylab.formats import Imported
    from energylab.publish.text import plural

    sessions = [each for each in found if isinstance(each, Imported)]
    for source in dict.fromkeys(each.source for each in sessions):
        yield from _file(source, [each for each in sessions if each.source == source])
    for each in found:
        if not isinstance(each, Imported):
            yield f"{each.source}: agrees with {each.report}, which is the session"
    new = sum(each.new for each in sessions)
    yield plural(new, "new record") + (f", {len(sessions) - new} there already" if new < len(sessions) else "")


def _file(source: str, sessions: list) -> Iterable[str]:
    from energylab.publish.text import one_line, plural

    origin = sessions[0].record.extra["import"]
    yield f"{one_line(source)}: {sessions[0].format}, {plural(len(sessions), 'session')}"
    yield f"  unit: {origin['unit']}, by {one_line(origin['unit_proof'])}"
    for each in sessions:
        yield from _session(each)
    lacking = Counter(name for each in sessions for name in each.record.missing)
    everywhere = [name for name, count in lacking.items() if count == len(sessions)]
    yield f"  not stated, and left open: {', '.join(everywhere)}"
    for note in dict.fromkeys(note for each in sessions for note in each.record.extra["import"]["notes"]):
        yield f"  note: {one_line(note)}"


def _session(each) -> Iterable[str]:
    from energylab.formats.common import RATED
    from energylab.publish.text import KIND_WORDS, one_line

    record, rated, left_out = each.record, each.rated, each.record.extra["import"]["left_out"]
    place = f" (class {record.model.model_class})" if record.model.model_class else ""
    value = _wh(rated.without_wh if left_out else rated.with_wh)
    figure = f"{value} per 1,000 queries ({KIND_WORDS['imported']})"
    none = "" if record.valid else f"no figure ({KIND_WORDS['imported']}): {record.reasons[0]}"
    yield f"  {one_line(record.model.name)}, {record.task.name}{place}: {none or figure}"
    for total in [total for total in each.totals if total.invalid]:
        what = "rated energy" if total.phase == RATED else total.phase
        shift = "" if total.shift is None else f" ({100 * total.shift:+.1f} % from the invalid ones)"
        yield (
            f"    {what}: {total.invalid} of {total.measures} measures are zero, negative or otherwise invalid; "
            f"with them {_wh(total.with_wh)}, without them {_wh(total.without_wh)}{shift}"
        )
    if rated.invalid and not record.valid:
        yield "    the record is invalid and is not rated; --leave-out-invalid keeps the other runs and lists these"
    if left_out:
        yield f"    {len(left_out)} runs were left out, as asked"


def _wh(value: float | None) -> str:
    return "no figure" if value is None else f"{value:.6g} Wh"


RecordFile = Annotated[Path, typer.Argument(metavar="RECORD", help="A record's file or folder.")]
Output = Annotated[Path | None, typer.Option(help="File to write; by default the terminal.")]


@export.command("boamps")
def export_boamps(
    record: RecordFile,
    publisher: Annotated[str, typer.Option(help="Organisation that publishes the report.")] = "",
    infrastructure: Annotated[str, typer.Option(help="publicCloud, privateCloud, onPremise or other.")] = "other",
    country: Country = None,
    output: Output = None,
) -> None:
    """Write a session as a BoAmps report (JSON), valid by the schemas of BoAmps."""
    from energylab import store
    from energylab.formats import disclosure
    from energylab.publish import emissions

    grid = emissions.grid_of(country) if country else None
    report = disclosure.boamps(store.read_record(record), publisher, infrastructure, grid)
    _write(json.dumps(report, indent=1, ensure_ascii=False) + "\n", output)


@export.command("annex-xi")
def export_annex_xi(record: RecordFile, output: Output = None) -> None:
    """Write the energy part of the EU AI Act's Annex XI documentation, as Markdown; training stays not stated."""
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
    score = disclosure.sci(store.read_record(record), grid, embodied, queries)
    _write(json.dumps(score, indent=1, ensure_ascii=False) + "\n", output)
