"""The command line: each command parses its options, calls one function and prints."""

from __future__ import annotations

import importlib
import sys
import warnings
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from energylab import __version__
from energylab.errors import EnergylabError

#: Commands and the modules whose ``mount`` adds them; a module is loaded when one of its commands is called.
MODULES = {
    "study": "energylab.studies.commands",
    "release": "energylab.publish.commands",
    "leaderboard": "energylab.publish.commands",
    "label": "energylab.publish.commands",
    "statement": "energylab.publish.commands",
    "report": "energylab.publish.commands",
    "publish": "energylab.publish.commands",
    "budget": "energylab.publish.commands",
    "compare": "energylab.publish.commands",
    "task": "energylab.taskcheck",
    "import": "energylab.formats.commands",
    "export": "energylab.formats.commands",
}


class LazyGroup(TyperGroup):
    """A group of commands that loads only the module of the called command."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name all commands."""
        return [*MODULES, *self._own]

    def get_command(self, ctx: Any, name: str) -> Any:
        """Return one command."""
        return _mounted(MODULES[name])[name] if name in MODULES else self._own.get(name)

    @property
    def commands(self) -> dict[str, Any]:
        """All commands, loaded."""
        return {name: self.get_command(None, name) for name in self.list_commands(None)}

    @commands.setter
    def commands(self, own: dict[str, Any]) -> None:
        self._own = own


@cache
def _mounted(module: str) -> dict[str, Any]:
    part = typer.Typer()
    importlib.import_module(module).mount(part)
    return typer.main.get_group(part).commands


app = typer.Typer(
    name="energylab",
    cls=LazyGroup,
    help="Measure the energy of AI models with its uncertainty, rate models by stars, and publish repeatable results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"energylab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def doctor() -> None:
    """Show devices and meters of this machine, and a command that fixes each problem."""
    from energylab import doctor as physician

    typer.echo(physician.render(physician.report()))


def _one_line(message: Warning | str, *_: object) -> None:
    """Print a warning without its file and line of code."""
    typer.echo(f"warning: {message}", err=True)


def main() -> None:
    """Run the command line; errors of energylab are printed without a traceback."""
    run_app(app)


def run_app(app: typer.Typer) -> None:
    """Run a command line; errors of energylab are printed without a traceback."""
    warnings.showwarning = _one_line
    try:
        app()
    except EnergylabError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
