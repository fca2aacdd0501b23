"""Commands of the portal: each parses, calls one function, and prints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from energylab.errors import MissingExtraError

submit = typer.Typer(help="Submit a model to a portal, and follow it.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option(help="The portal's folder: database, bundles, releases, pages.")]
DatabaseUrl = Annotated[
    str, typer.Option(help="PostgreSQL by URL; SQLite in the folder when left out.", envvar="ENERGYLAB_DATABASE")
]
Params = Annotated[Path | None, typer.Option(help="A folder laid out like params/; by default ./params, upward.")]
Address = Annotated[str, typer.Option("--portal", help="Address of the portal.", envvar="ENERGYLAB_PORTAL")]
Contact = Annotated[str, typer.Option(help="Address for mail; the operator alone sees it.")]

_HERE = "http://127.0.0.1:8320"
_FOLDER = Path("results/portal")


def mount(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(submit, name="submit")
    app.command("serve")(portal)
    app.command("worker")(worker)


def portal(
    folder: Folder = _FOLDER,
    database: DatabaseUrl = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; a proxy with TLS belongs before another.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8320,
    address: Annotated[str, typer.Option(help="Web address by which people reach it; https behind a proxy here.")] = "",
    new_token: Annotated[bool, typer.Option(help="Replace the operator's token, and print the new one once.")] = False,
    submissions_per_minute: Annotated[float, typer.Option(min=0.1, help="From one address.")] = 30.0,
    requests_per_second: Annotated[float, typer.Option(min=0.1, help="From one address.")] = 50.0,
    largest_bundle_mb: Annotated[int, typer.Option(min=1, help="Largest upload of a closed result.")] = 24,
    verbose: Annotated[bool, typer.Option(help="Log every request by its pattern, without its path.")] = False,
    params: Params = None,
) -> None:
    """Serve the portal: submit, follow, review, publish, label. Prints its address and, once, the operator's token."""
    with _extra():
        from energylab_portal import serve
        from energylab_portal.settings import Limits, Settings
    _log(verbose)
    limits = Limits(
        submissions_per_minute=submissions_per_minute, requests_per_second=requests_per_second,
        bundle_bytes=largest_bundle_mb << 20,
    )  # fmt: skip
    settings = Settings(folder, database, address.rstrip("/"), str(params.resolve()) if params else None, limits)
    serve.run(settings, host, port, typer.echo, new_token)


def worker(
    folder: Folder = _FOLDER,
    database: DatabaseUrl = "",
    protocol: Annotated[
        str, typer.Option(help="How models are measured: a name in params/portal/, or a file.")
    ] = "published",
    executor: Annotated[str, typer.Option(help="Where jobs run: local or slurm.")] = "local",
    devices: Annotated[str, typer.Option(help="auto, cpu, or GPU indices or UUIDs; one worker process each.")] = "auto",
    once: Annotated[bool, typer.Option(help="End when nothing is left to do.")] = False,
    lease: Annotated[
        float, typer.Option(min=2, help="Seconds after which a silent worker's work is another's.")
    ] = 60.0,
    work: Annotated[Path | None, typer.Option(help="Folder for the studies; by default work/ in the portal's.")] = None,
    params: Params = None,
) -> None:
    """Check and measure the open models that were submitted, one at a time on each device."""
    with _extra():
        from energylab_portal import start_workers
    _log(False)
    options = start_workers.Options(
        folder,
        database,
        protocol,
        executor,
        devices,
        once,
        lease,
        work,
        str(params.resolve()) if params else None,
    )
    start_workers.run(options)


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
    from urllib.parse import urlsplit

    from energylab_portal.client import Client, describe

    parts = urlsplit(link)
    root = f"{parts.scheme}://{parts.netloc}" if parts.scheme else portal
    typer.echo(describe(Client(root).status(link)))


def _print_receipt(receipt: dict) -> None:
    typer.echo(f"submission  {receipt['submission']}\nlink        {receipt['page']}\n            private: keep it")


class _extra:  # noqa: N801 - reads like a word
    """Name the extra when a library of it is missing."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("energylab"):
            raise MissingExtraError(f"the portal needs {error.name}: pip install energylab-portal") from error


def _log(verbose: bool) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("energylab_portal").setLevel(logging.DEBUG if verbose else logging.INFO)
