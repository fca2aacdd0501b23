"""Leases of submissions, with a heartbeat: one worker per submission, and another one if the worker dies.

A lease is a copy of the submission with a random token; changes need this token.

Clients take turns: the client served longest ago comes next, so a client with many submissions delays another by at
most one job.
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

#: Life of a lease without a heartbeat, in seconds, and the number of heartbeats in this time.
LEASE_S, BEATS = 60.0, 5
#: Pause of a submission after a failed attempt, in seconds; it doubles after each further one, up to the limit.
PAUSE_S, LONGEST_PAUSE_S = 30.0, 3600.0
#: Failed attempts after which a submission is rejected.
MOST_TRIES = 3

#: Open models that wait to be measured, or whose worker has died.
TO_MEASURE = and_(Submission.kind == "open", Submission.state.in_(("queued", "measuring")))

FREE: dict[str, Any] = {"worker": None, "lease": None, "lease_until_s": None}


class Refused(ConflictError):
    """The submission is rejected with this reason, and with the facts found about it."""

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(visible(reason))
        self.facts = facts


class Interrupted(MeasurementError):
    """The work was stopped from outside; nothing is wrong with the submission."""


class LeaseLost(ConflictError):
    """The lease expired, and another worker may have the submission; results of this one are dropped."""


class Leases:
    def __init__(self, database: Database, lease_s: float = LEASE_S, pause_s: float = PAUSE_S) -> None:
        self.database = database
        self.lease_s = lease_s
        self.pause_s = pause_s

    def take_check(self, kind: str, worker: str) -> Submission | None:
        waits = (Submission.kind == kind, Submission.state == "received", Submission.waits_for_key.is_(False))
        return self._take(and_(*waits), worker)

    def take_measurement(self, worker: str) -> Submission | None:
        """Take a submission that waits to be measured, or whose worker has died; None if there is none."""
        return self._take(TO_MEASURE, worker)

    def _take(self, wanted: ColumnElement[bool], worker: str) -> Submission | None:
        with self.database.reading() as session:  # without blocking writers
            if self._next(session, wanted) is None:
                return None
        with self.database.writing() as session:
            while (found := self._next(session, wanted)) is not None:
                if found.lease is None or found.tries < MOST_TRIES:
                    return self._hand_out(session, found, worker)
                # the next worker would stop as well
                reason = f"rejected after {found.tries} workers stopped answering. The operator can reopen it."
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
            tables.note(session, found.id, worker, "the previous worker stopped answering; this one continues")
        if found.state == "queued":
            tables.move(session, found, "measuring", worker, "measurement started", **held)
        else:
            tables.change(found, **held)
        return found

    def renew(self, lease: Submission) -> None:
        with self.database.writing() as session:
            self.held(session, lease).lease_until_s = tables.now(session) + self.lease_s

    def held(self, session: Session, lease: Submission) -> Submission:
        """Return the current submission, to change it with a lease."""
        query = select(Submission).where(Submission.id == lease.id, Submission.lease == lease.lease)
        found = session.scalar(query)
        if found is None:
            raise LeaseLost(f"the lease of {lease.name} expired; this work is dropped, and another worker continues")
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
        """Do a piece of work with a heartbeat; its errors end this attempt or reject the submission.

        Errors of the types `ours` are no fault of the submission. An interrupt also ends the worker.
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
            except Exception as error:  # noqa: BLE001 - the worker continues with the next submission
                _LOG.warning("%s: failed", lease.name, exc_info=error)
                self.give_back(lease, _in_words(error, isinstance(error, ours)), ours=isinstance(error, ours))
        except LeaseLost as lost:
            _LOG.warning("%s", lost)

    def give_back(self, lease: Submission, words: str, count: bool = True, ours: bool = False) -> None:
        """Release the submission to be taken again after a pause; after `MOST_TRIES` attempts it is rejected.

        An attempt does not `count` if the worker was asked to stop. If the fault is `ours`, the pause grows and the
        submission is never rejected.
        """
        with self.database.writing() as session:
            found = self.held(session, lease)
            tries = found.tries if count else found.tries - 1
            rest_s = min(self.pause_s * 2 ** min(tries - 1, 20), LONGEST_PAUSE_S) if count else 0.0
            free = {**FREE, "lease_until_s": tables.now(session) + rest_s if rest_s else None, "tries": tries}
            if tries >= MOST_TRIES and not ours:
                reason = f"rejected after {tries} attempts; last error: {words} The operator can reopen it."
                tables.move(session, found, "rejected", lease.worker, reason, reason=reason, **FREE)
            elif found.state == "measuring":
                tables.move(session, found, "queued", lease.worker, words, **free)
            else:
                tables.change(found, **free)
                tables.note(session, found.id, lease.worker, words)


def _in_words(error: Exception, ours: bool) -> str:
    """Return an error for a submitter; for internal errors only the type, since the text may contain a path."""
    words, kind = visible(str(error))[:500], type(error).__name__
    if not isinstance(error, EnergylabError):
        words = kind if ours else f"{kind}: {words}"
    return f"not finished because of an error of the portal: {words}." if ours else f"{words}."


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
        except SQLAlchemyError:  # the database may answer again before the lease expires
            self.lost = time.monotonic() - self._renewed_s > self._leases.lease_s * (1 - 1 / BEATS)
        if self.lost:
            self._on_lost()
