"""Checks of every request (size, rate, origin, host), and the security headers of every response.

Plain ASGI: a body is counted while it arrives and is never held as a whole.
"""

from __future__ import annotations

import contextlib
import ipaddress
from urllib.parse import urlsplit

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from energylab_portal.settings import Settings

#: Only content, forms and frames of the portal; no inline scripts and styles.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: For a picture opened on its own: only inline styles.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # other sites must not see private links
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class TooLarge(Exception):  # noqa: N818 - it never leaves this module
    """A body exceeded its limit while it arrived."""


class Guards:
    """The outermost layer of the portal."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._rates = MovingWindowRateLimiter(MemoryStorage())
        limits = settings.limits
        self._all = RateLimitItemPerSecond(limits.requests_per_second * 10, 10)
        self._submissions = RateLimitItemPerMinute(limits.submissions_per_minute)
        self._logins = RateLimitItemPerMinute(limits.logins_per_minute)
        self._hosts = {"127.0.0.1", "localhost", "::1", urlsplit(settings.address).hostname or "127.0.0.1"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refuse(scope)
        if refusal is not None:
            await _say(scope, receive, answer, *refusal)
        else:
            await self._pass(scope, receive, answer)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit, read, begun = self._limit(scope["path"]), 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise TooLarge
            return message

        async def unless_too_large(message: Message) -> None:
            nonlocal begun
            if read <= limit or begun:  # the answer to a body that was cut off is dropped
                begun = True
                await send(message)

        with contextlib.suppress(TooLarge):
            await self.app(scope, counted, unless_too_large)
        if read > limit and not begun:
            await _say(scope, receive, send, 413, f"the body is larger than {limit:,} bytes", {"Connection": "close"})

    def _limit(self, path: str) -> int:
        limits = self.settings.limits
        return limits.bundle_bytes + limits.body_bytes if path.endswith("/closed") else limits.body_bytes

    def _refuse(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        """Return status, words and headers of a refusal; None if the request is allowed."""
        headers, limit = Headers(scope=scope), self._limit(scope["path"])
        if not all(self._rates.hit(rate, name, client_of(scope)) for name, rate in self._rates_of(scope)):
            return 429, "too many requests; try again in a minute", {"Retry-After": "60"}
        if urlsplit(f"//{headers.get('host', '')}").hostname not in self._hosts:
            return 421, "this portal has another host name; the operator sets it with --address", {}
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15:
            return 400, "the length of the body is not a number", {"Connection": "close"}
        if int(length) > limit:
            return 413, f"the body is larger than {limit:,} bytes", {"Connection": "close"}
        if scope["method"] not in ("GET", "HEAD") and not self._same_origin(headers):
            return 403, "the request comes from another site; open the portal and send its form", {}
        return None

    def _rates_of(self, scope: Scope) -> list[tuple[str, RateLimitItem]]:
        rates = [("all", self._all)]
        if scope["method"] not in ("GET", "HEAD"):
            if "/operator/login" in scope["path"]:
                rates.append(("logins", self._logins))
            elif "/operator" not in scope["path"]:
                rates.append(("submissions", self._submissions))
        return rates

    def _same_origin(self, headers: Headers) -> bool:
        """Whether a browser sent this from a page of the portal; programs send no origin and are allowed."""
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return False
        origin = headers.get("origin")
        return origin is None or urlsplit(origin).netloc == headers.get("host") or origin == self.settings.address


def client_of(scope: Scope) -> str:
    """Return the address of a request; for IPv6 its network, since a client has many addresses in it."""
    host = (scope.get("client") or ("-", 0))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network(f"{host}/64", strict=False)) if address.version == 6 else host


async def _say(scope: Scope, receive: Receive, send: Send, status: int, words: str, headers: dict[str, str]) -> None:
    """Answer with a short text: JSON for programs, a page for people."""
    from energylab_portal.web import page

    if scope["path"].startswith("/api/"):
        answer: Response = JSONResponse({"error": words}, status, headers)
    else:
        shown = page("error.html.j2", heading="Request refused", words=f"{words}.", back="/", here="")
        answer = HTMLResponse(shown, status, headers)
    await answer(scope, receive, send)
