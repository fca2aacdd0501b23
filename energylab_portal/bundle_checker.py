"""The bundle checker: verifies bundles of closed models, each in its own process, and says in words what it saw."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from energylab.errors import ConflictError
from energylab.publish.text import one_line
from energylab.record import Record
from energylab_portal import child_process, keys, log, results
from energylab_portal.database import Database
from energylab_portal.leases import FREE, Heartbeat, Lease, LeaseLost, Leases
from energylab_portal.schema import Submission
from energylab_portal.settings import DATABASE, Settings

_LOG = logging.getLogger("energylab_portal")

ACTOR = "bundle checker"

#: A bundle is at most 16 MiB by default; reading one takes a second and a fraction of this.
BOUNDS = child_process.Bounds(memory_bytes=2 << 30, cpu_s=60, wall_s=120.0, file_bytes=64 << 20)

#: How often the bundle checker looks, and how long a dead checker's bundle waits for the next, in seconds.
LOOK_S = 0.5
LEASE_S = 15.0

#: Takes a bundle's path and the enrolled keys; returns what `energylab_portal.verify_bundle.verdict` does.
Verifier = Callable[[Path, Mapping[str, str]], Mapping[str, Any]]


def verify_apart(
    bundle: Path, enrolled: Mapping[str, str], params: str | None = None, bounds: child_process.Bounds = BOUNDS
) -> Mapping[str, Any]:
    """Verify a bundle in a bounded process; see `energylab_portal.verify_bundle`."""
    question = {"bundle": str(bundle.resolve()), "keys": dict(enrolled), "params": params}
    return child_process.ask("energylab_portal.verify_bundle", question, bounds)


class BundleChecker:
    """Checks closed results.

    Parameters
    ----------
    database : Database
    settings : Settings
    verifier : callable, optional
        See `Verifier`; `verify_apart` by default.
    """

    def __init__(self, database: Database, settings: Settings, verifier: Verifier | None = None) -> None:
        self.database = database
        self.settings = settings
        self.verifier = verifier or partial(verify_apart, params=settings.params)
        self.leases = Leases(database, lease_s=LEASE_S)

    def check_one(self) -> bool:
        """Check the oldest bundle that waits; return whether there was one."""
        lease = self.leases.take_check("closed", ACTOR)
        if lease is None:
            return False
        try:
            with Heartbeat(self.leases, lease, on_lost=lambda: None):  # what is done without a lease is not kept
                self._check(lease)
        except LeaseLost as error:
            _LOG.warning("%s", error)
        except Exception as error:  # noqa: BLE001 - one bundle's trouble is not the next one's
            _LOG.exception("%s could not be checked", lease.submission.name)
            self.leases.give_back(lease, f"the check failed ({type(error).__name__}).")
        return True

    def _check(self, lease: Lease) -> None:
        with self.database.reading() as session:
            enrolled = keys.enrolled(session)
        path = self.settings.bundles / f"{lease.submission.bundle}.bundle"
        try:
            verdict = self.verifier(path, enrolled)
        except child_process.ChildDied as error:
            return self._reject(lease, f"the bundle could not be read: {error}. Send the file the sealed runner wrote.")
        if not verdict["key_known"] and verdict["key_id"] is not None:
            return self._wait_for_key(lease, verdict, enrolled)
        if not verdict["accepted"]:
            return self._reject(lease, _refusal(verdict), facts=_words(verdict), key_id=verdict["key_id"])
        return self._accept(lease, verdict)

    def _accept(self, lease: Lease, verdict: Mapping[str, Any]) -> None:
        record = Record.model_validate_json(verdict["record"])
        facts = {"facts": _words(verdict), "key_id": verdict["key_id"], "tasks": record.task.name}
        facts["model"] = one_line(record.model.name)[:200]
        try:
            with self.database.writing() as session:
                held = self.leases.held(session, lease)
                _refuse_anothers_name(session, facts["model"], verdict["key_id"])
                log.move(session, self.database, held, "checked", ACTOR, "the bundle passed every check", **facts)
                results.attach(session, held.id, [record])
                words = "measured in the sealed runner on its owner's machine"
                log.move(session, self.database, held, "measured", ACTOR, words, **FREE)
        except LeaseLost:
            raise
        except ConflictError as error:
            self._reject(lease, f"{error}. Then measure again, and submit the new bundle.", key_id=verdict["key_id"])

    def _reject(self, lease: Lease, reason: str, **facts: Any) -> None:
        self.leases.finish(lease, "rejected", reason, reason=reason, **facts)

    def _wait_for_key(self, lease: Lease, verdict: Mapping[str, Any], enrolled: Mapping[str, str]) -> None:
        """Let a bundle wait whose key nobody here knows; unless that changed while it was looked at."""
        with self.database.writing() as session:
            held = self.leases.held(session, lease)
            known = verdict["key_id"] in keys.enrolled(session)
            held.key_id, held.waits_for_key, held.facts = verdict["key_id"], not known, _words(verdict)
            held.worker = held.lease = held.lease_until_s = None
            held.tries = 0
            words = f"its key {verdict['key_id'][:16]} is not enrolled: it waits until the operator enrols it"
            log.note(session, held.id, self.database.now(session), ACTOR, words)

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Check what comes, until told to stop."""
        while not stop():
            if not self.check_one():
                time.sleep(LOOK_S)


def _refuse_anothers_name(session: Session, name: str, key_id: str) -> None:
    """Refuse a public name that stands for another's model: records of one name would be rated as one model.

    Raises
    ------
    ConflictError
    """
    taken = select(Submission.id).where(
        func.lower(Submission.model) == name.lower(),
        or_(Submission.key_id.is_(None), Submission.key_id != key_id),
        Submission.state.in_(("checked", "queued", "measuring", "measured", "reviewed", "published")),
    )
    if session.scalar(taken.limit(1)) is not None:
        raise ConflictError(f"the public name {name!r} stands for another's model here; choose another with --name")


def _words(verdict: Mapping[str, Any]) -> str:
    marks = {True: "passed", False: "failed", None: "not checked"}
    return "\n".join(one_line(f"{c['name']}: {marks[c['passed']]}: {c['words']}") for c in verdict["checks"])[:20_000]


def _refusal(verdict: Mapping[str, Any]) -> str:
    failed = [one_line(f"{check['name']}: {check['words']}") for check in verdict["checks"] if check["passed"] is False]
    why = "; ".join(failed)[:1500] or "no check says why"
    return (
        f"the bundle failed {len(failed)} checks. {why}. Send a bundle as the sealed runner wrote it, or measure again."
    )


def main(arguments: list[str]) -> int:
    """Run the bundle checker of the portal whose folder is named first; die with the process that is named last."""
    from energylab.studies.job import die_with_parent

    folder, params, parent = arguments
    die_with_parent(int(parent))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = Settings(folder=Path(folder), database=os.environ.get(DATABASE, ""), params=params or None)
    BundleChecker(Database(settings.database_url).open(), settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
