"""Accepting submissions: once accepted, never lost; sent again, never doubled."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from energylab import tasks
from energylab.errors import ConflictError, NotThereError, PortalError
from energylab.record import canonical_json
from energylab_portal import log, submission_rules
from energylab_portal.database import Database
from energylab_portal.schema import StoredRecord, Submission
from energylab_portal.settings import Settings
from energylab_portal.tokens import Vault, digest_of

#: Shorter keys could be guessed, and with them another's private link.
LEAST_KEY = 16


@dataclass(frozen=True)
class Accepted:
    """A submission that is on the disk.

    Attributes
    ----------
    name : str
        What operators call it.
    link : str
        The token of its private link.
    again : bool
        Whether it was there already: the same request, sent again.
    """

    name: str
    link: str
    again: bool


class _Rehearsed(Exception):  # noqa: N818 - not an error
    """Takes back what was only a rehearsal."""


class Desk:
    """Takes submissions in and finds them again.

    Parameters
    ----------
    database : Database
    vault : Vault
        Makes private links: they are derived, so that the same request gets the same link, and the database holds
        only their digests.
    settings : Settings
    """

    def __init__(self, database: Database, vault: Vault, settings: Settings) -> None:
        self.database = database
        self.vault = vault
        self.settings = settings

    @cached_property
    def task_names(self) -> tuple[str, ...]:
        """Every task that can be asked for, as the portal found them; a new one is offered after a restart."""
        return tuple(tasks.task_names(self.settings.params))

    def take_open(self, asked: submission_rules.OpenSubmission, key: str) -> Accepted:
        """Take in an open model.

        Parameters
        ----------
        asked : OpenSubmission
        key : str
            The client's idempotency key: random, one a submission. The same key with the same content is the same
            submission, however often it is sent.

        Raises
        ------
        ConflictError
            If the key was used for something else.
        UnknownNameError, PortalError
            If a task is unknown, or the key too short.
        """
        names = submission_rules.check_tasks(asked.tasks, self.task_names)
        facts = {"model": asked.model, "revision": asked.revision, "tasks": " ".join(names), "contact": asked.contact}
        return self._take("open", key, facts, f"submitted for {', '.join(names)}")

    def take_closed(self, asked: submission_rules.ClosedSubmission, key: str, bundle: BinaryIO) -> Accepted:
        """Take in the bundle of a closed model.

        Parameters
        ----------
        asked : ClosedSubmission
        key : str
            As for `take_open`.
        bundle : binary file
            The upload, which is copied. Nothing in it is understood here.

        Raises
        ------
        ConflictError
            If the key was used for something else, or the same file was submitted before.
        PortalError
            If a statement is missing, or the file is empty.
        """
        version = submission_rules.check_attested(asked.attested)
        digest, size = self._keep_bundle(bundle)
        facts = {"bundle": digest, "bundle_bytes": size, "attestation": version, "contact": asked.contact}
        return self._take("closed", key, facts, f"bundle of {size:,} bytes submitted, statements {version} made")

    def rehearse(self) -> None:
        """Take a submission in, look it up, and take all of it back.

        A database that cannot be written to is known before the first submitter comes, and the first forty who come at
        once do not all wait for the same statements to be prepared.
        """
        link = secrets.token_urlsafe()
        with contextlib.suppress(_Rehearsed), self.database.writing() as session:
            self.task_names  # noqa: B018 - found once, here
            facts = {"model": "a/b", "revision": None, "tasks": "", "contact": ""}
            self._insert(session, "open", digest_of(link), digest_of(link), link, facts, "rehearsed")
            found = self.by_link(session, link)
            log.history(session, found.id)
            records_of(session, found.id)
            raise _Rehearsed

    def _take(self, kind: str, key: str, facts: dict[str, Any], words: str) -> Accepted:
        if not LEAST_KEY <= len(key) <= 200:
            raise PortalError(f"the idempotency key needs {LEAST_KEY} to 200 characters, random: {len(key)} given")
        request = digest_of(key)
        content = hashlib.sha256(canonical_json({"kind": kind, **facts})).hexdigest()
        link = self.vault.derive("link", request)

        def take(session: Session) -> Accepted:
            known = self._known(session, request)
            if known is not None:
                return self._again(known, content, link)
            name = self._insert(session, kind, request, content, link, facts, words)
            return Accepted(name, link, again=False)

        try:
            return self.database.together(take)
        except IntegrityError as error:
            return self._clash(request, content, link, error)

    def _insert(
        self, session: Session, kind: str, request: str, content: str, link: str, facts: dict[str, Any], words: str
    ) -> str:
        now = self.database.now(session)
        submission = Submission(
            name=secrets.token_hex(5), link_hash=digest_of(link), request_hash=request, content_hash=content, kind=kind,
            state="received", received_s=now, changed_s=now, **facts,
        )  # fmt: skip
        session.add(submission)
        session.flush()
        log.note(session, submission.id, now, "submitter", words, None, "received")
        return submission.name

    def _known(self, session: Session, request: str) -> Submission | None:
        return session.scalar(select(Submission).where(Submission.request_hash == request))

    def _again(self, known: Submission, content: str, link: str) -> Accepted:
        if known.content_hash != content:
            raise ConflictError("this idempotency key was used for another submission; make a new one")
        return Accepted(known.name, link, again=True)

    def _clash(self, request: str, content: str, link: str, error: IntegrityError) -> Accepted:
        """Say what a unique constraint refused: the same request at the same moment, or a bundle that was here."""
        with self.database.reading() as session:
            known = self._known(session, request)
        if known is not None:
            return self._again(known, content, link)
        raise ConflictError("this bundle was submitted before; a result counts once") from error

    def _keep_bundle(self, source: BinaryIO) -> tuple[str, int]:
        """Copy an upload to the folder of bundles under its digest, so that it is whole or not there."""
        folder = self.settings.bundles
        temporary = folder / f".upload-{secrets.token_hex(8)}"
        digest, size = hashlib.sha256(), 0
        try:
            with temporary.open("xb") as kept:
                while part := source.read(1 << 20):
                    digest.update(part)
                    size += len(part)
                    kept.write(part)
                    if size > self.settings.limits.bundle_bytes:
                        raise PortalError(f"the bundle is larger than {self.settings.limits.bundle_bytes:,} bytes")
                kept.flush()
                os.fsync(kept.fileno())
            if not size:
                raise PortalError("the bundle is empty; send the file that `energylab-portal sealed run` wrote")
            temporary.replace(self.bundle_path(digest.hexdigest()))
            _sync(folder)
        finally:
            temporary.unlink(missing_ok=True)
        return digest.hexdigest(), size

    def bundle_path(self, digest: str) -> Path:
        """Return where the bundle of this digest lies."""
        return self.settings.bundles / f"{digest}.bundle"

    def by_link(self, session: Session, link: str) -> Submission:
        """Return the submission of a private link.

        Raises
        ------
        NotThereError
            If there is none; no other reason is given, so that nothing is learnt by trying.
        """
        found = session.scalar(select(Submission).where(Submission.link_hash == digest_of(link[:200])))
        if found is None:
            raise NotThereError("no submission has this link; check that it is whole")
        return found


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def records_of(session: Session, submission_id: int) -> list[StoredRecord]:
    """Return the records of a submission, oldest first."""
    return list(
        session.scalars(
            select(StoredRecord).where(StoredRecord.submission_id == submission_id).order_by(StoredRecord.id)
        )
    )


def counts(session: Session) -> dict[str, int]:
    """Return how many submissions are in each state."""
    rows = session.execute(select(Submission.state, func.count()).group_by(Submission.state))
    return {state: number for state, number in rows}


def ahead_of(session: Session, submission: Submission) -> int:
    """Return how many open submissions will be measured before this one."""
    earlier = select(func.count()).where(
        Submission.kind == "open", Submission.id < submission.id,
        Submission.state.in_(("received", "checked", "queued")),
    )  # fmt: skip
    return int(session.scalar(earlier) or 0)
