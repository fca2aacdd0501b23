"""The command line: each command parses, calls one function, and prints."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from energylab import taskcheck
from energylab.errors import EnergylabError
from energylab.formats import commands as formats
from energylab.publish import commands as publishing

app = typer.Typer(
    name="energylab",
    help="Measure the energy of AI models, say how sure the figure is, rate it, and let others repeat it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
study = typer.Typer(help="Plan, run and share studies: many jobs from one YAML file.", no_args_is_help=True)
app.add_typer(study, name="study")
publishing.mount(app)
app.add_typer(taskcheck.commands, name="task")
formats.mount(app)

StudyPath = Annotated[Path, typer.Argument(help="A study's YAML file, or the name of one in params/studies/.")]
StudyName = Annotated[str, typer.Argument(help="The name of a study: its folder in results/.")]
Results = Annotated[Path, typer.Option(help="The folder of all studies.")]
Params = Annotated[Path | None, typer.Option(help="A folder laid out like params/; by default ./params, upward.")]


@study.command("plan")
def study_plan(path: StudyPath, params: Params = None, results: Results = Path("results")) -> None:
    """Show the jobs of a study, their ids, and an estimate of time and energy."""
    from energylab.studies import show

    show.plan(path, results, params)


@study.command("run")
def study_run(
    path: StudyPath,
    executor: Annotated[
        str, typer.Option(help="Where jobs run: local, slurm, one that is registered, or file.py:Class.")
    ] = "local",
    devices: Annotated[str, typer.Option(help="auto, cpu, or GPU indices or UUIDs separated by commas.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Start at most so many jobs.")] = None,
    cold: Annotated[bool, typer.Option(help="Start every kernel from nothing, not from a warm process.")] = False,
    detach: Annotated[bool, typer.Option(help="Hand the jobs over and return; for Slurm.")] = False,
    retry: Annotated[list[str] | None, typer.Option(help="Try jobs again that are: failed, invalid.")] = None,
    params: Params = None,
    results: Results = Path("results"),
) -> None:
    """Run every job that a study still lacks; interrupt it at any time and call it again."""
    from energylab.studies import show

    options = show.RunOptions(executor, devices, limit, cold, detach, tuple(retry or ()))
    sys.exit(show.run(path, results, params, options))


@study.command("status")
def study_status(name: StudyName, results: Results = Path("results")) -> None:
    """Show what is done, running, failed (with the reason), invalid and left."""
    from energylab.studies import show

    show.status(name, results)


@study.command("table")
def study_table(
    name: StudyName,
    format: Annotated[str, typer.Option(help="csv, parquet or json.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="File to write; by default the terminal (csv and json).")] = None,
    results: Results = Path("results"),
) -> None:
    """Write all records of a study as one tidy table."""
    from energylab.studies import show

    show.table(name, results, format, output)


@study.command("fetch")
def study_fetch(path: StudyPath, params: Params = None, results: Results = Path("results")) -> None:
    """Download a study's models and data, and freeze their revisions; jobs then run offline."""
    from energylab.studies import show

    show.fetch(path, results, params)


@study.command("pack")
def study_pack(
    name: StudyName,
    output: Annotated[Path | None, typer.Option(help="The archive; by default NAME.tar.gz.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="For the citation; may be given several times.")] = None,
    results: Results = Path("results"),
) -> None:
    """Write one archive of a study to share and to cite: study, lock, versions, records, CITATION.cff."""
    from energylab.studies import show

    show.pack(name, results, output, tuple(author or ()))


@app.command()
def doctor() -> None:
    """Show what this machine can measure, what it cannot, and the command that would change it."""
    from energylab import doctor as physician

    typer.echo(physician.render(physician.report()))


def _one_line(message: Warning | str, *_: object) -> None:
    """Print a warning as people read it: without the file and the line of code that gave it."""
    typer.echo(f"warning: {message}", err=True)


def main() -> None:
    """Run the command line; an error of energylab is one message, not a traceback."""
    run_app(app)


def run_app(app: typer.Typer) -> None:
    """Run a command line; an error of energylab is one message, not a traceback."""
    warnings.showwarning = _one_line
    try:
        app()
    except EnergylabError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
