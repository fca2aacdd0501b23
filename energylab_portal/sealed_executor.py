"""Jobs of a study on this machine, each measured in a sealed container: the process here holds the meters alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from energylab.studies.run import Book, local
from energylab_portal.protocol import Sealing
from energylab_portal.sealed import leftovers

#: Environment variable by which a job is told its container, as JSON.
ORDERS = "ENERGYLAB_SEALED"


class Orders(BaseModel):
    """What a sealed job is told beside the session's parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sealing: Sealing  # the container
    model: str  # the folder of the model's files
    data: str  # a hub cache that holds data alone; it is mounted, so nothing else may lie in it


def variables(orders: Orders) -> dict[str, str]:
    """Return the variables of a sealed job: its orders, and a hub cache of its own, without the user's token in it.

    What is in the cache can be read by the model's code, and the answers of that code go into a record.
    """
    from huggingface_hub import constants

    home = Path(orders.data)
    return {
        ORDERS: orders.model_dump_json(),
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_DATASETS_CACHE": str(home / "datasets"),
        "HF_TOKEN_PATH": constants.HF_TOKEN_PATH,
    }


def sealed(book: Book, devices: str, orders: Orders, sweep: Callable[[], object] = leftovers.sweep) -> None:
    """Run jobs here, one a device, each by a process that starts a sealed container and watches it.

    Parameters
    ----------
    book : Book
    devices : str
        As `energylab.studies.run.local` takes them.
    orders : Orders
    sweep : callable
        Takes away the containers that dead processes left running: before anything starts, since they would be in
        its energy, and whenever a job has ended.
    """
    sweep()
    local(book, devices, "energylab_portal.sealed_job", variables(orders), after=sweep)
