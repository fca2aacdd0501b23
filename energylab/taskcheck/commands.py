"""Commands on tasks: list them, and hold one against the contract."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

tasks = typer.Typer(help="List tasks, and check one that is new.", no_args_is_help=True)

Params = Annotated[Path | None, typer.Option(help="A folder laid out like params/; by default ./params, upward.")]


def mount(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(tasks, name="task")


@tasks.command("list")
def task_list(params: Params = None) -> None:
    """List every task by name: those in params/tasks/ and those that installed packages bring."""
    from energylab.taskcheck import listing

    for line in listing.lines(params):
        typer.echo(line)


@tasks.command("check")
def task_check(
    name: Annotated[str, typer.Argument(metavar="TASK", help="A task's name, or the path of its YAML file.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Architecture to try it on; by default check_models of the file.")
    ] = None,
    params: Params = None,
) -> None:
    """Hold a task against the contract, and say what is missing and how to mend it; ends with 1 if anything is."""
    from energylab import taskcheck
    from energylab.tasks.models import quiet

    with quiet():
        report = taskcheck.check(name, model or (), params)
    typer.echo(report.text())
    sys.exit(0 if report.passed else 1)
