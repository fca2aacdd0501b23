"""The web application: the portal's state, pages and error messages, and access checks."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, PackageLoader
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from energylab import __version__
from energylab.errors import ConflictError, EnergylabError, NotThereError
from energylab.publish import label as labels
from energylab.publish import page as pages
from energylab.publish import text as text_of
from energylab.release import NEVER_INCLUDED, RatedCohort, RatedModel, Release
from energylab_portal import publication, tables
from energylab_portal.database import Database
from energylab_portal.guards import Guards
from energylab_portal.sealed.statement import ATTESTATION_VERSION, ATTESTATIONS
from energylab_portal.settings import Settings, Vault
from energylab_portal.submissions import SubmissionQueue
from energylab_portal.tables import WAY, WORDS, Event, StoredRecord, Submission

#: Duration of an operator's login, in seconds.
STAY_S = 12 * 3600


class NotOperatorError(EnergylabError):
    """The page needs the operator's token."""


class ForeignFormError(EnergylabError):
    """A form was not sent from a page of the portal."""


_STATUS = {NotThereError: 404, ConflictError: 409, ForeignFormError: 403}

_HEADINGS = {
    403: "Not allowed", 404: "Not found", 405: "Method not allowed",
    409: "Conflict", 413: "Too large", 429: "Too many requests", 500: "Internal error",
}  # fmt: skip


@dataclass
class Portal:
    """One portal: its database, its secret, and the current releases."""

    settings: Settings
    database: Database
    vault: Vault
    queue: SubmissionQueue = field(init=False)
    _shown: dict[str, Release] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.queue = SubmissionQueue(self.database, self.vault, self.settings)

    def boards(self) -> dict[str, Release]:
        """Return the current releases, by board, each read once; empty before the first."""
        with self.database.reading() as session:
            newest = {board: publication.current(session, board) for board in publication.BOARDS}
        names = {board: current.name for board, current in newest.items() if current is not None}
        for board, name in names.items():
            if board not in self._shown or self._shown[board].name != name:
                self._shown[board] = publication.read_release(self.settings, name)
        return {board: self._shown[board] for board in names}

    def rating(
        self, model: str, task: str | None, size_class: str | None
    ) -> tuple[Release, RatedCohort, RatedModel] | None:
        """Return the rating of a model by name, task and class; models measured here come first."""
        for made in self.boards().values():
            with suppress(EnergylabError):  # it is not on this board, or several times
                return made, *pages.find(made, model, task, size_class)
        return None

    def facts(self, submission: Submission, events: list[Event], records: list[StoredRecord]) -> dict[str, Any]:
        reached = {event.after for event in events if event.after}
        return {
            "submission": submission, "events": events, "records": records, "reached": reached,
            "labels": self.labels(submission, records),
        }  # fmt: skip

    def labels(self, submission: Submission, records: list[StoredRecord]) -> list[dict[str, str]]:
        """Return the addresses of label, badge and page of a submission; empty if it is not published."""
        made = self.boards().get(submission.kind) if submission.state == "published" else None
        if made is None:
            return []
        rated = {(record.task, record.model_class) for record in records}
        models = f"/{publication.BOARDS[submission.kind]}/models"
        found = [
            (cohort, model)
            for cohort, model in made.rated()
            if model.model == submission.model and (cohort.task, cohort.model_class) in rated
        ]
        return [
            {
                "title": text_of.cohort_title(cohort.task, cohort.model_class),
                "words": labels.describe(made, cohort, model),
                "page": f"{models}/{text_of.slug(model.model)}.html#{text_of.anchor(cohort.key)}",
                **{kind: _picture(kind, model.model, cohort.task, cohort.model_class) for kind in ("label", "badge")},
            }
            for cohort, model in found
        ]


def _picture(kind: str, model: str, task: str, size_class: str | None) -> str:
    query = urlencode({"task": task, **({"class": size_class} if size_class else {})})
    return f"/{kind}s/{quote(model)}.svg?{query}"


def create(portal: Portal) -> Guards:
    from energylab_portal import api
    from energylab_portal import pages as public

    app = FastAPI(
        title="energylab portal",
        version=__version__,
        description="Submit open and closed AI models, and follow their measurement, review and publication.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # its page loads scripts from other sites; /api has the same list
        redoc_url=None,
    )
    app.state.portal = portal
    for router in (public.router, public.operators, api.router):
        app.include_router(router)
    handlers = {
        EnergylabError: _refused, RequestValidationError: _malformed, ValidationError: _malformed,
        HTTPException: _http, Exception: _broken,
    }  # fmt: skip
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    secret = portal.vault.derive("sessions", portal.vault.operator_hash)  # a new token ends every session
    kept = {"session_cookie": "energylab", "max_age": STAY_S, "same_site": "strict"}
    app.add_middleware(SessionMiddleware, secret_key=secret, https_only=portal.settings.secure, **kept)
    return Guards(app, portal.settings)


def _refused(request: Request, error: EnergylabError) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
    if isinstance(error, NotOperatorError):
        return RedirectResponse("/operator/login", 303)
    return _say(request, status, str(error))


def _malformed(request: Request, error: RequestValidationError | ValidationError) -> Response:
    """Name the wrong parts of a request, without repeating their values."""
    return _say(request, 422, explain(error))


def explain(error: RequestValidationError | ValidationError) -> str:
    lines = [
        f"{'.'.join(str(part) for part in problem['loc'] if part != 'body') or 'body'}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    ]
    return "\n".join(lines)[:2000]


def _http(request: Request, error: HTTPException) -> Response:
    words = {404: "There is no such page.", 405: "This address does not accept this method."}
    return _say(request, error.status_code, words.get(error.status_code, str(error.detail)))


def _broken(request: Request, error: Exception) -> Response:
    """Report an internal error; its traceback goes to the program's log, not to the page."""
    return _say(request, 500, "The portal has an internal error. Accepted submissions are not lost; try again.")


def _say(request: Request, status: int, words: str) -> Response:
    if _is_api(request):
        return JSONResponse({"error": words}, status)
    heading = _HEADINGS.get(status, "The request failed")
    return show(request, "error.html.j2", status, heading=heading, words=words, back="/")


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def portal_of(request: Request) -> Portal:
    return request.app.state.portal


# ---- pages and forms


@cache
def environment() -> Environment:
    """Return the leaderboard's template engine, which escapes all values, with the portal's templates."""
    engine = pages.environment().overlay(loader=PackageLoader("energylab_portal", "templates"))
    engine.filters = {**pages.environment().filters, "moment": moment, "size": size}
    engine.globals = {
        **pages.environment().globals,
        "never_included": NEVER_INCLUDED,
        "attestations": ATTESTATIONS,
        "attestation_version": ATTESTATION_VERSION,
        "state_words": WORDS,
        "way": WAY.__getitem__,
    }
    return engine


def page(template: str, **values: Any) -> str:
    return environment().get_template(template).render(**values)


@cache
def style() -> str:
    """Return the leaderboard's style sheet, followed by that of the portal."""
    engine = environment()
    return pages.source("leaderboard/style.css") + engine.loader.get_source(engine, "portal.css")[0]


def moment(seconds: float | None) -> str:
    """Return a time in UTC as text: 2026-03-05 14:07."""
    return "–" if seconds is None else f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M}"


def size(count: int | None) -> str:
    if count is None:
        return "–"
    short = f"{count / 1e3:,.0f} kB" if count < 10e6 else f"{count / 1e6:,.1f} MB"
    return f"{count:,} bytes" if count < 10_000 else short


def show(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Return a page; its forms contain a token of the visitor's session, which other sites cannot know."""
    csrf = ""
    if "session" in request.scope:
        csrf = request.session.setdefault("csrf", secrets.token_urlsafe(24))
    shown = {"here": request.url.path, "address": portal_of(request).settings.address, "csrf": csrf}
    return HTMLResponse(page(template, **{**shown, **values}), status)


def check_form(request: Request, csrf: Annotated[str, Form()] = "") -> None:
    """Raise ForeignFormError if a form was not sent from a page of the portal."""
    kept = request.session.get("csrf", "")
    if not kept or not secrets.compare_digest(csrf.encode("utf-8", "replace"), kept.encode()):
        raise ForeignFormError("the form is too old or from another site, and was ignored; load it again")


# ---- who is asking


def is_operator(request: Request) -> bool:
    """Whether the request belongs to a session in which the operator's token was entered."""
    return request.session.get("operator_until", 0) > time.time()


def require_operator(request: Request) -> None:
    if not is_operator(request):
        raise NotOperatorError("only the operator may open this page; enter the token")


def submission_facts(portal: Portal, name: str) -> dict[str, Any]:
    with portal.database.reading() as session:
        one = tables.by_name(session, name)
        return portal.facts(one, tables.history(session, one.id), tables.records_of(session, one.id))


def link_facts(portal: Portal, link: str) -> dict[str, Any]:
    """Return the values shown on the page of a private link, without names of machines and processes."""
    with portal.database.reading() as session:
        one = portal.queue.by_link(session, link)
        events, records = tables.history(session, one.id), tables.records_of(session, one.id)
        session.expunge_all()  # the changes below are only shown, not stored
        for event in events:
            event.actor = "worker" if event.actor.startswith("worker ") else event.actor
    return portal.facts(one, events, records)
