"""Who works on what: a lease with a heartbeat. Two never hold the same one; a dead worker's work comes back.

Clients take turns: whose submission was taken longest ago comes next, so that one who sends many delays another by no
more than one job.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from energylab.errors import ConflictError
from energylab_portal import log
from energylab_portal.database import Database
from energylab_portal.tables import State, Submission

#: Life of a lease without a heartbeat, in seconds, and heartbeats in it: several may be lost before it is.
LEASE_S, BEATS = 60.0, 5
#: Rest of a submission after a try that failed, in seconds; twice as long after each further one, to a limit.
PAUSE_S, LONGEST_PAUSE_S = 30.0, 3600.0
#: How often a submission is taken before its troubles are held to be its own.
MOST_TRIES = 3

#: Open models that wait to be measured, or whose worker has died.
TO_MEASURE = and_(Submission.kind == "open", Submission.state.in_(("queued", "measuring")))

FREE: dict[str, Any] = {"worker": None, "lease": None, "lease_until_s": None}


class LeaseLost(ConflictError):
    """The lease ran out and the work is another's now; whatever was done under it does not count."""


@dataclass(frozen=True)
class Lease:
    """The right to work on one submission, until the heartbeat stops."""

    submission: Submission  # as it was when it was taken
    token: str  # random; whoever does not know it cannot renew, finish or give back
    worker: str  # who holds it


class Leases:
    """Hands out work."""

    def __init__(self, database: Database, lease_s: float = LEASE_S, pause_s: float = PAUSE_S) -> None:
        self.database = database
        self.lease_s = lease_s
        self.pause_s = pause_s

    def take_check(self, kind: str, worker: str) -> Lease | None:
        """Take a submission that waits to be checked, or None when there is none."""
        waits = (Submission.kind == kind, Submission.state == "received", Submission.waits_for_key.is_(False))
        return self._take(and_(*waits), worker)

    def take_measurement(self, worker: str) -> Lease | None:
        """Take a submission that waits to be measured, or whose worker has died; None when there is none."""
        return self._take(TO_MEASURE, worker)

    def _take(self, wanted: ColumnElement[bool], worker: str) -> Lease | None:
        with self.database.reading() as session:  # nobody is kept from writing by a worker that only looks
            if self._next(session, wanted) is None:
                return None
        with self.database.writing() as session:
            while (found := self._next(session, wanted)) is not None:
                if found.lease is None or found.tries < MOST_TRIES:
                    return self._hand_out(session, found, worker)
                # what has outlived several workers would outlive the next as well
                reason = f"given up: {found.tries} workers stopped answering while they worked on it. The operator can "
                reason += "try it again."
                log.move(session, self.database, found, "rejected", worker, reason, reason=reason, **FREE)
        return None

    def _next(self, session: Session, wanted: ColumnElement[bool]) -> Submission | None:
        now, others = self.database.now(session), aliased(Submission)
        free = or_(Submission.lease_until_s.is_(None), Submission.lease_until_s < now)
        served = select(func.max(others.taken_s)).where(others.client == Submission.client).scalar_subquery()
        turn = (func.coalesce(served, 0.0), Submission.id)
        return session.scalar(select(Submission).where(wanted, free).order_by(*turn).limit(1))

    def _hand_out(self, session: Session, found: Submission, worker: str) -> Lease:
        now, token = self.database.now(session), secrets.token_hex(16)
        held = {"worker": worker, "lease": token, "lease_until_s": now + self.lease_s, "taken_s": now}
        held["tries"] = found.tries + 1
        if found.lease is not None:
            log.note(session, found.id, now, worker, f"{found.worker} stopped answering; taken over")
        if found.state == "queued":
            log.move(session, self.database, found, "measuring", worker, "a worker began", **held)
        else:
            log.set_columns(session, found, **held)
        session.expunge(found)
        return Lease(found, token, worker)

    def renew(self, lease: Lease) -> None:
        """Keep a lease alive."""
        with self.database.writing() as session:
            held = (Submission.id == lease.submission.id, Submission.lease == lease.token)
            until = self.database.now(session) + self.lease_s
            if session.execute(update(Submission).where(*held).values(lease_until_s=until)).rowcount != 1:
                raise _lost(lease)

    def held(self, session: Session, lease: Lease) -> Submission:
        """Return the submission as it is now, for a change under a lease."""
        query = select(Submission).where(Submission.id == lease.submission.id, Submission.lease == lease.token)
        found = session.scalar(query)
        if found is None:
            raise _lost(lease)
        return found

    def finish(self, lease: Lease, after: State, words: str, **facts: Any) -> None:
        """Bring the submission into its next state and give the lease back, in one step."""
        with self.database.writing() as session:
            log.move(session, self.database, self.held(session, lease), after, lease.worker, words, **facts, **FREE)

    def give_back(self, lease: Lease, words: str, count: bool = True, ours: bool = False) -> None:
        """Let go of the submission, so that it is taken again after a rest; after `MOST_TRIES` it is rejected."""
        with self.database.writing() as session:
            found = self.held(session, lease)
            now, tries = self.database.now(session), found.tries if count else found.tries - 1
            rest_s = min(self.pause_s * 2 ** min(tries - 1, 20), LONGEST_PAUSE_S) if count else 0.0
            free = {**FREE, "lease_until_s": now + rest_s if rest_s else None, "tries": tries}
            if tries >= MOST_TRIES and not ours:
                reason = f"given up after {tries} tries; the last: {words} The operator can try it again."
                log.move(session, self.database, found, "rejected", lease.worker, reason, reason=reason, **FREE)
            elif found.state == "measuring":
                log.move(session, self.database, found, "queued", lease.worker, words, **free)
            else:
                log.set_columns(session, found, **free)
                log.note(session, found.id, now, lease.worker, words)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"the lease of {lease.submission.name} ran out and another worker has it; this work is dropped")


class Heartbeat:
    """Renews a lease in the background while a block runs."""

    def __init__(self, leases: Leases, lease: Lease, on_lost: Callable[[], None]) -> None:
        self._leases = leases
        self._lease = lease
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.lost = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        alive = time.monotonic()
        while not self.lost and not self._stop.wait(self._leases.lease_s / BEATS):
            before = time.monotonic()
            try:
                self._leases.renew(self._lease)
                alive = before
            except LeaseLost:
                self.lost = True
            except SQLAlchemyError:  # the database may be back before the lease is out
                self.lost = time.monotonic() - alive > self._leases.lease_s * (1 - 1 / BEATS)
        if self.lost:
            self._on_lost()
