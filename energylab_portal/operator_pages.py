"""The operator's pages: the queue, one submission, keys and releases."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request
from sqlalchemy import select
from starlette.responses import RedirectResponse, Response

from energylab.errors import EnergylabError, unknown_name
from energylab.publish import text
from energylab_portal import keys, log, operator_actions, publication
from energylab_portal.request_context import (
    OPERATOR,
    STAY_S,
    check_csrf,
    is_operator,
    portal_of,
    require_operator,
    set_cookie,
    show,
    submission_facts,
)
from energylab_portal.schema import PublishedRelease, Submission
from energylab_portal.states import STATES
from energylab_portal.submissions import counts

router = APIRouter(prefix="/operator", include_in_schema=False)
inside = APIRouter(prefix="/operator", include_in_schema=False, dependencies=[Depends(require_operator)])

_SHOWN = 200


@router.get("/login")
def ask_token(request: Request) -> Response:
    """Ask for the token."""
    return RedirectResponse("/operator", 303) if is_operator(request) else show(request, "login.html.j2", error="")


@router.post("/login")
def take_token(request: Request, csrf: Annotated[str, Form()] = "", token: Annotated[str, Form()] = "") -> Response:
    """Let the operator in."""
    check_csrf(request, csrf)
    portal = portal_of(request)
    if not portal.vault.is_operator(token.strip()):
        return show(request, "login.html.j2", 403, error="That is not the operator's token.")
    response = RedirectResponse("/operator", 303)
    set_cookie(response, portal, OPERATOR, portal.vault.operator_cookie(time.time() + STAY_S), STAY_S)
    return response


@inside.post("/logout")
def leave(request: Request, csrf: Annotated[str, Form()] = "") -> Response:
    """Let the operator out."""
    check_csrf(request, csrf)
    response = RedirectResponse("/", 303)
    response.delete_cookie(OPERATOR, path="/", httponly=True, samesite="strict")
    return response


@inside.get("")
def overview(request: Request, state: str = "", said: str = "") -> Response:
    """Show the queue, keys, releases and the log."""
    return _overview(request, state, said[:500])


def _overview(request: Request, state: str = "", said: str = "", error: str = "") -> Response:
    if state and state not in STATES:
        raise unknown_name("state", state[:50], STATES)
    with portal_of(request).database.reading() as session:
        numbers = counts(session)
        wanted = select(Submission).order_by(Submission.id.desc()).limit(_SHOWN)
        shown = list(session.scalars(wanted.where(Submission.state == state) if state else wanted))
        values: dict[str, Any] = {
            "counts": [(each, numbers.get(each, 0)) for each in STATES],
            "total": sum(numbers.values()),
            "matching": numbers.get(state, 0) if state else sum(numbers.values()),
            "reviewed": numbers.get("reviewed", 0),
            "keys": keys.everyone(session),
            "releases": list(session.scalars(select(PublishedRelease).order_by(PublishedRelease.id.desc()).limit(20))),
            "log": log.latest(session),
        }
    today = dt.datetime.now(dt.UTC).date().isoformat()
    status = 422 if error else 200
    return show(
        request, "operator.html.j2", status, shown=shown, chosen=state, said=said, error=error, today=today, **values
    )


@inside.get("/submissions/{name}")
def one(request: Request, name: str) -> Response:
    """Show one submission with all that is known of it."""
    return show(request, "operator_submission.html.j2", error="", **submission_facts(portal_of(request), name))


@inside.post("/submissions/{name}/{action}")
def act(
    request: Request, name: str, action: str, csrf: Annotated[str, Form()] = "", reason: Annotated[str, Form()] = ""
) -> Response:
    """Review, reject, try again, or allow code."""
    check_csrf(request, csrf)
    database = portal_of(request).database
    actions: dict[str, Callable[[], None]] = {
        "review": lambda: operator_actions.review(database, name),
        "reject": lambda: operator_actions.reject(database, name, reason),
        "retry": lambda: operator_actions.retry(database, name),
        "allow-code": lambda: operator_actions.allow_code(database, name),
    }
    if action not in actions:
        raise unknown_name("action", action[:50], actions)
    try:
        actions[action]()
    except EnergylabError as error:
        facts = submission_facts(portal_of(request), name)
        return show(request, "operator_submission.html.j2", 422, error=str(error), **facts)
    return RedirectResponse(f"/operator/submissions/{name}", 303)


@inside.post("/keys")
def enrol(
    request: Request,
    csrf: Annotated[str, Form()] = "",
    public_key: Annotated[str, Form()] = "",
    owner: Annotated[str, Form()] = "",
) -> Response:
    """Enrol the key of a closed model's owner."""
    check_csrf(request, csrf)
    return _doing(
        request, lambda: f"Key {keys.enrol(portal_of(request).database, public_key, owner)[:16]} is enrolled."
    )


@inside.post("/keys/{key}/revoke")
def revoke(request: Request, key: str, csrf: Annotated[str, Form()] = "") -> Response:
    """Revoke a key."""
    check_csrf(request, csrf)

    def do() -> str:
        keys.revoke(portal_of(request).database, key)
        return f"Key {key[:16]} is revoked."

    return _doing(request, do)


@inside.post("/releases")
def publish(
    request: Request,
    csrf: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    date: Annotated[str, Form()] = "",
) -> Response:
    """Publish everything that is reviewed as a new release."""
    check_csrf(request, csrf)
    portal = portal_of(request)

    def do() -> str:
        made = publication.publish(portal.database, portal.settings, name, date)
        left = f" Left out: {'; '.join(made.left_out)}" if made.left_out else ""
        shown = " and ".join(made.releases)
        models, new = text.plural(made.models, "model"), text.plural(len(made.published), "submission")
        return f"{shown}: on show now, {models}, {new} new.{left}"

    return _doing(request, do)


def _doing(request: Request, do: Callable[[], str]) -> Response:
    """Do something and say so on the overview, or say there why not."""
    try:
        said = do()
    except EnergylabError as error:
        return _overview(request, error=str(error))
    return RedirectResponse(f"/operator?said={quote(said)}", 303)
