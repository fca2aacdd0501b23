"""The portal's command line: each command parses, calls one function, and prints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from energylab.cli import run_app

app = typer.Typer(
    name="energylab-portal",
    help="Serve submissions of open models, and measure closed ones in a sealed container.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
submit = typer.Typer(help="Submit a model to a portal, and follow it.", no_args_is_help=True)
closed = typer.Typer(
    help="Measure a closed model in a sealed container, and check what others measured so.", no_args_is_help=True
)
app.add_typer(submit, name="submit")
app.add_typer(closed, name="sealed")

Folder = Annotated[Path, typer.Option(help="The portal's folder: database, bundles, releases, pages.")]
DatabaseUrl = Annotated[
    str, typer.Option(help="PostgreSQL by URL; SQLite in the folder when left out.", envvar="ENERGYLAB_DATABASE")
]
Params = Annotated[Path | None, typer.Option(help="A folder laid out like params/.")]
Address = Annotated[str, typer.Option("--portal", help="Address of the portal.", envvar="ENERGYLAB_PORTAL")]
Contact = Annotated[str, typer.Option(help="Address for mail; the operator alone sees it.")]
KeyFile = Annotated[Path, typer.Option(help="The private key's file.")]
PublicKeys = Annotated[list[str], typer.Option(help="A public key in base64, or the file that holds it; repeatable.")]

_HERE, _FOLDER = "http://127.0.0.1:8320", Path("results/portal")


@app.command("serve")
def serve(
    folder: Folder = _FOLDER,
    database: DatabaseUrl = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; a proxy with TLS belongs before another.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8320,
    address: Annotated[str, typer.Option(help="Web address by which people reach it; https behind a proxy here.")] = "",
    new_token: Annotated[bool, typer.Option(help="Replace the operator's token, and print the new one once.")] = False,
    submissions_per_minute: Annotated[int, typer.Option(min=1, help="From one address.")] = 30,
    requests_per_second: Annotated[int, typer.Option(min=1, help="From one address.")] = 50,
    waiting: Annotated[int, typer.Option(min=1, help="Submissions of one address that may wait at once.")] = 20,
    params: Params = None,
) -> None:
    """Serve the portal: submit, follow, review, publish, label. Prints its address and, once, the operator's token."""
    from energylab_portal import serve as server
    from energylab_portal.settings import Limits, Settings

    _log()
    limits = Limits(
        submissions_per_minute=submissions_per_minute, requests_per_second=requests_per_second, waiting=waiting
    )
    settings = Settings(folder, database, address.rstrip("/"), str(params.resolve()) if params else None, limits)
    server.run(settings, host, port, typer.echo, new_token)


@app.command("worker")
def worker(
    folder: Folder = _FOLDER,
    database: DatabaseUrl = "",
    measuring: Annotated[str, typer.Option(help="How models are measured: published, trial, or a file.")] = "published",
    executor: Annotated[str, typer.Option(help="Where jobs run: local or slurm.")] = "local",
    devices: Annotated[
        str, typer.Option(help="cpu, or the index or UUID of one GPU; auto where there is one.")
    ] = "auto",
    once: Annotated[bool, typer.Option(help="End when nothing is left to do.")] = False,
    params: Params = None,
) -> None:
    """Check and measure the open models that were submitted, one at a time on one device."""
    from energylab_portal import worker as workers

    _log()
    workers.start(folder, database, measuring, executor, devices, once, str(params.resolve()) if params else None)


@submit.command("open")
def submit_open(
    model: Annotated[str, typer.Argument(help="Hub id: organisation/name.")],
    task: Annotated[list[str], typer.Option(help="Task; may be given several times.")],
    contact: Contact,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    portal: Address = _HERE,
) -> None:
    """Submit an open model to be measured."""
    from energylab_portal.client import Client

    _print_receipt(Client(portal).submit_open(model, task, contact, revision))


@submit.command("closed")
def submit_closed(
    bundle: Annotated[Path, typer.Argument(help="As `energylab-portal sealed run` wrote it.")],
    contact: Contact,
    attest: Annotated[str, typer.Option(help="What you state: public,integrity,representative.")],
    portal: Address = _HERE,
) -> None:
    """Submit the bundle of a closed model, with the three statements you make."""
    from energylab_portal.client import Client

    _print_receipt(Client(portal).submit_closed(bundle, attest.split(","), contact))


@submit.command("status")
def submit_status(
    link: Annotated[str, typer.Argument(help="The private link, or its last part.")], portal: Address = _HERE
) -> None:
    """Show where a submission is."""
    from energylab_portal.client import Client, describe

    parts = urlsplit(link)
    root = f"{parts.scheme}://{parts.netloc}" if parts.scheme else portal
    typer.echo(describe(Client(root).status(link)))


def _print_receipt(receipt: dict) -> None:
    typer.echo(f"submission  {receipt['submission']}\nlink        {receipt['page']}\n            private: keep it")


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
    task: Annotated[str, typer.Option(help="One of energylab's tasks.")],
    name: Annotated[str, typer.Option(help="The name the model is shown under; not its own.")],
    key: KeyFile,
    output: Annotated[Path, typer.Option(help="Folder for the bundle and for what stays with you.")],
    image: Annotated[str, typer.Option(help="The runner's image; docker/setup.sh builds it.")] = "energylab-closed",
    gpus: Annotated[int, typer.Option(min=1, help="Boards the model is spread over.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    data: Annotated[Path | None, typer.Option(help="A hub cache with the published data, mounted read-only.")] = None,
    set: Annotated[list[str] | None, typer.Option(help="Any parameter, NAME=VALUE; repeatable.")] = None,
    params: Params = None,
    memory_mb: Annotated[int, typer.Option(min=256, help="Memory the work may use.")] = 8192,
    limit_s: Annotated[float, typer.Option(min=1, help="Longest time for one step, in seconds.")] = 3600,
    private: Annotated[list[str] | None, typer.Option(help="A further name that must not appear; repeatable.")] = None,
    attest: Annotated[str, typer.Option(help="What you attest: public,integrity,representative.")] = "",
) -> None:
    """Measure a closed model in a sealed container and sign what may be shown of it."""
    from energylab_portal.sealed import run as sealed

    asked = sealed.request(
        model=model, task=task, alias=name, key=key, out=output, image=image, gpus=gpus, device=device, data=data,
        settings=set or [], params=params, memory_mb=memory_mb, limit_s=limit_s,
        private=private or [], attested=attest,
    )  # fmt: skip
    bundle = sealed.run(asked)
    typer.echo(
        f"bundle  {bundle}\npublic  {output / sealed.PUBLIC}, {output / sealed.OFFICIAL}\n"
        f"yours   {output / sealed.OPENING}, {output / sealed.RECORD}\naccepted here; others check it the same way"
    )


@closed.command("verify")
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's file.")],
    key: PublicKeys,
    official: Annotated[Path, typer.Option(help="A signed list of images and data that count.")],
    lister: Annotated[str, typer.Option(help="Public key that must have signed the list; --key's by default.")] = "",
    params: Params = None,
) -> None:
    """Check a bundle: signature, image, physics; one line a check. Nothing of the sender's is run or loaded."""
    from energylab_portal.sealed import keys
    from energylab_portal.sealed.verify import read_list
    from energylab_portal.sealed.verify import verify as check

    known = {identity: public for one in key for identity, public in keys.read_public(one).items()}
    listed = read_list(official, keys.read_public(lister) if lister else known)
    verdict = check(bundle, keys=known, official=listed, params=params)
    marks = {True: "ok", False: "REFUSED", None: "unknown"}
    for made in verdict.checks:
        typer.echo(f"{marks[made.passed]:8}{made.name:14}{made.words}")
    if listed.key_id == verdict.key_id:
        typer.echo("note    the image is listed by the model's owner alone; an operator's list would vouch for it")
    typer.echo("accepted" if verdict.accepted else "not accepted")
    raise typer.Exit(0 if verdict.accepted else 1)


@closed.command("open")
def open_commitments(
    bundle: Annotated[Path, typer.Argument(help="The bundle's file.")],
    opening: Annotated[Path, typer.Argument(help="An opening, or a part of one.")],
    key: PublicKeys,
) -> None:
    """Check that what an owner shows is what was committed to."""
    from energylab_portal.sealed.verify import check_opening

    found = check_opening(bundle, opening, key)
    for name, holds in found.items():
        typer.echo(f"{'ok' if holds else 'ANOTHER':8}{name}")
    raise typer.Exit(0 if all(found.values()) else 1)


@closed.command("official")
def official(
    images: Annotated[list[str], typer.Argument(help="Images on this machine, and lists to take over (*.json).")],
    key: KeyFile,
    output: Annotated[Path, typer.Option(help="The signed list; operator.pub is written beside it.")],
    data: Annotated[list[str] | None, typer.Option(help="TASK=SAMPLES=DIGEST of published rows; repeatable.")] = None,
) -> None:
    """List images and data that count, and sign the list: what you built or checked, and vouch for."""
    from energylab_portal.sealed.run import list_official

    listed = list_official(images, data or [], key, output)
    typer.echo("\n".join(f"listed  {one.name} {one.digest[:19]}…" for one in listed.images))


def _log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("energylab_portal").setLevel(logging.INFO)


def main() -> None:
    run_app(app)


if __name__ == "__main__":
    main()
