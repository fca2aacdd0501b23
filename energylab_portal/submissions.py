"""Submissions: their fields, and accepting them so that none is lost or stored twice."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from energylab import tasks
from energylab.errors import ConflictError, NotThereError, PortalError, unknown_name
from energylab.publish.text import one_line
from energylab.record import canonical_json
from energylab_portal import tables
from energylab_portal.database import Database
from energylab_portal.sealed.statement import ATTESTATIONS, attest
from energylab_portal.settings import Settings, Vault, digest_of
from energylab_portal.tables import Submission

#: Minimal length of an idempotency key; a shorter one, and the private link derived from it, could be guessed.
LEAST_KEY = 16
#: States in which a submission waits for the portal.
WAITING = ("received", "checked", "queued", "measuring")
#: Time in seconds before the bundle of a rejected submission, or of none, is deleted.
KEEP_REJECTED_S, KEEP_ORPHAN_S = 30 * 86_400.0, 3600.0
#: Bytes of a bundle that are in memory at once, since many may arrive at the same time.
_PIECE = 1 << 20


def _model(value: str) -> str:
    value = value.strip()
    name = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
    if not re.fullmatch(rf"({name}/)?{name}", value) or ".." in value or "--" in value:
        raise ValueError("no hub id; write organisation/name, with letters, digits, '.', '_' and '-'")
    return value


def _revision(value: str | None) -> str | None:
    value = (value or "").strip()
    if value and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", value) or ".." in value):
        raise ValueError("no valid revision; write a branch, tag or commit, or leave it empty for the main branch")
    return value or None


def _contact(value: str) -> str:
    value = value.strip()
    if (
        not re.fullmatch(r"[^\s@<>\"',;:()\[\]\\]+@[^\s@<>\"',;:()\[\]\\]+\.[^\s@.<>]+", value)
        or one_line(value) != value
    ):
        raise ValueError("no mail address; write name@example.org (only the operator sees it)")
    return value


Contact = Annotated[
    str, Field(max_length=254, description="mail address; only the operator sees it"), AfterValidator(_contact)
]


class OpenSubmission(BaseModel):
    """An open model to be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(max_length=200, description="hub id, organisation/name"), AfterValidator(_model)]
    revision: Annotated[
        str | None, Field(max_length=200, description="branch, tag or commit; default: main"),
        AfterValidator(_revision),
    ] = None  # fmt: skip
    tasks: Annotated[tuple[str, ...], Field(min_length=1, max_length=20, description="names of tasks")]
    contact: Contact


class ClosedSubmission(BaseModel):
    """The fields sent with the bundle of a closed model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contact: Contact
    attested: Annotated[
        tuple[str, ...],
        Field(max_length=10, description=f"the owner's statements; all are required: {', '.join(ATTESTATIONS)}"),
    ]


@dataclass(frozen=True)
class Accepted:
    """A submission that is stored on disk."""

    name: str  # as operators and logs show it
    link: str  # the token of its private link
    again: bool  # whether the same request was accepted before


class SubmissionQueue:
    def __init__(self, database: Database, vault: Vault, settings: Settings) -> None:
        self.database = database
        self.vault = vault
        self.settings = settings

    @cached_property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that can be chosen; new ones appear after a restart of the portal."""
        return tuple(tasks.task_names(self.settings.params))

    def take_open(self, asked: OpenSubmission, key: str, client: str = "") -> Accepted:
        for name in asked.tasks:
            if name not in self.task_names:
                raise unknown_name("task", name[:100], self.task_names)
        names = tuple(dict.fromkeys(asked.tasks))
        facts = {"model": asked.model, "revision": asked.revision, "tasks": " ".join(names), "contact": asked.contact}
        return self._take("open", key, client, facts, f"submitted for {', '.join(names)}")

    def take_closed(self, asked: ClosedSubmission, key: str, bundle: BinaryIO, client: str = "") -> Accepted:
        """Accept the bundle of a closed model without reading its content."""
        version = attest(asked.attested).version
        most, size = self.settings.limits.bundle_bytes, bundle.seek(0, os.SEEK_END)
        if not 0 < size <= most:
            raise PortalError(f"the bundle is empty or larger than {most:,} bytes; send the file of `sealed run`")
        bundle.seek(0)
        digest = hashlib.file_digest(bundle, "sha256").hexdigest()
        facts = {"bundle": digest, "bundle_bytes": size, "attestation": version, "contact": asked.contact}
        words = f"bundle of {size:,} bytes submitted, statements {version} made"
        return self._take("closed", key, client, facts, words, bundle)

    def _take(
        self, kind: str, key: str, client: str, facts: dict[str, Any], words: str, bundle: BinaryIO | None = None
    ) -> Accepted:
        if not LEAST_KEY <= len(key) <= 200:
            raise PortalError(f"the idempotency key has {len(key)} characters; send {LEAST_KEY} to 200 random ones")
        request, client = digest_of(key), self.vault.derive("client", client)
        content = hashlib.sha256(canonical_json({"kind": kind, **facts})).hexdigest()
        link = self.vault.derive("link", request)
        with self.database.writing() as session:
            known = session.scalar(select(Submission).where(Submission.request_hash == request))
            if known is None:
                self._refuse(session, client, facts)
                now, name = tables.now(session), secrets.token_hex(5)
                made = Submission(
                    name=name, link_hash=digest_of(link), request_hash=request, content_hash=content, client=client,
                    kind=kind, state="received", received_s=now, changed_s=now, **facts,
                )  # fmt: skip
                session.add(made)
                session.flush()
                tables.note(session, made.id, "submitter", words, None, "received")
                if bundle is not None:  # before the commit, so that every accepted submission has its bundle
                    self._store(facts["bundle"], bundle)
                return Accepted(name, link, again=False)
        if known.content_hash != content:
            raise ConflictError(
                "this idempotency key belongs to another submission, or to one whose mail address was erased; "
                "use a new key, or see that submission by its link"
            )
        return Accepted(known.name, link, again=True)

    def _refuse(self, session: Session, client: str, facts: dict[str, Any]) -> None:
        """Raise ConflictError for a known bundle, a waiting model, or too many waiting submissions of a client."""
        waits = select(func.count()).where(Submission.state.in_(WAITING))
        if int(session.scalar(waits.where(Submission.client == client)) or 0) >= self.settings.limits.waiting:
            raise ConflictError(f"{self.settings.limits.waiting} of your submissions are waiting; submit again later")
        if facts.get("bundle") and session.scalar(select(Submission.id).where(Submission.bundle == facts["bundle"])):
            raise ConflictError("this bundle was submitted before; each result is accepted once")
        if facts.get("model"):
            same = [func.lower(Submission.model) == facts["model"].lower(), Submission.tasks == facts["tasks"]]
            revision = facts["revision"]
            same.append(Submission.revision.is_(None) if revision is None else Submission.revision == revision)
            if session.scalar(waits.where(Submission.kind == "open", *same)):
                raise ConflictError("this model, with these tasks and this revision, is already waiting")

    def _store(self, digest: str, bundle: BinaryIO) -> None:
        """Copy a bundle to a file named by its digest, completely or not at all."""
        bundle.seek(0)
        folder = self.settings.bundles
        temporary = folder / f".upload-{secrets.token_hex(8)}"
        with temporary.open("xb") as kept:
            shutil.copyfileobj(bundle, kept, _PIECE)
            kept.flush()
            os.fsync(kept.fileno())
        temporary.replace(self.settings.bundle_path(digest))
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def clean(self) -> int:
        """Remove bundles that were never accepted, or rejected long ago; return their number."""
        with self.database.reading() as session:
            rows = session.execute(select(Submission.bundle, Submission.state, Submission.changed_s))
            known = {bundle: (state, changed_s) for bundle, state, changed_s in rows if bundle}
            now = tables.now(session)
        removed = 0
        for path in self.settings.bundles.iterdir():
            state, changed_s = known.get(path.stem, (None, None))
            old = now - changed_s > KEEP_REJECTED_S if state else time.time() - path.stat().st_mtime > KEEP_ORPHAN_S
            if old and state in (None, "rejected"):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def by_link(self, session: Session, link: str) -> Submission:
        found = session.scalar(select(Submission).where(Submission.link_hash == digest_of(link[:200])))
        if found is None:
            raise NotThereError("no submission has this link; check that it is complete")
        return found

    def erase_contact(self, link: str) -> None:
        with self.database.writing() as session:
            found = self.by_link(session, link)
            tables.erase_contact(session, found, "submitter")
