"""Who works on what: a lease with a heartbeat. Two never hold the same one; a dead worker's work comes back."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from energylab.errors import ConflictError
from energylab_portal import log
from energylab_portal.database import Database
from energylab_portal.schema import Submission
from energylab_portal.states import State

#: How long a lease lasts without a heartbeat, in seconds.
LEASE_S = 60.0

#: Heartbeats in the life of a lease: several may be lost before it is.
BEATS = 5

#: How long a submission rests after a try that failed, in seconds; twice as long after each further one.
PAUSE_S = 30.0

#: How often a submission is taken before its troubles are held to be its own.
MOST_TRIES = 3

#: Open models that wait to be measured, or whose worker has died.
TO_MEASURE = and_(Submission.kind == "open", Submission.state.in_(("queued", "measuring")))

FREE: dict[str, Any] = {"worker": None, "lease": None, "lease_until_s": None}


class LeaseLost(ConflictError):
    """The lease ran out and the work is another's now; whatever was done under it does not count."""


@dataclass(frozen=True)
class Lease:
    """The right to work on one submission, until the heartbeat stops.

    Attributes
    ----------
    submission : Submission
        As it was when it was taken.
    token : str
        Random; whoever does not know it cannot renew, finish or give back.
    worker : str
        Who holds it.
    """

    submission: Submission
    token: str
    worker: str


class Leases:
    """Hands out work.

    Parameters
    ----------
    database : Database
    lease_s : float
        Life of a lease without a heartbeat.
    pause_s : float
        Rest of a submission after its first failed try.
    """

    def __init__(self, database: Database, lease_s: float = LEASE_S, pause_s: float = PAUSE_S) -> None:
        self.database = database
        self.lease_s = lease_s
        self.pause_s = pause_s

    def take_check(self, kind: str, worker: str) -> Lease | None:
        """Take the oldest submission that waits to be checked, or None when there is none."""
        wanted = and_(Submission.kind == kind, Submission.state == "received", Submission.waits_for_key.is_(False))
        return self._take(wanted, worker)

    def take_measurement(self, worker: str, own_code: bool = False) -> Lease | None:
        """Take the oldest submission that waits to be measured, or whose worker has died; None when there is none.

        Parameters
        ----------
        worker : str
        own_code : bool
            Whether this worker can run a model's own code in the sealed container; else such ones are left to others.
        """
        wanted = TO_MEASURE if own_code else and_(TO_MEASURE, Submission.allow_code.is_(False))
        return self._take(wanted, worker)

    def _take(self, wanted: ColumnElement[bool], worker: str) -> Lease | None:
        with self.database.reading() as session:  # nobody is kept from writing by a worker that only looks
            if self._oldest(session, wanted) is None:
                return None
        with self.database.writing() as session:
            while (found := self._oldest(session, wanted, lock=True)) is not None:
                if not self._given_up(session, found, worker):
                    return self._hand_out(session, found, worker)
        return None

    def _given_up(self, session: Session, found: Submission, worker: str) -> bool:
        """Reject what has outlived several workers: it would outlive the next as well."""
        if found.lease is None or found.tries < MOST_TRIES:
            return False
        reason = (
            f"given up: {found.tries} workers stopped answering while they worked on it. The operator can try it again."
        )
        log.move(session, self.database, found, "rejected", worker, reason, reason=reason, **FREE)
        return True

    def _oldest(self, session: Session, wanted: ColumnElement[bool], lock: bool = False) -> Submission | None:
        now = self.database.now(session)
        free = or_(Submission.lease_until_s.is_(None), Submission.lease_until_s < now)
        query = select(Submission).where(wanted, free).order_by(Submission.id).limit(1)
        return session.scalar(query.with_for_update(skip_locked=True) if lock else query)

    def _hand_out(self, session: Session, found: Submission, worker: str) -> Lease:
        now, token = self.database.now(session), secrets.token_hex(16)
        held = {"worker": worker, "lease": token, "lease_until_s": now + self.lease_s, "tries": found.tries + 1}
        if found.lease is not None:
            log.note(session, found.id, now, worker, f"{found.worker} stopped answering; taken over")
        if found.state == "queued":
            log.move(session, self.database, found, "measuring", worker, "a worker began", **held)
        else:
            _hold(session, found, held)
        session.expunge(found)
        return Lease(found, token, worker)

    def renew(self, lease: Lease) -> None:
        """Keep a lease alive.

        Raises
        ------
        LeaseLost
            If it is another's now.
        """
        with self.database.writing() as session:
            until = self.database.now(session) + self.lease_s
            done = session.execute(
                update(Submission)
                .where(Submission.id == lease.submission.id, Submission.lease == lease.token)
                .values(lease_until_s=until)
            )
        if done.rowcount != 1:
            raise _lost(lease)

    def held(self, session: Session, lease: Lease) -> Submission:
        """Return the submission as it is now, for a change under a lease.

        Raises
        ------
        LeaseLost
            If the lease is another's now.
        """
        query = select(Submission).where(Submission.id == lease.submission.id, Submission.lease == lease.token)
        found = session.scalar(query.with_for_update())
        if found is None:
            raise _lost(lease)
        return found

    def finish(self, lease: Lease, after: State, words: str, **facts: Any) -> None:
        """Bring the submission into its next state and give the lease back, in one step.

        Raises
        ------
        LeaseLost
            If the lease is another's now; nothing is changed.
        """
        with self.database.writing() as session:
            log.move(session, self.database, self.held(session, lease), after, lease.worker, words, **facts, **FREE)

    def give_back(self, lease: Lease, words: str, count: bool = True) -> None:
        """Let go of the submission, so that it is taken again after a rest; after `MOST_TRIES` it is rejected.

        Parameters
        ----------
        lease : Lease
        words : str
            Why.
        count : bool
            Whether the try counts; not where the worker itself was asked to stop.

        Raises
        ------
        LeaseLost
            If the lease is another's now; nothing is changed.
        """
        with self.database.writing() as session:
            found = self.held(session, lease)
            tries = found.tries if count else found.tries - 1
            rest_s = self.pause_s * 2 ** (tries - 1) if count else 0.0
            free = {**FREE, "lease_until_s": self.database.now(session) + rest_s if rest_s else None, "tries": tries}
            if tries >= MOST_TRIES:
                reason = f"given up after {tries} tries; the last: {words} The operator can try it again."
                log.move(session, self.database, found, "rejected", lease.worker, reason, reason=reason, **FREE)
            elif found.state == "measuring":
                log.move(session, self.database, found, "queued", lease.worker, words, **free)
            else:
                _hold(session, found, free)
                log.note(session, found.id, self.database.now(session), lease.worker, words)


def _hold(session: Session, submission: Submission, values: dict[str, Any]) -> None:
    session.execute(
        update(Submission)
        .where(Submission.id == submission.id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    session.refresh(submission)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"the lease of {lease.submission.name} ran out and another worker has it; this work is dropped")


class Heartbeat:
    """Renews a lease in the background while a block runs.

    Parameters
    ----------
    leases : Leases
    lease : Lease
    on_lost : callable
        Called once, from the background, when the lease could not be kept: the work must stop.
    """

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
        while not self._stop.wait(self._leases.lease_s / BEATS):
            before = time.monotonic()
            try:
                self._leases.renew(self._lease)
                alive = before
            except LeaseLost:
                return self._give_up()
            except SQLAlchemyError:  # the database may be back before the lease is out
                if time.monotonic() - alive > self._leases.lease_s * (1 - 1 / BEATS):
                    return self._give_up()
        return None

    def _give_up(self) -> None:
        self.lost = True
        self._on_lost()
