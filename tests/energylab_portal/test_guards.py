"""Size, rate, host: what is refused before anything else looks at it."""

from __future__ import annotations

import asyncio

import pytest

from energylab_portal.guards import Guards, client_of
from energylab_portal.settings import Limits, Settings


class Greedy:
    """An application that reads everything and remembers how much there was."""

    read = 0

    async def __call__(self, scope, receive, send):
        more = True
        while more:
            message = await receive()
            self.read += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


class Stubborn(Greedy):
    """One that makes an answer of its own when its body is cut off, as form parsers do."""

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        except Exception:  # noqa: BLE001 - as they do
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"bad body"})


def ask(app, method="GET", path="/", headers=(), chunks=(b"",), client="1.2.3.4", host=b"127.0.0.1:8320"):
    """Send one request to an ASGI application in given chunks; return status, headers and body."""
    left, sent = list(chunks), []

    async def receive():
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", host), *headers],
             "client": (client, 1), "query_string": b""}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(part.get("body", b"") for part in sent[1:])


def guarded(app=None, **limits):
    return Guards(app or Greedy(), Settings(limits=Limits(**limits)))


def test_a_stated_length_is_refused_before_a_byte_is_read():
    app = Greedy()
    status, headers, _ = ask(guarded(app), "POST", headers=[(b"content-length", b"70000")], chunks=[b"x" * 70_000])
    assert (status, app.read, headers[b"connection"]) == (413, 0, b"close")
    for length in (b"-1", b"1e3", b"9" * 40, b"abc"):
        assert ask(guarded(), "POST", headers=[(b"content-length", length)])[0] in (400, 413)


@pytest.mark.parametrize("kind", [Greedy, Stubborn])
def test_an_unstated_length_is_cut_off_while_it_arrives(kind):
    app = kind()
    status, _, body = ask(guarded(app), "POST", "/api/x", chunks=[b"x" * 10_000] * 1000)
    assert (status, b"65,536 bytes" in body) == (413, True)
    assert app.read <= 65_536 + 10_000


def test_a_bundle_may_be_larger():
    app = guarded()
    assert ask(app, "POST", "/submit/closed", chunks=[b"x" * (1 << 20)] * 20)[0] == 200
    assert ask(app, "POST", "/api/v1/submissions/closed", chunks=[b"x" * (1 << 20)] * 25)[0] == 413


def test_each_address_has_its_own_rate_and_guessing_the_token_is_slow():
    app = guarded(submissions_per_minute=3, logins_per_minute=2)
    answers = [ask(app, "POST", "/submit/open", client="1.1.1.1") for _ in range(5)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1][1][b"retry-after"]) == 60
    assert ask(app, "POST", "/submit/open", client="2.2.2.2")[0] == 200
    assert ask(app, "GET", "/", client="1.1.1.1")[0] == 200  # reading goes on
    assert [ask(app, "POST", "/operator/login")[0] for _ in range(3)] == [200, 200, 429]


def test_of_ipv6_the_network_is_the_client():
    scopes = [{"client": (f"2001:db8:0:1::{number}", 1)} for number in (1, 2)]
    assert client_of(scopes[0]) == client_of(scopes[1]) != client_of({"client": ("2001:db8:0:2::1", 1)})


@pytest.mark.parametrize(
    ("status", "hosts"),
    [
        (200, (b"127.0.0.1:8320", b"localhost:1", b"LOCALHOST", b"[::1]:8320", b"[fd00::1]:8320")),
        (421, (b"evil.example", b"", b"127.0.0.1.evil.example", b"[::2]")),
    ],
)
def test_only_its_own_names_are_answered_ipv6_too(status, hosts):
    app = Guards(Greedy(), Settings(address="http://[fd00::1]:8320"))
    assert {ask(app, host=host)[0] for host in hosts} == {status}
