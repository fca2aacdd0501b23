"""Jobs of a study on this machine, each measured in a sealed container: the process here holds the meters alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from energylab.studies.executors.base import Ended
from energylab.studies.executors.local import LocalExecutor
from energylab.studies.folder import Outcome, StudyFolder
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


class SealedExecutor(LocalExecutor):
    """Run jobs here, one a device, each by a process that starts a sealed container and watches it.

    Parameters
    ----------
    devices : str
        As `LocalExecutor` takes them.
    orders : Orders
    sweep : callable
        Takes away what dead processes left running.
    """

    name = "sealed"
    program = "energylab_portal.sealed_job"

    def __init__(self, devices: str, orders: Orders, sweep: Callable[[], object] = leftovers.sweep) -> None:
        super().__init__(devices, cold=True)
        self._orders = orders
        self._sweep = sweep

    def open(self, folder: StudyFolder, environment: Mapping[str, str]) -> None:
        self._sweep()  # of workers that were killed: their containers would be in this one's energy
        super().open(folder, {**environment, **variables(self._orders)})

    def _finish(self, item: Any, otherwise: Outcome) -> Ended:
        """Close the attempt; a job that was killed leaves its container to us."""
        ended = super()._finish(item, otherwise)
        self._sweep()
        return ended
