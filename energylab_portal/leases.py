"""Who works on what: a lease with a heartbeat. Two never hold the same one; a dead worker's work comes back.

A lease is the submission as it was taken: whoever does not know its random token can change nothing.

Clients take turns: whose submission was taken longest ago comes next, so that one who sends many delays another by no
more than one job.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from energylab.clock import Periodic
from energylab.errors import ConflictError, EnergylabError, MeasurementError
from energylab.publish.text import visible
from energylab_portal import tables
from energylab_portal.database import Database
from energylab_portal.tables import State, Submission

_LOG = logging.getLogger("energylab_portal")

#: Life of a lease without a heartbeat, in seconds, and heartbeats in it: several may be lost before it is.
LEASE_S, BEATS = 60.0, 5
#: Rest of a submission after a try that failed, in seconds; twice as long after each further one, to a limit.
PAUSE_S, LONGEST_PAUSE_S = 30.0, 3600.0
#: How often a submission is taken before its troubles are held to be its own.
MOST_TRIES = 3

#: Open models that wait to be measured, or whose worker has died.
TO_MEASURE = and_(Submission.kind == "open", Submission.state.in_(("queued", "measuring")))

FREE: dict[str, Any] = {"worker": None, "lease": None, "lease_until_s": None}


class Refused(ConflictError):
    """The submission's own fault: it is rejected with these words, and with what was found of it."""

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(visible(reason))
        self.facts = facts


class Interrupted(MeasurementError):
    """The work was stopped from outside before its end: nothing is wrong with the submission."""


class LeaseLost(ConflictError):
    """The lease ran out and the work is another's now; whatever was done under it does not count."""


class Leases:
    def __init__(self, database: Database, lease_s: float = LEASE_S, pause_s: float = PAUSE_S) -> None:
        self.database = database
        self.lease_s = lease_s
        self.pause_s = pause_s

    def take_check(self, kind: str, worker: str) -> Submission | None:
        waits = (Submission.kind == kind, Submission.state == "received", Submission.waits_for_key.is_(False))
        return self._take(and_(*waits), worker)

    def take_measurement(self, worker: str) -> Submission | None:
        """Take a submission that waits to be measured, or whose worker has died; None when there is none."""
        return self._take(TO_MEASURE, worker)

    def _take(self, wanted: ColumnElement[bool], worker: str) -> Submission | None:
        with self.database.reading() as session:  # nobody is kept from writing by a worker that only looks
            if self._next(session, wanted) is None:
                return None
        with self.database.writing() as session:
            while (found := self._next(session, wanted)) is not None:
                if found.lease is None or found.tries < MOST_TRIES:
                    return self._hand_out(session, found, worker)
                # what has outlived several workers would outlive the next as well
                reason = f"given up: {found.tries} workers stopped answering over it. The operator can try it again."
                tables.move(session, found, "rejected", worker, reason, reason=reason, **FREE)
        return None

    def _next(self, session: Session, wanted: ColumnElement[bool]) -> Submission | None:
        now, others = tables.now(session), aliased(Submission)
        free = or_(Submission.lease_until_s.is_(None), Submission.lease_until_s < now)
        served = select(func.max(others.taken_s)).where(others.client == Submission.client).scalar_subquery()
        turn = (func.coalesce(served, 0.0), Submission.id)
        return session.scalar(select(Submission).where(wanted, free).order_by(*turn).limit(1))

    def _hand_out(self, session: Session, found: Submission, worker: str) -> Submission:
        now, token = tables.now(session), secrets.token_hex(16)
        held = {"worker": worker, "lease": token, "lease_until_s": now + self.lease_s, "taken_s": now}
        held["tries"] = found.tries + 1
        if found.lease is not None:
            tables.note(session, found.id, worker, "the worker before stopped answering; taken over")
        if found.state == "queued":
            tables.move(session, found, "measuring", worker, "a worker began", **held)
        else:
            tables.change(found, **held)
        return found

    def renew(self, lease: Submission) -> None:
        with self.database.writing() as session:
            self.held(session, lease).lease_until_s = tables.now(session) + self.lease_s

    def held(self, session: Session, lease: Submission) -> Submission:
        """Return the submission as it is now, for a change under a lease."""
        query = select(Submission).where(Submission.id == lease.id, Submission.lease == lease.lease)
        found = session.scalar(query)
        if found is None:
            raise LeaseLost(f"the lease of {lease.name} ran out; another worker has it, this work is dropped")
        return found

    def finish(self, lease: Submission, after: State, words: str, **facts: Any) -> None:
        with self.database.writing() as session:
            tables.move(session, self.held(session, lease), after, lease.worker, words, **facts, **FREE)

    def work(
        self,
        lease: Submission,
        do: Callable[[Submission], None],
        ours: tuple[type[Exception], ...],
        on_lost: Callable[[], None],
    ) -> None:
        """Do a piece of work under a heartbeat: its troubles are the submission's or this try's, never the worker's.

        Errors of the kind `ours` are no fault of the submission. A worker that was told to stop does so afterwards.
        """
        heartbeat = Heartbeat(self, lease, on_lost)
        try:
            try:
                with heartbeat:
                    do(lease)
            except LeaseLost:
                raise
            except ConflictError as error:
                self.finish(lease, "rejected", str(error), reason=str(error), **getattr(error, "facts", {}))
            except (Interrupted, KeyboardInterrupt) as error:
                try:
                    self.give_back(lease, "the worker was stopped; the submission goes back to the queue.", count=False)
                finally:
                    if not heartbeat.lost:
                        raise KeyboardInterrupt from error
            except Exception as error:  # noqa: BLE001 - the next submission must not suffer for this one
                _LOG.warning("%s: could not be finished", lease.name, exc_info=error)
                self.give_back(lease, _in_words(error, isinstance(error, ours)), ours=isinstance(error, ours))
        except LeaseLost as lost:
            _LOG.warning("%s", lost)

    def give_back(self, lease: Submission, words: str, count: bool = True, ours: bool = False) -> None:
        """Let go of the submission, so that it is taken again after a rest; after `MOST_TRIES` it is rejected.

        A try does not `count` where the worker was asked to stop. Where the fault is `ours` it rests longer each time,
        and is never rejected for it.
        """
        with self.database.writing() as session:
            found = self.held(session, lease)
            tries = found.tries if count else found.tries - 1
            rest_s = min(self.pause_s * 2 ** min(tries - 1, 20), LONGEST_PAUSE_S) if count else 0.0
            free = {**FREE, "lease_until_s": tables.now(session) + rest_s if rest_s else None, "tries": tries}
            if tries >= MOST_TRIES and not ours:
                reason = f"given up after {tries} tries; the last: {words} The operator can try it again."
                tables.move(session, found, "rejected", lease.worker, reason, reason=reason, **FREE)
            elif found.state == "measuring":
                tables.move(session, found, "queued", lease.worker, words, **free)
            else:
                tables.change(found, **free)
                tables.note(session, found.id, lease.worker, words)


def _in_words(error: Exception, ours: bool) -> str:
    """Tell a submitter what went wrong; of a fault of ours the kind alone, since its words may hold a path."""
    words, kind = visible(str(error))[:500], type(error).__name__
    if not isinstance(error, EnergylabError):
        words = kind if ours else f"{kind}: {words}"
    return f"not done yet, through no fault of its own: {words}." if ours else f"{words}."


class Heartbeat:
    """Renews a lease in the background while a block runs."""

    def __init__(self, leases: Leases, lease: Submission, on_lost: Callable[[], None]) -> None:
        self._leases, self._lease, self._on_lost = leases, lease, on_lost
        self._thread = Periodic(self._beat, leases.lease_s / BEATS, "heartbeat")
        self._renewed_s = time.monotonic()
        self.lost = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.stop()

    def _beat(self) -> None:
        if self.lost:
            return
        began_s = time.monotonic()
        try:
            self._leases.renew(self._lease)
            self._renewed_s = began_s
        except LeaseLost:
            self.lost = True
        except SQLAlchemyError:  # the database may be back before the lease is out
            self.lost = time.monotonic() - self._renewed_s > self._leases.lease_s * (1 - 1 / BEATS)
        if self.lost:
            self._on_lost()
