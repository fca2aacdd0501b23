"""Commands for closed models: each parses, calls one function, and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

closed = typer.Typer(
    help="Measure a closed model in a sealed container, and check what others measured so.", no_args_is_help=True
)

KeyFile = Annotated[Path, typer.Option(help="The private key's file.")]


def mount(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(closed, name="sealed")


@closed.command("key")
def key(
    output: Annotated[Path, typer.Option(help="File to write; it stays with you.")] = Path("energylab.key"),
) -> None:
    """Make an Ed25519 key pair; print the public half, which the operator enrols."""
    from energylab_portal.sealed import keys

    made = keys.make(output)
    typer.echo(f"key id      {made.key_id}\npublic key  {made.public}\nprivate key {output} (show it to nobody)")


@closed.command("run")
def run(
    model: Annotated[Path, typer.Option(help="The model's folder, as Transformers or Diffusers save it.")],
    task: Annotated[str, typer.Option(help="The task, or one a plug-in in the image brings.")],
    name: Annotated[str, typer.Option(help="The name the model is shown under; not its own.")],
    key: KeyFile,
    output: Annotated[Path, typer.Option(help="Folder for the bundle and for what stays with you.")],
    image: Annotated[str, typer.Option(help="The runner's image; docker/setup.sh builds it.")] = "energylab-closed",
    gpus: Annotated[int, typer.Option(min=1, help="Boards the model is spread over.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    data: Annotated[Path | None, typer.Option(help="A hub cache with the published data, mounted read-only.")] = None,
    set: Annotated[list[str] | None, typer.Option(help="Any parameter, NAME=VALUE; repeatable.")] = None,
    params: Annotated[
        Path | None, typer.Option(help="A folder laid out like params/; by default ./params, upward.")
    ] = None,
    memory_mb: Annotated[int, typer.Option(min=256, help="Memory the work may use.")] = 8192,
    processes: Annotated[int, typer.Option(min=16, help="Processes and threads it may use.")] = 512,
    results_mb: Annotated[int, typer.Option(min=1, help="Size of its results folder.")] = 64,
    limit_s: Annotated[float, typer.Option(min=1, help="Longest time for one step, in seconds.")] = 3600,
    private: Annotated[list[str] | None, typer.Option(help="A further name that must not appear; repeatable.")] = None,
    attest: Annotated[str, typer.Option(help="What you attest: public,integrity,representative.")] = "",
) -> None:
    """Measure a closed model in a sealed container and sign what may be shown of it."""
    from energylab_portal.sealed import request
    from energylab_portal.sealed import run as sealed

    asked = request.build(
        model=model, task=task, alias=name, key=key, out=output, image=image, gpus=gpus, device=device, data=data,
        settings=set or [], params=params, memory_mb=memory_mb, processes=processes, results_mb=results_mb,
        limit_s=limit_s, private=private or [], attest=attest,
    )  # fmt: skip
    left = sealed.run(asked)
    typer.echo(f"bundle  {left.bundle}  sha256 {left.digest}\nyours   {left.opening}, {left.record}")
    for file in left.results:
        typer.echo(f"result  {file}")


@closed.command("verify")
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's file.")],
    key: Annotated[list[str], typer.Option(help="An enrolled public key in base64; repeatable.")],
    params: Annotated[
        Path | None, typer.Option(help="A folder laid out like params/, with closed/official.yaml.")
    ] = None,
) -> None:
    """Check a bundle: signature, digests, official parts, physics; one line a check."""
    from energylab_portal.sealed import keys, official
    from energylab_portal.sealed.verify import verify as check

    verdict = check(bundle, keys={keys.key_id(public): public for public in key}, official=official.load(params))
    marks = {True: "ok", False: "REFUSED", None: "unknown"}
    for made in verdict.checks:
        typer.echo(f"{marks[made.passed]:8}{made.name:14}{made.words}")
    typer.echo("accepted" if verdict.accepted else "not accepted")
    raise typer.Exit(0 if verdict.accepted else 1)


@closed.command("open")
def open_commitments(
    bundle: Annotated[Path, typer.Argument(help="The bundle's file.")],
    opening: Annotated[Path, typer.Argument(help="An opening, or a part of one.")],
    key: Annotated[list[str], typer.Option(help="An enrolled public key in base64; repeatable.")],
) -> None:
    """Check that what an owner shows is what was committed to."""
    from energylab_portal.sealed import keys, openings

    found = openings.check(bundle, opening, {keys.key_id(public): public for public in key})
    for name, holds in found.items():
        typer.echo(f"{'ok' if holds else 'ANOTHER':8}{name}")
    raise typer.Exit(0 if all(found.values()) else 1)


@closed.command("official")
def official_image(
    image: Annotated[str, typer.Argument(help="An image on this machine.")] = "energylab-closed",
) -> None:
    """Print the lines by which an operator lists an image in params/closed/official.yaml."""
    from energylab_portal.sealed import official

    typer.echo(official.lines_for(image))
