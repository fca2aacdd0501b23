"""The application: routes, errors in words, and the guards around all of it."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from energylab import __version__
from energylab.errors import ConflictError, EnergylabError, NotThereError
from energylab_portal import api, operator_pages, pages
from energylab_portal.guards import Guards
from energylab_portal.request_context import ForeignFormError, NotOperatorError, Portal, show

_STATUS = {NotThereError: 404, ConflictError: 409, NotOperatorError: 401, ForeignFormError: 403}

_HEADINGS = {
    401: "This page is the operator’s",
    403: "Not from here",
    404: "Nothing here",
    405: "Not in this way",
    409: "That does not go together",
    413: "Too large",
    429: "Too many at once",
    500: "Something broke",
}


def create(portal: Portal) -> Guards:
    """Return the portal as an ASGI application.

    Parameters
    ----------
    portal : Portal
        Its database is open.
    """
    app = FastAPI(
        title="energylab portal",
        version=__version__,
        description="Submit AI models, open and closed; follow how their energy is measured, reviewed and published.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere; /api lists the same
        redoc_url=None,
    )
    app.state.portal = portal
    for router in (pages.router, operator_pages.router, operator_pages.inside, api.router):
        app.include_router(router)
    app.add_exception_handler(EnergylabError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(ValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _broken)
    return Guards(app, portal.settings)


def _refused(request: Request, error: EnergylabError) -> Response:
    """Say why something was refused."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
    if isinstance(error, NotOperatorError) and not _is_api(request):
        return RedirectResponse("/operator/login", 303)
    return _say(request, status, str(error))


def _malformed(request: Request, error: RequestValidationError) -> Response:
    """Say which part of a request is wrong; what was sent is not repeated."""
    problems = [
        f"{'.'.join(map(str, problem['loc'][1:])) or 'body'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    ]
    return _say(request, 422, "\n".join(problems)[:2000])


def _invalid(request: Request, error: ValidationError) -> Response:
    return _say(request, 422, pages.explain(error)[:2000])


def _http(request: Request, error: HTTPException) -> Response:
    words = {404: "There is no such page.", 405: "This address is not asked that way."}
    return _say(request, error.status_code, words.get(error.status_code, str(error.detail)))


def _broken(request: Request, error: Exception) -> Response:
    """Admit a fault of ours; its trace goes to the program's log, not to the page."""
    return _say(request, 500, "A fault of the portal, not yours. Nothing that was accepted is lost; try again.")


def _say(request: Request, status: int, words: str) -> Response:
    if _is_api(request):
        return JSONResponse({"error": words}, status)
    heading = _HEADINGS.get(status, "That did not work")
    return show(request, "error.html.j2", status, heading=heading, words=words, back="/")


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")
