"""Size, rate, host: what is refused before anything else looks at it."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from energylab_portal.guards import Guards, client_of
from energylab_portal.settings import Limits, Settings


class Greedy:
    """An application that reads everything and remembers how much there was."""

    read = 0

    async def __call__(self, scope, receive, send):
        async for part in Request(scope, receive).stream():
            self.read += len(part)
        await PlainTextResponse("done")(scope, receive, send)


class Stubborn(Greedy):
    """One that makes an answer of its own when its body is cut off, as form parsers do."""

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        except Exception:  # noqa: BLE001 - as they do
            await PlainTextResponse("bad body", 400)(scope, receive, send)


@pytest.fixture
def ask():
    """Return a function that sends one request through the guards."""

    def ask(method="GET", path="/", app=None, client="1.2.3.4", **more):
        guards = app if isinstance(app, Guards) else guarded(app)
        return TestClient(guards, base_url="http://127.0.0.1:8320", client=(client, 1)).request(method, path, **more)

    return ask


def guarded(app=None, address="http://127.0.0.1:8320", **limits):
    return Guards(app or Greedy(), Settings(address=address, limits=Limits(**limits)))


def test_a_stated_length_is_refused_before_a_byte_is_read(ask):
    app = Greedy()
    answer = ask("POST", app=app, content=b"x" * 70_000)
    assert (answer.status_code, app.read, answer.headers["connection"]) == (413, 0, "close")
    for length in ("-1", "1e3", "9" * 40, "abc"):
        assert ask("POST", headers={"content-length": length}).status_code in (400, 413)


@pytest.mark.parametrize("kind", [Greedy, Stubborn])
def test_an_unstated_length_is_cut_off(ask, kind):
    """While it arrives, as `test_kills.py` shows by the memory of a portal."""
    app = kind()
    answer = ask("POST", "/api/x", app, content=iter([b"x" * 10_000] * 1000))
    assert (answer.status_code, "65,536 bytes" in answer.text) == (413, True)
    assert app.read <= 65_536


def test_a_bundle_may_be_larger(ask):
    for path, megabytes, status in (("/submit/closed", 20, 200), ("/api/v1/submissions/closed", 25, 413)):
        assert ask("POST", path, content=iter([b"x" * (1 << 20)] * megabytes)).status_code == status


def test_each_address_has_its_own_rate_and_guessing_the_token_is_slow(ask):
    app = guarded(submissions_per_minute=3, logins_per_minute=2)
    answers = [ask("POST", "/submit/open", app, "1.1.1.1") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) == 60
    assert ask("POST", "/submit/open", app, "2.2.2.2").status_code == 200
    assert ask("GET", "/", app, "1.1.1.1").status_code == 200  # reading goes on
    assert [ask("POST", "/operator/login", app).status_code for _ in range(3)] == [200, 200, 429]


def test_of_ipv6_the_network_is_the_client():
    scopes = [{"client": (f"2001:db8:0:1::{number}", 1)} for number in (1, 2)]
    assert client_of(scopes[0]) == client_of(scopes[1]) != client_of({"client": ("2001:db8:0:2::1", 1)})


@pytest.mark.parametrize(
    ("status", "hosts"),
    [
        (200, ("127.0.0.1:8320", "localhost:1", "LOCALHOST", "[::1]:8320", "[fd00::1]:8320")),
        (421, ("evil.example", "", "127.0.0.1.evil.example", "[::2]")),
    ],
)
def test_only_its_own_names_are_answered_ipv6_too(ask, status, hosts):
    app = guarded(address="http://[fd00::1]:8320")
    assert {ask(app=app, headers={"host": host}).status_code for host in hosts} == {status}
