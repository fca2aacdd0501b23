"""The pages that everyone may open."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, UploadFile
from pydantic import ValidationError
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from energylab.errors import EnergylabError, NotThereError
from energylab.publish import page as leaderboard_pages
from energylab.release import Release
from energylab_portal import badges, publication, rendering, submission_rules
from energylab_portal.guards import PICTURE_POLICY
from energylab_portal.request_context import Portal, check_csrf, link_facts, portal_of, show
from energylab_portal.schema import PublishedRelease
from energylab_portal.submissions import Accepted, ahead_of, counts

router = APIRouter(include_in_schema=False)

_WAITING = ("received", "checked", "queued", "measuring", "measured", "reviewed")


@router.get("/")
def home(request: Request) -> Response:
    """Show what this is, and what is on the leaderboard."""
    portal = portal_of(request)
    boards = [_board(board, pictures.release) for board, pictures in portal.boards().items()]
    with portal.database.reading() as session:
        waiting = sum(number for state, number in counts(session).items() if state in _WAITING)
    return show(request, "home.html.j2", boards=boards, waiting=waiting)


def _board(board: str, release: Release) -> dict[str, Any]:
    bands = leaderboard_pages.bands(release.cohorts)
    return {"kind": board, "path": f"/{publication.BOARDS[board]}/", "release": release, "bands": bands}


@router.get("/style.css")
def style() -> Response:
    """Send the style sheet."""
    return Response(rendering.style(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@router.get("/icon.svg")
def icon() -> Response:
    """Send the icon."""
    source = leaderboard_pages.source("leaderboard/icon.svg")
    return Response(source, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


@router.get("/methodology")
def methodology(request: Request) -> Response:
    """Say how a figure comes about, and what no check can see."""
    return show(request, "methodology.html.j2")


@router.get("/api")
def api(request: Request) -> Response:
    """List the interface for programs."""
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for path, methods in request.app.openapi()["paths"].items():
        for method, call in methods.items():
            groups.setdefault(call["tags"][0], []).append((method.upper(), path, call["summary"]))
    return show(request, "api.html.j2", groups=list(groups.items()), limits=portal_of(request).settings.limits)


# ---- submitting


@router.get("/submit/open")
def ask_open(request: Request) -> Response:
    """Show the form for an open model."""
    return _open_form(request)


@router.post("/submit/open")
def take_open(
    request: Request,
    csrf: Annotated[str, Form()] = "",
    key: Annotated[str, Form()] = "",
    model: Annotated[str, Form()] = "",
    revision: Annotated[str, Form()] = "",
    tasks: Annotated[tuple[str, ...], Form()] = (),
    contact: Annotated[str, Form()] = "",
) -> Response:
    """Take an open model in."""
    check_csrf(request, csrf)
    given = {"model": model, "revision": revision, "tasks": tasks, "contact": contact}

    def take() -> Accepted:
        return portal_of(request).desk.take_open(submission_rules.OpenSubmission(**given), key)

    return _taken(take, lambda error: _open_form(request, given, error, key))


@router.get("/submit/closed")
def ask_closed(request: Request) -> Response:
    """Show the form for a closed result."""
    return _closed_form(request)


@router.post("/submit/closed")
def take_closed(
    request: Request,
    bundle: UploadFile,
    csrf: Annotated[str, Form()] = "",
    key: Annotated[str, Form()] = "",
    attested: Annotated[tuple[str, ...], Form()] = (),
    contact: Annotated[str, Form()] = "",
) -> Response:
    """Take the bundle of a closed model in."""
    check_csrf(request, csrf)
    given = {"attested": attested, "contact": contact}

    def take() -> Accepted:
        return portal_of(request).desk.take_closed(submission_rules.ClosedSubmission(**given), key, bundle.file)

    return _taken(take, lambda error: _closed_form(request, given, error, key))


def _taken(take: Callable[[], Accepted], form: Callable[[str], Response]) -> Response:
    """Go to the private page of what was taken in, or show the form again with what is wrong."""
    try:
        accepted = take()
    except ValidationError as error:
        return form(explain(error))
    except EnergylabError as error:
        return form(str(error))
    return RedirectResponse(f"/s/{accepted.link}", status_code=303)


def explain(error: ValidationError) -> str:
    """Say what is wrong with what was sent, one line a field."""
    return "\n".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _open_form(request: Request, given: dict[str, Any] | None = None, error: str = "", key: str = "") -> Response:
    given = given or {"model": "", "revision": "", "tasks": (), "contact": ""}
    return _form(request, "submit_open.html.j2", given, error, key, tasks=portal_of(request).desk.task_names)


def _closed_form(request: Request, given: dict[str, Any] | None = None, error: str = "", key: str = "") -> Response:
    given = given or {"attested": (), "contact": ""}
    limit = portal_of(request).settings.limits.bundle_bytes
    return _form(request, "submit_closed.html.j2", given, error, key, limit=limit)


def _form(request: Request, template: str, given: dict[str, Any], error: str, key: str, **more: Any) -> Response:
    fresh = secrets.token_urlsafe(24)  # a form that is sent twice is one submission; a corrected one keeps its key
    return show(request, template, 422 if error else 200, given=given, error=error, key=key or fresh, **more)


@router.get("/s/{link}")
def status(request: Request, link: str) -> Response:
    """Show one submission to whoever has its link."""
    portal = portal_of(request)
    facts = link_facts(portal, link)
    submission = facts["submission"]
    ahead = 0
    if submission.kind == "open" and submission.state in ("received", "checked", "queued"):
        with portal.database.reading() as session:
            ahead = ahead_of(session, submission)
    return show(request, "status.html.j2", ahead=ahead, **facts)


# ---- what is published


@router.get("/leaderboard")
@router.get("/closed")
def leaderboard_root(request: Request) -> Response:
    """Go to the leaderboard, whose links are relative."""
    return RedirectResponse(f"{request.url.path}/")


@router.get("/leaderboard/{path:path}")
async def leaderboard(request: Request, path: str) -> Response:
    """Send a file of the leaderboard of what was measured here."""
    return await _on_show(request, "open", path)


@router.get("/closed/{path:path}")
async def closed_leaderboard(request: Request, path: str) -> Response:
    """Send a file of the leaderboard of closed models, measured by their owners."""
    return await _on_show(request, "closed", path)


async def _on_show(request: Request, board: str, path: str) -> Response:
    portal = portal_of(request)
    current = await run_in_threadpool(_current, portal, board)
    if current is None:
        return show(
            request, "error.html.j2", 404, heading="Nothing is published yet", back="/submit/open",
            words="The leaderboard comes with the first release. Submit a model, and be in it.",
        )  # fmt: skip
    return await _file(request, portal, current.name, path)


@router.get("/releases/{name}/{path:path}")
async def old_release(request: Request, name: str, path: str) -> Response:
    """Send a file of any release that was published here."""
    portal = portal_of(request)
    known = await run_in_threadpool(_known, portal, name)
    if known is None:
        raise NotThereError("there is no such release")
    return await _file(request, portal, known, path)


def _current(portal: Portal, board: str) -> PublishedRelease | None:
    with portal.database.reading() as session:
        return publication.current(session, board)


def _known(portal: Portal, name: str) -> str | None:
    with portal.database.reading() as session:
        return session.scalar(select(PublishedRelease.name).where(PublishedRelease.name == name))


async def _file(request: Request, portal: Portal, name: str, path: str) -> Response:
    path = path or "index.html"
    response = await StaticFiles(directory=portal.settings.sites / name).get_response(path, request.scope)
    response.headers["Cache-Control"] = "no-cache"
    return response


@router.get("/labels/{model:path}.svg")
def label(request: Request, model: str, task: str | None = None) -> Response:
    """Send the label of a rated model."""
    size_class = request.query_params.get("class")
    rated = portal_of(request).rating(model, task, size_class)
    return _picture(rated.label(model, task, size_class)) if rated else _picture(badges.unrated(), 404)


@router.get("/badges/{model:path}.svg")
def badge(request: Request, model: str, task: str | None = None) -> Response:
    """Send the badge of a rated model; one that says so when it is not rated."""
    size_class = request.query_params.get("class")
    rated = portal_of(request).rating(model, task, size_class)
    return _picture(rated.badge(model, task, size_class)) if rated else _picture(badges.unrated(), 404)


def _picture(svg: str, status: int = 200) -> Response:
    headers = {
        "Content-Security-Policy": PICTURE_POLICY,
        "Cross-Origin-Resource-Policy": "cross-origin",  # a model card may show it
        "Cache-Control": "max-age=300",
    }
    return Response(svg, status, media_type="image/svg+xml", headers=headers)
