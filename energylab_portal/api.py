"""The same for programs: JSON, described by OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Header, Query, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from energylab.errors import NotThereError
from energylab_portal import log, operator, publication
from energylab_portal.guards import client_of
from energylab_portal.sealed.statement import ATTESTATION_VERSION, ATTESTATIONS
from energylab_portal.submissions import LEAST_KEY, Accepted, ClosedSubmission, OpenSubmission
from energylab_portal.tables import STATES, WORDS, State
from energylab_portal.web import link_facts, portal_of, require_token, submission_facts

router = APIRouter(prefix="/api/v1")

Key = Annotated[
    str, Header(alias="Idempotency-Key", min_length=LEAST_KEY, max_length=200, description="random, one a submission")
]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Receipt(_Answer):
    """A submission that is on the disk."""

    submission: str = Field(description="what the operator calls it")
    link: str = Field(description="token of its private link; whoever has it can see the submission")
    page: str = Field(description="address of its private page")
    again: bool = Field(description="whether the same request had been accepted before")


class Figure(_Answer):
    """One session's energy, with its kind."""

    record_id: str
    task: str
    model_class: str | None
    energy_wh_per_1000_queries: float | None = Field(description="null: unavailable, never 0 in its place")
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
    """What is known of a submission."""

    submission: str
    kind: str
    state: State
    words: str = Field(description="what the state means")
    reason: str = Field(description="why it was rejected, and what to do; empty otherwise")
    model: str
    revision: str | None
    commit: str | None
    tasks: tuple[str, ...]
    waits_for_key: bool
    release: str | None
    facts: tuple[str, ...] = Field(description="what the check found")
    figures: tuple[Figure, ...]
    labels: tuple[dict[str, str], ...] = Field(description="addresses of label, badge and page, once published")
    history: tuple[Step, ...]


class Listed(_Answer):
    """One line of the operator's queue."""

    submission: str
    kind: str
    state: State
    model: str
    tasks: tuple[str, ...]
    worker: str | None
    received_s: float
    waits_for_key: bool


class Rejection(BaseModel):
    """Why a submission is rejected."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(max_length=2000, description="what is wrong and what to do")


class NewKey(BaseModel):
    """A key to enrol."""

    model_config = ConfigDict(extra="forbid")

    public_key: str = Field(max_length=64, description="base64 of the raw Ed25519 public key")
    owner: str = Field(max_length=200)


class NewRelease(BaseModel):
    """A release to publish."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=100)
    date: str = Field(max_length=10, description="YYYY-MM-DD")


class Published(_Answer):
    """What a publication did."""

    releases: tuple[str, ...] = Field(description="one a board with something new")
    models: int
    published: tuple[str, ...]
    left_out: tuple[str, ...]


class Done(_Answer):
    """That it was done."""

    done: str


# ---- submitters


@router.post("/submissions/open", status_code=201, tags=["Submitting"], summary="Submit an open model")
def take_open(request: Request, asked: OpenSubmission, key: Key) -> Receipt:
    """Take an open model in; it is on the disk when the answer leaves."""
    return _receipt(request, portal_of(request).queue.take_open(asked, key, client_of(request.scope)))


@router.post("/submissions/closed", status_code=201, tags=["Submitting"], summary="Submit the bundle of a closed model")
def take_closed(
    request: Request,
    bundle: Annotated[UploadFile, File(description="as `energylab-portal sealed run` wrote it")],
    contact: Annotated[str, Form(max_length=254)],
    attested: Annotated[tuple[str, ...], Form(description=f"all of: {', '.join(ATTESTATIONS)}")],
    key: Key,
) -> Receipt:
    """Take a bundle in; what is in it is checked afterwards."""
    asked = ClosedSubmission(contact=contact, attested=attested)
    queue, client = portal_of(request).queue, client_of(request.scope)
    return _receipt(request, queue.take_closed(asked, key, bundle.file, client))


def _receipt(request: Request, accepted: Accepted) -> Receipt:
    page = f"{portal_of(request).settings.address}/s/{accepted.link}"
    return Receipt(submission=accepted.name, link=accepted.link, page=page, again=accepted.again)


@router.get("/submissions/{link}", tags=["Submitting"], summary="Follow a submission by its private link")
def status(request: Request, link: str) -> Status:
    """Return what is known of a submission."""
    return _status(link_facts(portal_of(request), link))


@router.get("/attestations", tags=["Submitting"], summary="The three statements of a closed result, with their version")
def statements() -> dict[str, Any]:
    """Return the statements."""
    return {"version": ATTESTATION_VERSION, "statements": ATTESTATIONS}


# ---- everyone


@router.get("/release", tags=["What is published"], summary="A board's release on show, with all of its evidence")
def release(
    request: Request,
    board: Annotated[
        Literal["open", "closed"], Query(description="open: measured here; closed: by the models' owners")
    ] = "open",
) -> Response:
    """Return the release's file."""
    pictures = portal_of(request).boards().get(board)
    if pictures is None:
        raise NotThereError("nothing is published yet")
    return Response(pictures.release.to_bytes(), media_type="application/json")


# ---- the operator

_operator = {"dependencies": [Depends(require_token)], "tags": ["The operator"]}


@router.get("/operator/submissions", summary="The queue, newest first", **_operator)
def queue(
    request: Request, state: State | None = None, limit: Annotated[int, Field(ge=1, le=1000)] = 100
) -> list[Listed]:
    """Return submissions, of one state or all."""
    with portal_of(request).database.reading() as session:
        found = log.in_states(session, (state,) if state else STATES, limit, newest=True)
    return [
        Listed(
            submission=one.name, kind=one.kind, state=one.state, model=one.model, tasks=one.task_names,
            worker=one.worker, received_s=one.received_s, waits_for_key=one.waits_for_key,
        )
        for one in found
    ]  # fmt: skip


@router.get("/operator/submissions/{name}", summary="One submission", **_operator)
def one(request: Request, name: str) -> Status:
    """Return what is known of a submission."""
    return _status(submission_facts(portal_of(request), name))


@router.post("/operator/submissions/{name}/review", summary="Approve a measured submission", **_operator)
def review(request: Request, name: str) -> Done:
    """Approve it."""
    operator.review(portal_of(request).database, name)
    return Done(done=f"{name} reviewed")


@router.post("/operator/submissions/{name}/reject", summary="Reject one, with a reason", **_operator)
def reject(request: Request, name: str, rejection: Rejection) -> Done:
    """Reject it."""
    operator.reject(portal_of(request).database, name, rejection.reason)
    return Done(done=f"{name} rejected")


@router.post("/operator/submissions/{name}/retry", summary="Take a rejected one up again", **_operator)
def retry(request: Request, name: str) -> Done:
    """Take it up again."""
    operator.retry(portal_of(request).database, name)
    return Done(done=f"{name} received again")


@router.post("/operator/submissions/{name}/erase-contact", summary="Erase its mail address", **_operator)
def erase_contact(request: Request, name: str) -> Done:
    """Erase it."""
    operator.erase_contact(portal_of(request).database, name)
    return Done(done=f"the mail address of {name} is erased")


@router.post("/operator/keys", status_code=201, summary="Enrol the key of a closed model's owner", **_operator)
def enrol(request: Request, key: NewKey) -> dict[str, str]:
    """Enrol it."""
    return {"key_id": operator.enrol(portal_of(request).database, key.public_key, key.owner)}


@router.post("/operator/keys/{key_id}/revoke", summary="Revoke a key", **_operator)
def revoke(request: Request, key_id: str) -> Done:
    """Revoke it."""
    operator.revoke(portal_of(request).database, key_id)
    return Done(done=f"{key_id[:64]} revoked")


@router.post("/operator/releases", status_code=201, summary="Publish what is reviewed as a new release", **_operator)
def publish(request: Request, new: NewRelease) -> Published:
    """Publish it."""
    portal = portal_of(request)
    return Published(**vars(publication.publish(portal.database, portal.settings, new.name, new.date)))


def _status(facts: dict[str, Any]) -> Status:
    one = facts["submission"]
    return Status(
        submission=one.name, kind=one.kind, state=one.state, words=WORDS[one.state], reason=one.reason,
        model=one.model, revision=one.revision, commit=one.commit, tasks=one.task_names,
        waits_for_key=one.waits_for_key, release=one.release, facts=tuple(one.facts.splitlines()),
        figures=tuple(
            Figure(record_id=r.record_id, task=r.task, model_class=r.model_class,
                   energy_wh_per_1000_queries=r.energy_wh, energy_kind=r.energy_kind, device=r.device, valid=r.valid,
                   reasons=r.reasons)
            for r in facts["records"]
        ),
        labels=tuple(facts["labels"]),
        history=tuple(
            Step(at_s=e.at_s, actor=e.actor, before=e.before, after=e.after, words=e.words) for e in facts["events"]
        ),
    )  # fmt: skip
