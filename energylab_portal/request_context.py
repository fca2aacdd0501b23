"""What every route reaches for: the portal itself, who is asking, and forms that only our own pages can send."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from energylab.errors import EnergylabError
from energylab.publish import label as labels
from energylab.publish import text
from energylab_portal import log, own_code, publication
from energylab_portal.badges import Pictures
from energylab_portal.database import Database
from energylab_portal.rendering import page
from energylab_portal.schema import Event, StoredRecord, Submission
from energylab_portal.settings import Settings
from energylab_portal.submissions import Desk, records_of
from energylab_portal.tokens import Vault

VISITOR = "energylab_visit"
OPERATOR = "energylab_operator"

#: How long an operator stays in without showing the token again, in seconds.
STAY_S = 12 * 3600


#: How workers are named in the log; see `energylab_portal.worker.worker_name`.
_MACHINE = re.compile(r"\b(worker) \S+/\d+ on \S+")


class NotOperatorError(EnergylabError):
    """The page is the operator's, and the token was not shown."""


class ForeignFormError(EnergylabError):
    """A form was sent that did not come from our own page."""


@dataclass
class Portal:
    """One portal: its database, its secret, and the release on show."""

    settings: Settings
    database: Database
    vault: Vault
    desk: Desk = field(init=False)
    _shown: dict[str, tuple[str, Pictures]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.desk = Desk(self.database, self.vault, self.settings)

    def boards(self) -> dict[str, Pictures]:
        """Return labels and badges of the releases on show, by board, each read once; empty before the first."""
        with self.database.reading() as session:
            shown = {board: publication.current(session, board) for board in publication.BOARDS}
        for board, current in shown.items():
            if current is not None and (board not in self._shown or self._shown[board][0] != current.name):
                made = publication.read_release(self.settings, current.name)
                self._shown[board] = current.name, Pictures(made)
        return {board: self._shown[board][1] for board, current in shown.items() if current is not None}

    def rating(self, model: str, task: str | None, size_class: str | None) -> Pictures | None:
        """Return the board that a model's name, task and class are rated on; what was measured here comes first."""
        found = (one for one in self.boards().values() if one.find(model, task, size_class) is not None)
        return next(found, None)

    def facts(self, submission: Submission, events: list[Event], records: list[StoredRecord]) -> dict[str, Any]:
        """Return what the operator's page of one submission shows."""
        reached = {event.after for event in events if event.after}
        return {
            "submission": submission, "events": events, "records": records, "reached": reached,
            "labels": self.labels(submission, records), "lacking": own_code.lacking(events),
        }  # fmt: skip

    def labels(self, submission: Submission, records: list[StoredRecord]) -> list[dict[str, str]]:
        """Return where label, badge and page of a published submission are; nothing before it is published."""
        pictures = self.boards().get(submission.kind) if submission.state == "published" else None
        if pictures is None:
            return []
        rated = {(record.task, record.model_class) for record in records}
        models = f"/{publication.BOARDS[submission.kind]}/models"
        found = [
            (cohort, model)
            for cohort, model in pictures.release.rated()
            if model.model == submission.model and (cohort.task, cohort.model_class) in rated
        ]
        return [
            {
                "title": text.cohort_title(cohort.task, cohort.model_class),
                "words": labels.describe(pictures.release, cohort, model),
                "page": f"{models}/{text.slug(model.model)}.html#{text.anchor(cohort.key)}",
                **{kind: _picture(kind, model.model, cohort.task, cohort.model_class) for kind in ("label", "badge")},
            }
            for cohort, model in found
        ]


def _picture(kind: str, model: str, task: str, size_class: str | None) -> str:
    query = urlencode({"task": task, **({"class": size_class} if size_class else {})})
    return f"/{kind}s/{quote(model)}.svg?{query}"


def portal_of(request: Request) -> Portal:
    """Return the portal that a request came to."""
    return request.app.state.portal


# ---- forms


def visit(request: Request) -> str:
    """Return the visitor's random name from the cookie, or a new one."""
    kept = request.cookies.get(VISITOR, "")
    return kept if 20 <= len(kept) <= 100 else secrets.token_urlsafe(18)


def csrf_token(request: Request, visitor: str) -> str:
    """Return what a form of this visitor must carry: another site can neither read it nor make it."""
    return portal_of(request).vault.derive("csrf", visitor, request.cookies.get(OPERATOR, ""))


def check_csrf(request: Request, token: str) -> None:
    """Refuse a form that did not come from our own page.

    Raises
    ------
    ForeignFormError
    """
    visitor = request.cookies.get(VISITOR, "")
    if not visitor or not portal_of(request).vault.matches(token, "csrf", visitor, request.cookies.get(OPERATOR, "")):
        raise ForeignFormError(
            "the form is too old or came from elsewhere, and nothing was done; go back, load it again, and send it"
        )


def show(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Answer with a page; its forms carry the visitor's token."""
    portal, visitor = portal_of(request), visit(request)
    shown = {"here": request.url.path, "address": portal.settings.address, "csrf": csrf_token(request, visitor)}
    response = HTMLResponse(page(template, **{**shown, **values}), status)
    if request.cookies.get(VISITOR) != visitor:
        set_cookie(response, portal, VISITOR, visitor, 24 * 3600)
    return response


def set_cookie(response: Response, portal: Portal, name: str, value: str, seconds: int) -> None:
    """Set a cookie that scripts cannot read and other sites cannot send."""
    response.set_cookie(
        name, value, max_age=seconds, path="/", httponly=True, samesite="strict", secure=portal.settings.secure
    )


# ---- who is asking


def is_operator(request: Request) -> bool:
    """Say whether the request shows the operator's token or the cookie that was given for it."""
    vault = portal_of(request).vault
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and vault.is_operator(token.strip()):
        return True
    return vault.operator_from_cookie(request.cookies.get(OPERATOR, ""), time.time())


def require_operator(request: Request) -> None:
    """Let only the operator pass.

    Raises
    ------
    NotOperatorError
    """
    if not is_operator(request):
        raise NotOperatorError("this is the operator's; show the token")


def require_token(request: Request) -> None:
    """Let only programs pass that show the operator's token themselves: a cookie could be sent by another's page.

    Raises
    ------
    NotOperatorError
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not portal_of(request).vault.is_operator(token.strip()):
        raise NotOperatorError("send the operator's token: Authorization: Bearer TOKEN")


def submission_facts(portal: Portal, name: str) -> dict[str, Any]:
    """Return what the operator's page of one submission shows.

    Raises
    ------
    NotThereError
        If there is no such submission.
    """
    with portal.database.reading() as session:
        submission = log.by_name(session, name)
        return portal.facts(submission, log.history(session, submission.id), records_of(session, submission.id))


def link_facts(portal: Portal, link: str) -> dict[str, Any]:
    """Return what the page behind a private link shows: who acted, without names of machines and processes.

    Raises
    ------
    NotThereError
        If there is no such submission.
    """
    with portal.database.reading() as session:
        submission = portal.desk.by_link(session, link)
        events, records = log.history(session, submission.id), records_of(session, submission.id)
        session.expunge_all()  # what is changed below is what is shown, not what is kept
        for event in events:
            event.actor, event.words = event.actor.partition(" ")[0], _MACHINE.sub(r"\1", event.words)
    return portal.facts(submission, events, records)
