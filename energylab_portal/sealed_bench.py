"""Models that the operator allows to bring their own code: fetched without running it, measured in the container.

They run nowhere else. A worker that has no container leaves them in the queue, and says what it lacks.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from energylab.errors import MeasurementError, SealError, StudyError
from energylab.record import Record
from energylab.studies.devices import CPU
from energylab_portal import own_files
from energylab_portal.inspection import list_files
from energylab_portal.measuring import Bench, Interrupted
from energylab_portal.schema import Submission
from energylab_portal.sealed import docker
from energylab_portal.sealed.container import Container, Plan
from energylab_portal.sealed_executor import Orders, sealed

#: How long a look at the daemon and the image is believed, in seconds: starting them is noticed soon.
LOOK_AGAIN_S = 60.0

#: Programs of the NVIDIA container toolkit; Docker hands out boards by one of them.
TOOLKIT = ("nvidia-container-runtime-hook", "nvidia-container-cli", "nvidia-ctk")


def lacks(image: str, device: str) -> str:
    """Return what this machine lacks to run a sealed container, and what to do; empty when it lacks nothing."""
    why = docker.why_not()
    if why is not None:
        return f"{why}; {docker.HELP}"
    if device != CPU and not any(shutil.which(name) for name in TOOLKIT):
        return "containers cannot use its boards: install the NVIDIA container toolkit"
    try:
        Container(Plan(image, Path())).describe()
    except SealError as error:
        return str(error)
    return ""


@dataclass
class SealedBench:
    """Where a worker measures models that bring their own code.

    Attributes
    ----------
    bench : Bench
        Where and how it measures others.
    device : str
        As `energylab.studies.devices.available` names it.
    elsewhere : bool
        Whether jobs run on another machine, whose daemon cannot be looked at from here.
    look : callable
        Takes image and device, returns what is lacking; see `lacks`.
    clock : callable
        Seconds, for how long a look is believed.
    """

    bench: Bench
    device: str
    elsewhere: bool = False
    look: Callable[[str, str], str] = lacks
    clock: Callable[[], float] = time.monotonic
    _seen: tuple[float, str] | None = field(default=None, init=False)

    def why_not(self) -> str:
        """Say why this worker can run no sealed container, and what to do; empty when it can."""
        if self.elsewhere:
            return "it hands its jobs to a cluster; start a worker with --executor local on a machine with Docker"
        if self._seen is None or self.clock() - self._seen[0] >= LOOK_AGAIN_S:
            self._seen = self.clock(), self.look(self.bench.protocol.sealed.image, self.device)
        return self._seen[1]

    def measure(self, submission: Submission) -> list[Record]:
        """Measure a submission in the sealed container; see `Bench.measure`.

        Raises
        ------
        StudyError
            If this machine cannot run the container, or cannot any more: nothing is wrong with the model.
        Interrupted
            If the run was stopped.
        MeasurementError
            If a job left no valid record; says which, and why.
        EnergylabError
            If model or data cannot be fetched.
        """
        if not submission.allow_code:
            raise StudyError(f"the operator did not allow {submission.name} to bring its own code")
        self._refuse()
        work = self.bench.work.resolve()
        model = work / submission.name / "model"
        self._fetch(submission, model)
        orders = Orders(sealing=self.bench.protocol.sealed, model=str(model), data=str(work / "sealed-data"))
        Path(orders.data).mkdir(parents=True, exist_ok=True)
        Path(orders.data).chmod(0o755)
        try:
            records = self.bench.run(submission, partial(sealed, devices=self.device, orders=orders), own_code=True)
        except Interrupted:
            raise  # what was fetched is of use to the next try
        except MeasurementError:
            self._refuse()  # a daemon that went away is no fault of the model
            shutil.rmtree(model)
            raise
        shutil.rmtree(model)
        return records

    def _refuse(self) -> None:
        self._seen = None
        why = self.why_not()
        if why:
            raise StudyError(f"no sealed container can be run here: {why}")

    def _fetch(self, submission: Submission, folder: Path) -> None:
        files = list_files(submission.model, submission.commit)
        chosen = own_files.choose(submission.model, files, self.bench.protocol.largest_gb)
        own_files.fetch(submission.model, submission.commit, chosen, folder)
