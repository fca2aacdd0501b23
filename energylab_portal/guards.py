"""What stands before every request: size, rate, origin, host, and the headers that keep a page to itself.

Plain ASGI, so that a body is counted while it arrives and is never held as a whole.
"""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from energylab_portal.rendering import page
from energylab_portal.settings import Limits, Settings

_LOG = logging.getLogger("energylab_portal.requests")

#: Nothing from elsewhere, nothing inline, no frame around us, forms to ourselves.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

#: A picture that is opened by itself may style itself and do nothing else.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # a private link must not travel with a click to elsewhere
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


class Buckets:
    """Token buckets, one a client; the longest unseen client is forgotten when there are too many.

    Parameters
    ----------
    per_second : float
        Steady rate.
    burst : float
        Most at once.
    clients : int
        Clients remembered.
    clock : callable
    """

    def __init__(self, per_second: float, burst: float, clients: int, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._most, self._clock = per_second, max(burst, 1.0), clients, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Take one token; return 0 when there was one, else the seconds until there will be."""
        now = self._clock()
        level, at = self._levels.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate
        self._levels[client] = (level - 1 if wait == 0 else level, now)
        while len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return wait


class TooLarge(Exception):  # noqa: N818 - it never leaves this module
    """A body passed its limit while it arrived."""


class Guards:
    """The outermost layer of the portal.

    Parameters
    ----------
    app : ASGI application
    settings : Settings
    clock : callable
        For the rates.
    """

    def __init__(self, app: ASGIApp, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self.settings = settings
        limits = settings.limits
        self._all = _buckets(limits, limits.requests_per_second, clock)
        self._submissions = _buckets(limits, limits.submissions_per_minute / 60, clock, seconds=60.0)
        self._logins = _buckets(limits, limits.logins_per_minute / 60, clock, seconds=60.0)
        self._hosts = {"127.0.0.1", "localhost", "[::1]", urlsplit(settings.address).hostname or "127.0.0.1"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), [0]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refuse(scope)
        if refusal is not None:
            await _say(scope, answer, *refusal)
        else:
            await self._pass(scope, receive, answer, status)
        # The path of a private link is a secret: only the route's pattern is logged.
        route = getattr(scope.get("route"), "path", "-")
        _LOG.debug("%s %s %d %.1f ms", scope["method"], route, status[0], 1000 * (time.monotonic() - started))

    async def _pass(self, scope: Scope, receive: Receive, send: Send, status: list[int]) -> None:
        limit, read = self._limit(scope["path"]), [0]

        async def counted() -> Message:
            message = await receive()
            read[0] += len(message.get("body", b""))
            if read[0] > limit:
                raise TooLarge
            return message

        async def unless_too_large(message: Message) -> None:
            if read[0] <= limit or status[0]:  # what the parser makes of a body that was cut off is no answer
                await send(message)

        try:
            await self.app(scope, counted, unless_too_large)
        except TooLarge:
            _LOG.debug("a body was cut off at %d bytes", limit)
        if read[0] > limit and not status[0]:
            await _say(scope, send, 413, f"the body is larger than {limit:,} bytes", {"Connection": "close"})

    def _limit(self, path: str) -> int:
        limits = self.settings.limits
        return limits.bundle_bytes + limits.body_bytes if path.endswith("/closed") else limits.body_bytes

    def _refuse(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        """Return status, words and headers of a refusal; None when the request may pass."""
        headers = Headers(scope=scope)
        client = (scope.get("client") or ("-", 0))[0]
        wait = self._wait(scope, client)
        if wait:
            return 429, f"too many requests; try again in {wait:.0f} s", {"Retry-After": f"{wait:.0f}"}
        if _host(headers.get("host", "")) not in self._hosts:
            return 421, "this portal does not answer to that name; the operator sets it with --address", {}
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15:
            return 400, "the length of the body is not a number", {"Connection": "close"}
        if int(length) > self._limit(scope["path"]):
            limit = self._limit(scope["path"])
            return 413, f"the body is larger than {limit:,} bytes", {"Connection": "close"}
        if scope["method"] in _UNSAFE and not self._same_origin(headers):
            return 403, "the request comes from another site; open the portal itself and send the form there", {}
        return None

    def _wait(self, scope: Scope, client: str) -> float:
        wait = self._all.take(client)
        if not wait and scope["method"] in _UNSAFE:
            path = scope["path"]
            if "/operator/login" in path:
                wait = self._logins.take(client)
            elif "/operator" not in path:
                wait = self._submissions.take(client)
        return 0.0 if not wait else max(1.0, wait)

    def _same_origin(self, headers: Headers) -> bool:
        """Say whether a browser sent this from one of our own pages; programs send no origin and pass."""
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return False
        origin = headers.get("origin")
        if origin is None:
            return True
        parts = urlsplit(origin)
        return parts.netloc == headers.get("host") or origin == self.settings.address


def _buckets(limits: Limits, per_second: float, clock: Callable[[], float], seconds: float | None = None) -> Buckets:
    burst = per_second * (limits.burst if seconds is None else seconds)
    return Buckets(per_second, burst, limits.clients, clock)


def _host(value: str) -> str:
    """Return a host header without its port, lower case."""
    host = value.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host


async def _say(scope: Scope, send: Send, status: int, words: str, headers: dict[str, str]) -> None:
    """Answer in a few words: JSON to programs, a page to people."""
    if scope["path"].startswith("/api/"):
        body, kind = json.dumps({"error": words}).encode(), b"application/json"
    else:
        shown = page("error.html.j2", heading="That was refused", words=f"{words}.", back="/", here="")
        body, kind = shown.encode(), b"text/html; charset=utf-8"
    sent = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    sent += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
