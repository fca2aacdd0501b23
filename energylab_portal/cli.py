"""The portal's command line: each command parses its options, calls one function, and prints the result."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from energylab.cli import run_app

app = typer.Typer(
    name="energylab-portal",
    help="Run a portal for submissions, and measure closed models in a sealed container.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
submit = typer.Typer(help="Submit a model to a portal, and show its status.", no_args_is_help=True)
closed = typer.Typer(
    help="Measure a closed model in a sealed container, and verify such measurements.", no_args_is_help=True
)
app.add_typer(submit, name="submit")
app.add_typer(closed, name="sealed")

Folder = Annotated[Path, typer.Option(help="The portal's folder: database, bundles, releases, pages.")]
DatabaseUrl = Annotated[
    str, typer.Option(help="URL of a PostgreSQL database; default: SQLite in the folder.", envvar="ENERGYLAB_DATABASE")
]
Params = Annotated[Path | None, typer.Option(help="Folder with the layout of params/.")]
Address = Annotated[str, typer.Option("--portal", help="Address of the portal.", envvar="ENERGYLAB_PORTAL")]
Contact = Annotated[str, typer.Option(help="Mail address; only the operator sees it.")]
KeyFile = Annotated[Path, typer.Option(help="File of the private key.")]
PublicKeys = Annotated[list[str], typer.Option(help="Public key in base64, or its file; repeatable.")]

_HERE, _FOLDER = "http://127.0.0.1:8320", Path("results/portal")


@app.command("serve")
def serve(
    folder: Folder = _FOLDER,
    database: DatabaseUrl = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; if not the default, put a proxy with TLS in front.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free port.")] = 8320,
    address: Annotated[str, typer.Option(help="Public URL; https if a proxy on this machine adds TLS.")] = "",
    new_token: Annotated[bool, typer.Option(help="Replace the operator's token, and print the new one once.")] = False,
    submissions_per_minute: Annotated[int, typer.Option(min=1, help="Limit per client address.")] = 30,
    requests_per_second: Annotated[int, typer.Option(min=1, help="Limit per client address.")] = 50,
    waiting: Annotated[int, typer.Option(min=1, help="Waiting submissions per client address.")] = 20,
    params: Params = None,
) -> None:
    """Run the portal's web server. Prints its address and, once, the operator's token."""
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
    devices: Annotated[str, typer.Option(help="cpu, or the index or UUID of one GPU; auto: the only one.")] = "auto",
    once: Annotated[bool, typer.Option(help="End when no submission is left.")] = False,
    params: Params = None,
) -> None:
    """Check and measure submitted open models on one device, one at a time."""
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
    bundle: Annotated[Path, typer.Argument(help="File written by `energylab-portal sealed run`.")],
    contact: Contact,
    attest: Annotated[str, typer.Option(help="Your statements: public,integrity,representative.")],
    portal: Address = _HERE,
) -> None:
    """Submit the bundle of a closed model, with the three required statements."""
    from energylab_portal.client import Client

    _print_receipt(Client(portal).submit_closed(bundle, attest.split(","), contact))


@submit.command("status")
def submit_status(
    link: Annotated[str, typer.Argument(help="The private link, or its last part.")], portal: Address = _HERE
) -> None:
    """Show the status of a submission."""
    from energylab_portal.client import Client, describe

    parts = urlsplit(link)
    root = f"{parts.scheme}://{parts.netloc}" if parts.scheme else portal
    typer.echo(describe(Client(root).status(link)))


def _print_receipt(receipt: dict) -> None:
    typer.echo(f"submission  {receipt['submission']}\nlink        {receipt['page']}\n            private; save it")


@closed.command("key")
def key(
    output: Annotated[Path, typer.Option(help="File for the private key.")] = Path("energylab.key"),
) -> None:
    """Make an Ed25519 key pair; print the public key, which the operator enrols."""
    from energylab_portal.sealed import keys

    made = keys.make(output)
    typer.echo(f"key id      {made.key_id}\npublic key  {made.public}\nprivate key {output} (keep it secret)")


@closed.command("run")
def run(
    model: Annotated[Path, typer.Option(help="Model folder in the format of Transformers or Diffusers.")],
    task: Annotated[str, typer.Option(help="A task of energylab.")],
    name: Annotated[str, typer.Option(help="Public name of the model; not its real name.")],
    key: KeyFile,
    output: Annotated[Path, typer.Option(help="Folder for the bundle and the private files.")],
    image: Annotated[str, typer.Option(help="Image of the runner, built by docker/setup.sh.")] = "energylab-closed",
    gpus: Annotated[int, typer.Option(min=1, help="Number of boards for the model.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data: Annotated[Path | None, typer.Option(help="Hub cache with the published data, mounted read-only.")] = None,
    set: Annotated[list[str] | None, typer.Option(help="Any parameter, NAME=VALUE; repeatable.")] = None,
    params: Params = None,
    memory_mb: Annotated[int, typer.Option(min=256, help="Memory limit of the container.")] = 8192,
    limit_s: Annotated[float, typer.Option(min=1, help="Time limit of one step, in seconds.")] = 3600,
    private: Annotated[list[str] | None, typer.Option(help="Another name that must not appear; repeatable.")] = None,
    attest: Annotated[str, typer.Option(help="Your statements: public,integrity,representative.")] = "",
) -> None:
    """Measure a closed model in a sealed container and sign the public results."""
    from energylab_portal.sealed import run as sealed

    asked = sealed.request(
        model=model, task=task, alias=name, key=key, out=output, image=image, gpus=gpus, device=device, data=data,
        settings=set or [], params=params, memory_mb=memory_mb, limit_s=limit_s,
        private=private or [], attested=attest,
    )  # fmt: skip
    bundle = sealed.run(asked)
    typer.echo(
        f"bundle  {bundle}\npublic  {output / sealed.PUBLIC}, {output / sealed.OFFICIAL}\n"
        f"yours   {output / sealed.OPENING}, {output / sealed.RECORD}\naccepted by the checks that others will make"
    )


@closed.command("verify")
def verify(
    bundle: Annotated[Path, typer.Argument(help="File of the bundle.")],
    key: PublicKeys,
    official: Annotated[Path, typer.Option(help="Signed list of trusted images and data.")],
    lister: Annotated[str, typer.Option(help="Public key that must have signed the list; default: --key.")] = "",
    params: Params = None,
) -> None:
    """Verify a bundle: signature, image, physics; one line per check. No code of the sender is run or loaded."""
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
        typer.echo("note    the image is listed only by the model's owner, not by an operator")
    typer.echo("accepted" if verdict.accepted else "not accepted")
    raise typer.Exit(0 if verdict.accepted else 1)


@closed.command("open")
def open_commitments(
    bundle: Annotated[Path, typer.Argument(help="File of the bundle.")],
    opening: Annotated[Path, typer.Argument(help="An opening, or part of one.")],
    key: PublicKeys,
) -> None:
    """Check that values shown by an owner match the commitments of the bundle."""
    from energylab_portal.sealed.verify import check_opening

    found = check_opening(bundle, opening, key)
    for name, holds in found.items():
        typer.echo(f"{'ok' if holds else 'DIFFERS':8}{name}")
    raise typer.Exit(0 if all(found.values()) else 1)


@closed.command("official")
def official(
    images: Annotated[list[str], typer.Argument(help="Images on this machine, and other lists to include (*.json).")],
    key: KeyFile,
    output: Annotated[Path, typer.Option(help="File of the signed list; operator.pub is written next to it.")],
    data: Annotated[list[str] | None, typer.Option(help="TASK=SAMPLES=DIGEST of published rows; repeatable.")] = None,
) -> None:
    """Sign a list of images and data that you built or checked, and vouch for."""
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
