"""The bundle checker: verifies bundles of closed models, each in its own process, and reports the results."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from energylab.errors import BundleError, ConflictError
from energylab.publish.text import one_line
from energylab_portal import child, review, tables
from energylab_portal.database import Database
from energylab_portal.leases import FREE, Leases, Refused
from energylab_portal.sealed import keys
from energylab_portal.sealed.verify import Official, Verdict, read_list, verify
from energylab_portal.settings import Settings
from energylab_portal.submissions import SubmissionQueue
from energylab_portal.tables import EnrolledKey, Submission

_LOG = logging.getLogger("energylab_portal")

ACTOR = "bundle checker"

#: Limits of one verification, far above its need: a bundle has at most 24 MiB and takes about one second.
BOUNDS = child.Bounds(memory_bytes=4 << 30, cpu_s=120, wall_s=240.0, file_bytes=64 << 20)

#: Period of looking for bundles, lease of a bundle, and period of removing old files, in seconds.
LOOK_S, LEASE_S, SWEEP_S = 0.5, 30.0, 3600.0

#: Takes a bundle's path and the enrolled keys.
Verifier = Callable[[Path, Mapping[str, str]], Verdict]
_VERDICT = TypeAdapter(Verdict)


class BundleChecker:
    def __init__(self, database: Database, settings: Settings, verifier: Verifier | None = None) -> None:
        self.database = database
        self.settings = settings
        self.verifier = verifier or partial(verify_apart, settings=settings)
        self.leases = Leases(database, lease_s=LEASE_S)

    def check_one(self) -> bool:
        """Check the next waiting bundle; return whether there was one."""
        lease = self.leases.take_check("closed", ACTOR)
        if lease is None:
            return False
        # all errors are the operator's to correct: the bundle waits and is tried again
        self.leases.work(lease, self._check, ours=Exception, on_lost=lambda: None)
        return True

    def _check(self, lease: Submission) -> None:
        with self.database.reading() as session:
            enrolled = review.enrolled(session)
        verdict = self.verifier(self.settings.bundle_path(lease.bundle), enrolled)
        if not verdict.key_known and verdict.key_id is not None:
            self._wait_for_key(lease, verdict)
        elif not verdict.accepted:
            raise Refused(_refusal(verdict), facts=_words(verdict), key_id=verdict.key_id)
        else:
            self._accept(lease, verdict)

    def _accept(self, lease: Submission, verdict: Verdict) -> None:
        looked_up = "replay: passed: no result with the same readings was submitted before"
        facts = {
            "facts": f"{_words(verdict)}\n{looked_up}", "key_id": verdict.key_id, "tasks": verdict.record.task.name,
            "model": one_line(verdict.record.model.name)[:200],
        }  # fmt: skip
        with self.database.writing() as session:
            held = self.leases.held(session, lease)
            _refuse_anothers_name(session, facts["model"], verdict.key_id)
            tables.move(session, held, "checked", ACTOR, "the bundle passed all checks", **facts)
            review.refuse_revoked(session, held)
            tables.attach(session, held.id, [verdict.record])
            words = "measured in the sealed runner on its owner's machine"
            tables.move(session, held, "measured", ACTOR, words, **FREE)

    def _wait_for_key(self, lease: Submission, verdict: Verdict) -> None:
        """Let a bundle with an unknown key wait, unless the key was enrolled or revoked in the meantime."""
        with self.database.writing() as session:
            held = self.leases.held(session, lease)
            known = verdict.key_id in review.enrolled(session)
            if not known and session.get(EnrolledKey, verdict.key_id) is not None:
                words = f"the key {verdict.key_id[:16]} that signed the bundle was revoked; ask the operator"
                raise Refused(words, key_id=verdict.key_id)
            facts = {"key_id": verdict.key_id, "waits_for_key": not known, "facts": _words(verdict), "tries": 0}
            tables.change(held, **facts, **FREE)
            words = f"key {verdict.key_id[:16]} is not enrolled: the bundle waits until the operator enrols it"
            tables.note(session, held.id, ACTOR, words)

    def run(self, stop: threading.Event, queue: SubmissionQueue) -> None:
        """Check bundles and remove old files until `stop` is set."""
        looks = 0
        while not stop.is_set():
            try:
                if looks % int(SWEEP_S / LOOK_S) == 0:
                    queue.clean()
                if self.check_one():
                    continue
            except (SQLAlchemyError, OSError):
                _LOG.exception("the bundle checker failed; it tries again")
            looks += 1
            stop.wait(LOOK_S)


def verify_apart(
    bundle: Path, enrolled: Mapping[str, str], settings: Settings, bounds: child.Bounds = BOUNDS
) -> Verdict:
    """Verify a bundle in a process with limits, against the operator's list of images."""
    if not settings.official.is_file():
        raise BundleError("the operator has no list of images; create it with `energylab-portal sealed official`")
    try:
        listed = read_list(settings.official, keys.read_public(str(settings.operator_key)))
    except BundleError as error:  # its text contains a path of the operator
        raise BundleError("the operator's list of images cannot be read") from error
    question = {
        "bundle": str(bundle.resolve()), "keys": dict(enrolled), "official": listed.model_dump(mode="json"),
        "params": settings.params,
    }  # fmt: skip
    return _VERDICT.validate_python(child.ask("energylab_portal.checker", question, bounds))


def verdict(question: dict[str, Any]) -> dict[str, Any]:
    """In the child: return the verdict on a bundle as plain values."""
    listed = Official.model_validate(question["official"])
    found = verify(Path(question["bundle"]), keys=question["keys"], official=listed, params=question["params"])
    return _VERDICT.dump_python(found, mode="json")


def _refuse_anothers_name(session: Session, name: str, key_id: str) -> None:
    """Refuse a public name of another owner's model: records of one name would be rated as one model."""
    taken = select(Submission.id).where(
        func.lower(Submission.model) == name.lower(),
        or_(Submission.key_id.is_(None), Submission.key_id != key_id),
        Submission.state.not_in(("received", "rejected")),
    )
    if session.scalar(taken.limit(1)) is not None:
        raise ConflictError(f"the public name {name!r} belongs to another owner; measure again with another --name")


def _words(verdict: Verdict) -> str:
    marks = {True: "passed", False: "failed", None: "not checked"}
    return "\n".join(one_line(f"{c.name}: {marks[c.passed]}: {c.words}") for c in verdict.checks)[:20_000]


def _refusal(verdict: Verdict) -> str:
    failed = "; ".join(one_line(f"{check.name}: {check.words}") for check in verdict.failed)[:1500]
    return (
        f"the bundle failed {len(verdict.failed)} checks. {failed}. Send the unchanged file of the sealed runner, or "
        "measure again."
    )


if __name__ == "__main__":
    child.answer(verdict)
