"""The same for programs: JSON, described by OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, File, Form, Header, Query, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from energylab.errors import NotThereError
from energylab_portal import log, operator, publication
from energylab_portal.guards import client_of
from energylab_portal.publication import Outcome
from energylab_portal.sealed.statement import ATTESTATIONS
from energylab_portal.submissions import LEAST_KEY, Accepted, ClosedSubmission, OpenSubmission
from energylab_portal.tables import STATES, WORDS, State
from energylab_portal.web import link_facts, portal_of, require_token, submission_facts

router = APIRouter(prefix="/api/v1")

Key = Annotated[
    str, Header(alias="Idempotency-Key", min_length=LEAST_KEY, max_length=200, description="random, one a submission")
]


class _Answer(BaseModel):
    """Built from what the database holds, by the names of its columns."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


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
    energy_wh_per_1000_queries: float | None = Field(
        validation_alias="energy_wh", description="null: unavailable, never 0 in its place"
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


class _Submission(_Answer):
    submission: str = Field(validation_alias="name")
    kind: str
    state: State
    model: str
    tasks: tuple[str, ...] = Field(validation_alias="task_names")
    waits_for_key: bool


class Listed(_Submission):
    """One line of the operator's queue."""

    worker: str | None
    received_s: float


class Known(_Submission):
    """What the database holds of a submission."""

    reason: str = Field(description="why it was rejected, and what to do; empty otherwise")
    revision: str | None
    commit: str | None
    release: str | None


class Status(Known):
    """What is known of a submission."""

    submission: str
    tasks: tuple[str, ...]
    words: str = Field(description="what the state means")
    facts: tuple[str, ...] = Field(description="what the check found")
    figures: tuple[Figure, ...]
    labels: tuple[dict[str, str], ...] = Field(description="addresses of label, badge and page, once published")
    history: tuple[Step, ...]


# ---- submitters


@router.post("/submissions/open", status_code=201, tags=["Submitting"], summary="Submit an open model")
def take_open(request: Request, asked: OpenSubmission, key: Key) -> Receipt:
    return _receipt(request, portal_of(request).queue.take_open(asked, key, client_of(request.scope)))


@router.post("/submissions/closed", status_code=201, tags=["Submitting"], summary="Submit the bundle of a closed model")
def take_closed(
    request: Request,
    bundle: Annotated[UploadFile, File(description="as `energylab-portal sealed run` wrote it")],
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


@router.get("/submissions/{link}", tags=["Submitting"], summary="Follow a submission by its private link")
def status(request: Request, link: str) -> Status:
    return _status(link_facts(portal_of(request), link))


# ---- everyone


@router.get("/release", tags=["What is published"], summary="A board's release on show, with all of its evidence")
def release(
    request: Request,
    board: Annotated[
        Literal["open", "closed"], Query(description="open: measured here; closed: by the models' owners")
    ] = "open",
) -> Response:
    pictures = portal_of(request).boards().get(board)
    if pictures is None:
        raise NotThereError("nothing is published yet")
    return Response(pictures.release.to_bytes(), media_type="application/json")


# ---- the operator

_operator = {"dependencies": [Depends(require_token)], "tags": ["The operator"]}


@router.get("/operator/submissions", summary="The queue, newest first", response_model=list[Listed], **_operator)
def queue(request: Request, state: State | None = None, limit: Annotated[int, Field(ge=1, le=1000)] = 100) -> Any:
    with portal_of(request).database.reading() as session:
        return log.in_states(session, (state,) if state else STATES, limit, newest=True)


@router.get("/operator/submissions/{name}", summary="One submission", **_operator)
def one(request: Request, name: str) -> Status:
    return _status(submission_facts(portal_of(request), name))


@router.post(
    "/operator/submissions/{name}/{action}", **_operator,
    summary="Approve a measured submission, reject one with a reason, take it up again, or erase its mail address",
)  # fmt: skip
def act(
    request: Request,
    name: str,
    action: Literal["review", "reject", "retry", "erase-contact"],
    reason: Annotated[str, Body(embed=True, max_length=2000, description="of a rejection: what to do")] = "",
) -> dict[str, str]:
    operator.act(portal_of(request).database, name, action, reason)
    return {"done": f"{action} {name}"}


@router.post("/operator/keys", status_code=201, summary="Enrol the key of a closed model's owner", **_operator)
def enrol(
    request: Request,
    public_key: Annotated[str, Body(max_length=64, description="base64 of the raw Ed25519 public key")],
    owner: Annotated[str, Body(max_length=200)],
) -> dict[str, str]:
    return {"key_id": operator.enrol(portal_of(request).database, public_key, owner)}


@router.post("/operator/keys/{key_id}/revoke", summary="Revoke a key", **_operator)
def revoke(request: Request, key_id: str) -> dict[str, str]:
    operator.revoke(portal_of(request).database, key_id)
    return {"done": f"revoke {key_id[:64]}"}


@router.post("/operator/releases", status_code=201, summary="Publish what is reviewed as a new release", **_operator)
def publish(
    request: Request,
    name: Annotated[str, Body(max_length=100)],
    date: Annotated[str, Body(max_length=10, description="YYYY-MM-DD")],
) -> Outcome:
    portal = portal_of(request)
    return publication.publish(portal.database, portal.settings, name, date)


def _status(facts: dict[str, Any]) -> Status:
    known = facts["submission"]
    return Status(
        **Known.model_validate(known).model_dump(), words=WORDS[known.state], facts=known.facts.splitlines(),
        figures=facts["records"], labels=facts["labels"], history=facts["events"],
    )  # fmt: skip
