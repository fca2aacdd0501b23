"""The portal's interface for programs: JSON, described by OpenAPI."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Header, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from energylab_portal.guards import client_of
from energylab_portal.sealed.statement import ATTESTATIONS
from energylab_portal.submissions import LEAST_KEY, Accepted, ClosedSubmission, OpenSubmission
from energylab_portal.tables import WORDS, State
from energylab_portal.web import link_facts, portal_of

router = APIRouter(prefix="/api/v1")

Key = Annotated[
    str, Header(alias="Idempotency-Key", min_length=LEAST_KEY, max_length=200, description="random; one per submission")
]


class _Answer(BaseModel):
    """Built from a row of the database, by the names of its columns."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Receipt(_Answer):
    """An accepted submission."""

    submission: str = Field(description="name of the submission, as the operator sees it")
    link: str = Field(description="token of its private link; anyone with it can see the submission")
    page: str = Field(description="address of its private page")
    again: bool = Field(description="whether the same request was accepted before")


class Figure(_Answer):
    """Energy of one session, with its kind."""

    record_id: str
    task: str
    model_class: str | None
    energy_wh_per_1000_queries: float | None = Field(
        validation_alias="energy_wh", description="null: unavailable (never 0 instead)"
    )
    energy_kind: str = Field(description="measured, estimated, simulated or imported")
    device: str
    valid: bool
    reasons: str


class Step(_Answer):
    """One line of the log."""

    at_s: float = Field(description="seconds since 1970, UTC")
    actor: str
    before: str | None
    after: str | None
    words: str


class Status(_Answer):
    """Status of a submission."""

    submission: str
    kind: str
    state: State
    words: str = Field(description="meaning of the state")
    model: str
    revision: str | None
    commit: str | None
    tasks: tuple[str, ...]
    waits_for_key: bool
    reason: str = Field(description="if rejected: the reason, and what to do")
    release: str | None
    facts: tuple[str, ...] = Field(description="results of the check")
    figures: tuple[Figure, ...]
    labels: tuple[dict[str, str], ...] = Field(description="if published: addresses of label, badge and page")
    history: tuple[Step, ...]


@router.post("/submissions/open", status_code=201, summary="Submit an open model")
def take_open(request: Request, asked: OpenSubmission, key: Key) -> Receipt:
    return _receipt(request, portal_of(request).queue.take_open(asked, key, client_of(request.scope)))


@router.post("/submissions/closed", status_code=201, summary="Submit the bundle of a closed model")
def take_closed(
    request: Request,
    bundle: Annotated[UploadFile, File(description="file written by `energylab-portal sealed run`")],
    contact: Annotated[str, Form(max_length=254)],
    attested: Annotated[tuple[str, ...], Form(description=f"all of: {', '.join(ATTESTATIONS)}")],
    key: Key,
) -> Receipt:
    asked = ClosedSubmission(contact=contact, attested=attested)
    queue, client = portal_of(request).queue, client_of(request.scope)
    return _receipt(request, queue.take_closed(asked, key, bundle.file, client))


def _receipt(request: Request, accepted: Accepted) -> Receipt:
    page = f"{portal_of(request).settings.address}/s/{accepted.link}"
    return Receipt(submission=accepted.name, link=accepted.link, page=page, again=accepted.again)


@router.get("/submissions/{link}", summary="Status of a submission, by its private link")
def status(request: Request, link: str) -> Status:
    facts = link_facts(portal_of(request), link)
    known = facts["submission"]
    columns = ("kind", "state", "model", "revision", "commit", "waits_for_key", "reason", "release")
    return Status(
        **{name: getattr(known, name) for name in columns}, submission=known.name, tasks=known.task_names,
        words=WORDS[known.state], facts=known.facts.splitlines(), figures=facts["records"], labels=facts["labels"],
        history=facts["events"],
    )  # fmt: skip
