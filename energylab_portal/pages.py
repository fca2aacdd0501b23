"""The pages: the public ones, the files to verify closed results, and those of the operator."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request, UploadFile
from pydantic import ValidationError
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from energylab.errors import EnergylabError, NotThereError, unknown_name
from energylab.publish import label as labels
from energylab.publish import page as leaderboard_pages
from energylab.publish import text as text_of
from energylab.release import Release
from energylab_portal import publication, review, tables
from energylab_portal.guards import PICTURE_POLICY, client_of
from energylab_portal.submissions import Accepted, ClosedSubmission, OpenSubmission
from energylab_portal.tables import STATES, EnrolledKey, PublishedRelease, Submission
from energylab_portal.web import (
    STAY_S,
    Portal,
    check_form,
    explain,
    is_operator,
    link_facts,
    portal_of,
    require_operator,
    show,
    style,
    submission_facts,
)

router = APIRouter(include_in_schema=False)
operators = APIRouter(prefix="/operator", include_in_schema=False, dependencies=[Depends(require_operator)])

#: Dependency of every form: it was sent from a page of the portal.
FORM = [Depends(check_form)]

Text = Annotated[str, Form()]
Texts = Annotated[tuple[str, ...], Form()]

_WAITING = ("received", "checked", "queued", "measuring", "measured", "reviewed")
#: Most submissions on the operator's page.
_SHOWN = 200


@router.get("/")
def home(request: Request) -> Response:
    portal = portal_of(request)
    boards = [_board(board, made) for board, made in portal.boards().items()]
    with portal.database.reading() as session:
        waiting = sum(number for state, number in tables.counts(session).items() if state in _WAITING)
        closed = _closed(session)
    return show(request, "home.html.j2", boards=boards, waiting=waiting, closed=closed)


def _board(board: str, release: Release) -> dict[str, Any]:
    bands = leaderboard_pages.bands(release.cohorts)
    return {"kind": board, "path": f"/{publication.BOARDS[board]}/", "release": release, "bands": bands}


def _closed(session: Any) -> list[Submission]:
    return list(session.scalars(select(Submission).where(Submission.kind == "closed", Submission.state == "published")))


@router.get("/style.css")
def style_sheet() -> Response:
    return Response(style(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@router.get("/icon.svg")
def icon() -> Response:
    source = leaderboard_pages.source("leaderboard/icon.svg")
    return Response(source, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


@router.get("/methodology")
def methodology(request: Request) -> Response:
    return show(request, "methodology.html.j2")


@router.get("/api")
def api(request: Request) -> Response:
    paths = request.app.openapi()["paths"]
    calls = [(method.upper(), path, call["summary"]) for path in paths for method, call in paths[path].items()]
    return show(request, "api.html.j2", calls=calls, limits=portal_of(request).settings.limits)


# ---- submitting


@router.get("/submit/open")
def ask_open(request: Request) -> Response:
    return _open_form(request, {"model": "", "revision": "", "tasks": (), "contact": ""})


@router.post("/submit/open", dependencies=FORM)
def take_open(
    request: Request, key: Text = "", model: Text = "", revision: Text = "", tasks: Texts = (),
    contact: Text = "",
) -> Response:  # fmt: skip
    given = {"model": model, "revision": revision, "tasks": tasks, "contact": contact}
    queue, client = portal_of(request).queue, client_of(request.scope)
    take = lambda: queue.take_open(OpenSubmission(**given), key, client)  # noqa: E731
    return _taken(take, lambda error: _open_form(request, given, error, key))


@router.get("/submit/closed")
def ask_closed(request: Request) -> Response:
    return _closed_form(request, {"attested": (), "contact": ""})


@router.post("/submit/closed", dependencies=FORM)
def take_closed(
    request: Request, bundle: UploadFile, key: Text = "", attested: Texts = (), contact: Text = ""
) -> Response:
    given = {"attested": attested, "contact": contact}
    queue, client = portal_of(request).queue, client_of(request.scope)
    take = lambda: queue.take_closed(ClosedSubmission(**given), key, bundle.file, client)  # noqa: E731
    return _taken(take, lambda error: _closed_form(request, given, error, key))


def _taken(take: Callable[[], Accepted], form: Callable[[str], Response]) -> Response:
    """Redirect to the private page of an accepted submission, or show the form again with the error."""
    try:
        return RedirectResponse(f"/s/{take().link}", status_code=303)
    except ValidationError as error:
        return form(explain(error))
    except EnergylabError as error:
        return form(str(error))


def _open_form(request: Request, given: dict[str, Any], error: str = "", key: str = "") -> Response:
    return _form(request, "submit_open.html.j2", given, error, key, tasks=portal_of(request).queue.task_names)


def _closed_form(request: Request, given: dict[str, Any], error: str = "", key: str = "") -> Response:
    limit = portal_of(request).settings.limits.bundle_bytes
    return _form(request, "submit_closed.html.j2", given, error, key, limit=limit)


def _form(request: Request, template: str, given: dict[str, Any], error: str, key: str, **more: Any) -> Response:
    fresh = secrets.token_urlsafe(24)  # a form that is sent twice is one submission; a corrected one keeps its key
    return show(request, template, 422 if error else 200, given=given, error=error, key=key or fresh, **more)


@router.get("/s/{link}")
def status(request: Request, link: str) -> Response:
    return show(request, "status.html.j2", **link_facts(portal_of(request), link))


@router.post("/s/{link}/erase-contact", dependencies=FORM)
def erase(request: Request, link: str) -> Response:
    portal_of(request).queue.erase_contact(link)
    return RedirectResponse(f"/s/{link}", 303)


# ---- what is published


@router.get("/verify/{name}")
def evidence(request: Request, name: str) -> Response:
    submission = _published(portal_of(request), name)
    with portal_of(request).database.reading() as session:
        key = session.get(EnrolledKey, submission.key_id)
        records = tables.records_of(session, submission.id)
    return show(request, "verify.html.j2", submission=submission, records=records, key=key)


@router.get("/verify/{name}/{file}")
def evidence_file(request: Request, name: str, file: str) -> Response:
    portal = portal_of(request)
    submission, settings = _published(portal, name), portal.settings
    if file == "owner.pub":
        with portal.database.reading() as session:
            return Response(f"{session.get(EnrolledKey, submission.key_id).public_key}\n", media_type="text/plain")
    files = {
        "bundle.json": settings.bundle_path(submission.bundle), "official.json": settings.official,
        "operator.pub": settings.operator_key,
    }  # fmt: skip
    if file not in files or not files[file].is_file():
        raise NotThereError("there is no such file; open the page above")
    return FileResponse(files[file], filename=file)


def _published(portal: Portal, name: str) -> Submission:
    with portal.database.reading() as session:
        found = tables.by_name(session, name)
    if (found.kind, found.state) != ("closed", "published"):
        raise NotThereError("there is no such result")
    return found


@router.get("/leaderboard")
@router.get("/closed")
def leaderboard_root(request: Request) -> Response:
    return RedirectResponse(f"{request.url.path}/")


@router.get("/leaderboard/{path:path}")
@router.get("/closed/{path:path}")
async def leaderboard(request: Request, path: str) -> Response:
    board = next(kind for kind, root in publication.BOARDS.items() if request.url.path.startswith(f"/{root}/"))
    current = await run_in_threadpool(_release, portal_of(request), PublishedRelease.board == board)
    if current is None:
        return show(
            request, "error.html.j2", 404, heading="Nothing is published yet", back="/submit/open",
            words="The leaderboard appears with the first release. Submit a model to be included.",
        )  # fmt: skip
    return await _file(request, current, path)


@router.get("/releases/{name}/{path:path}")
async def old_release(request: Request, name: str, path: str) -> Response:
    known = await run_in_threadpool(_release, portal_of(request), PublishedRelease.name == name)
    if known is None:
        raise NotThereError("there is no such release")
    return await _file(request, known, path)


def _release(portal: Portal, wanted: Any) -> str | None:
    with portal.database.reading() as session:
        newest = select(PublishedRelease.name).where(wanted).order_by(PublishedRelease.id.desc())
        return session.scalar(newest.limit(1))


async def _file(request: Request, name: str, path: str) -> Response:
    portal = portal_of(request)
    folder = await run_in_threadpool(publication.site, portal.settings, portal.database, name)
    response = await StaticFiles(directory=folder).get_response(path or "index.html", request.scope)
    response.headers["Cache-Control"] = "no-cache"
    return response


@router.get("/labels/{model:path}.svg")
@router.get("/badges/{model:path}.svg")
def picture(request: Request, model: str, task: str | None = None) -> Response:
    draw = labels.svg if request.url.path.startswith("/labels/") else publication.badge
    rated = portal_of(request).rating(model, task, request.query_params.get("class"))
    return _picture(draw(*rated)) if rated else _picture(publication.unrated(), 404)


def _picture(svg: str, status: int = 200) -> Response:
    headers = {
        "Content-Security-Policy": PICTURE_POLICY,
        "Cross-Origin-Resource-Policy": "cross-origin",  # a model card may show it
        "Cache-Control": "max-age=300",
    }
    return Response(svg, status, media_type="image/svg+xml", headers=headers)


# ---- the operator


@router.get("/operator/login")
def ask_token(request: Request) -> Response:
    return RedirectResponse("/operator", 303) if is_operator(request) else show(request, "login.html.j2", error="")


@router.post("/operator/login", dependencies=FORM)
def take_token(request: Request, token: Text = "") -> Response:
    if not portal_of(request).vault.is_operator(token.strip()):
        return show(request, "login.html.j2", 403, error="This is not the operator's token.")
    request.session.clear()
    request.session["operator_until"] = time.time() + STAY_S
    return RedirectResponse("/operator", 303)


@operators.post("/logout", dependencies=FORM)
def leave(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("/", 303)


@operators.get("")
def overview(request: Request, state: str = "", message: str = "", error: str = "") -> Response:
    if state and state not in STATES:
        raise unknown_name("state", state[:50], STATES)
    with portal_of(request).database.reading() as session:
        numbers = tables.counts(session)
        values: dict[str, Any] = {
            "shown": tables.in_states(session, (state,) if state else STATES, _SHOWN, newest=True),
            "counts": [(each, numbers.get(each, 0)) for each in STATES],
            "total": sum(numbers.values()),
            "matching": numbers.get(state, 0) if state else sum(numbers.values()),
            "reviewed": numbers.get("reviewed", 0),
            "keys": list(session.scalars(select(EnrolledKey).order_by(EnrolledKey.enrolled_s.desc()))),
            "releases": list(session.scalars(select(PublishedRelease).order_by(PublishedRelease.id.desc()).limit(20))),
            "log": tables.latest(session),
        }
    today = dt.datetime.now(dt.UTC).date().isoformat()
    shown = {"chosen": state, "message": message[:500], "error": error, "today": today}
    return show(request, "operator.html.j2", 422 if error else 200, **shown, **values)


@operators.get("/submissions/{name}")
def one(request: Request, name: str) -> Response:
    return show(request, "operator_submission.html.j2", error="", **submission_facts(portal_of(request), name))


@operators.post("/submissions/{name}/{action}", dependencies=FORM)
def act(request: Request, name: str, action: str, reason: Text = "") -> Response:
    try:
        review.act(portal_of(request).database, name, action, reason)
    except EnergylabError as error:
        facts = submission_facts(portal_of(request), name)
        return show(request, "operator_submission.html.j2", 422, error=str(error), **facts)
    return RedirectResponse(f"/operator/submissions/{name}", 303)


@operators.post("/keys", dependencies=FORM)
def enrol(request: Request, public_key: Text = "", owner: Text = "") -> Response:
    database = portal_of(request).database
    return _doing(request, lambda: f"Key {review.enrol(database, public_key, owner)[:16]} is enrolled.")


@operators.post("/keys/{key}/revoke", dependencies=FORM)
def revoke(request: Request, key: str) -> Response:

    def do() -> str:
        review.revoke(portal_of(request).database, key)
        return f"Key {key[:16]} is revoked."

    return _doing(request, do)


@operators.post("/releases", dependencies=FORM)
def publish(request: Request, name: Text = "", date: Text = "") -> Response:
    portal = portal_of(request)

    def do() -> str:
        made = publication.publish(portal.database, portal.settings, name, date)
        left = f" Not included: {'; '.join(made.left_out)}" if made.left_out else ""
        models, new = text_of.plural(made.models, "model"), text_of.plural(len(made.published), "submission")
        return f"{' and '.join(made.releases)}: now published, {models}, {new} new.{left}"

    return _doing(request, do)


def _doing(request: Request, do: Callable[[], str]) -> Response:
    """Do something, and show the result or the error on the overview."""
    try:
        message = do()
    except EnergylabError as error:
        return overview(request, error=str(error))
    return RedirectResponse(f"/operator?message={quote(message)}", 303)
