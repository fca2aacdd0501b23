"""The portal's command line: each command parses, calls one function, and prints."""

from __future__ import annotations

import typer

from energylab.cli import run_app
from energylab_portal import commands
from energylab_portal.sealed import commands as sealed

app = typer.Typer(
    name="energylab-portal",
    help="Serve submissions of open models, and measure closed ones in a sealed container.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
commands.mount(app)
sealed.mount(app)


def main() -> None:
    """Run the command line; an error of energylab is one message, not a traceback."""
    run_app(app)


if __name__ == "__main__":
    main()
