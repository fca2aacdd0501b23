"""One attempt at one session of a model that brings its own code: measured from here, run in the sealed container.

``python -m energylab_portal.sealed_job STUDY/JOB_ID/attempt-N PARENT`` is what the sealed executor runs. No notebook is
executed: nothing that a stranger's model says is handed to one.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from energylab import store
from energylab.devices import resolve_devices
from energylab.errors import EnergylabError, MeasurementError
from energylab.parameters import Parameters
from energylab.record import Record
from energylab.studies.job import die_with_parent
from energylab.studies.state import Attempt, End, Outcome
from energylab_portal.sealed import docker
from energylab_portal.sealed.checks import of_the_work
from energylab_portal.sealed.measure import Sealed, measure
from energylab_portal.sealed.statement import ATTESTATION_VERSION, Attested
from energylab_portal.sealed_executor import ORDERS, Orders

#: Nobody attests anything: the machine, the meter and the weights are the operator's own choice.
NOTHING_ATTESTED = Attested(version=ATTESTATION_VERSION, public=False, integrity=False, representative=False)


def main(arguments: list[str]) -> int:
    """Run the attempt in the folder named first; die with the process named second."""
    die_with_parent(int(arguments[1]))
    os.umask(0o022)  # the data that is fetched here is read by the container's user
    attempt, started = Attempt(Path(arguments[0])), time.monotonic()
    end, reason = execute(attempt, Orders.model_validate_json(os.environ[ORDERS]))
    attempt.close(Outcome.now(end, reason, time.monotonic() - started))
    print(f"{attempt.path}: {end} {reason}".rstrip(), flush=True)  # noqa: T201 - the log of the attempt
    return 0 if end == "finished" else 1


def execute(attempt: Attempt, orders: Orders) -> tuple[End, str]:
    """Measure, and write the record; return how it ended and why, in words.

    A fault of ours is not caught: the process ends with it, and the executor tries again.
    """
    parameters = Parameters.check(attempt.request.parameters)
    try:
        record = measure_whole(parameters, orders)
    except EnergylabError as error:
        why = docker.why_not()  # a daemon that went away is the machine's trouble, and the job is tried again
        return ("infrastructure", why) if why else ("cell_error", f"{type(error).__name__}: {error}")
    store.write(record, attempt.path)
    return "finished", ""


def measure_whole(parameters: Parameters, orders: Orders, **stand_ins: Any) -> Record:
    """Measure a model in the sealed container and return the whole record, which says so.

    Parameters
    ----------
    parameters : Parameters
        The model by its hub id, at a commit.
    orders : Orders
    **stand_ins
        As `energylab_portal.sealed.measure.measure` takes them, for tests.

    Raises
    ------
    MeasurementError
        If what the model's code says of its work cannot be.
    EnergylabError
        As `energylab_portal.sealed.measure.measure`.
    """
    boards = resolve_devices(parameters.device, parameters.gpus) if "instruments" not in stand_ins else ()
    gpus = tuple(str(board.uuid) for board in boards if board.type == "cuda")
    plan = orders.sealing.plan(Path(orders.model), Path(orders.data), gpus)
    with tempfile.TemporaryDirectory() as thrown_away:  # files that a stranger's code wrote are of no use here
        sealed = measure(parameters, plan, Path(thrown_away), _named(parameters), **stand_ins)
    _believe(sealed)
    return sealed.record.model_copy(update={"extra": {**sealed.record.extra, "sealed": facts(sealed)}})


def _named(parameters: Parameters) -> dict[str, Any]:
    """Return what the host knows of the model: which one it fetched, and that its code was allowed to run."""
    return {
        "name": parameters.model, "source": "hub", "revision": parameters.revision, "commit": parameters.revision,
        "trust_remote_code": parameters.trust_remote_code, "real_weights": True,
    }  # fmt: skip


def _believe(sealed: Sealed) -> None:
    """Hold what a stranger's code says of its work against the files on this disk and against physics."""
    if not sealed.record.valid:
        return
    failed = [check for check in of_the_work(sealed.run(sealed.record, {}, NOTHING_ATTESTED)) if check.passed is False]
    if failed:
        raise MeasurementError(
            f"what the model's own code says of its work cannot be: {failed[0].words}; correct the code, push it, and "
            "submit again"
        )


def facts(sealed: Sealed) -> dict[str, Any]:
    """Return what a reader of the record must know of the container."""
    return {
        "image": sealed.image.digest,
        "environment": sealed.image.environment,
        "environment_digest": sealed.image.environment_digest,
        "docker": sealed.image.docker,
        "seal": sealed.seal.model_dump(mode="json"),
        "weights": sealed.weights.model_dump(mode="json"),
        "data_checked_by": sealed.data_checked_by,
        "weight_files": dict(sealed.hashes),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
