"""What several commands ask of their user in the same words: a release, one of its models, a grid."""

from __future__ import annotations

from typing import Annotated

import typer

ReleaseName = Annotated[str, typer.Argument(metavar="RELEASE", help="A release's file, or a name in results/releases.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name in the release.")]
WhichTask = Annotated[str | None, typer.Option("--task", help="Where the model is rated for several tasks.")]
WhichClass = Annotated[str | None, typer.Option("--model-class", help="Where it is rated in several classes.")]
Country = Annotated[str | None, typer.Option("--country", help="Grid to assume, FRA or USA …; by default the world's.")]
GridIntensity = Annotated[
    float | None, typer.Option("--grid-intensity", help="Grams of CO2e a kWh, in place of a table's.")
]
