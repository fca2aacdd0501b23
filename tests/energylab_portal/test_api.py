"""The interface for programs, its description, and the command line that speaks it."""

from __future__ import annotations

import httpx
import pytest

from energylab.errors import PortalError
from energylab_portal import client as clients
from energylab_portal import tables
from energylab_portal.sealed.statement import ATTESTATIONS

OPEN = {"model": "org/model", "tasks": ["text_generation"], "contact": "someone@example.org"}
KEY = {"Idempotency-Key": "a key that is long enough"}


class TestSubmitters:
    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({**OPEN, "tasks": ["text_genration"]}, "did you mean 'text_generation'"),
            ({**OPEN, "model": "a/b/c"}, "model: no hub id"),
            ({**OPEN, "state": "published"}, "state: Extra inputs"),
            ({}, "model: Field required"),
        ],
    )
    def test_what_is_wrong_is_said(self, browser, asked, words):
        answer = browser.post("/api/v1/submissions/open", json=asked, headers=KEY)
        assert answer.status_code == 422
        assert words in answer.json()["error"]

    @pytest.mark.parametrize("body", [b"", b"{", b"[" * 60_000, b"\xff\xfe", b'"x"', b'{"model":"\\ud800"}', b"null"])
    def test_a_body_that_is_no_json_is_refused(self, browser, body):
        headers = {**KEY, "Content-Type": "application/json"}
        assert browser.post("/api/v1/submissions/open", content=body, headers=headers).status_code in (400, 422)

    def test_a_worker_is_not_named_to_a_submitter(self, browser, submit, leases, clock, operator):
        """Neither at its work nor when another takes over."""
        accepted = submit()
        for worker in ("worker secret-host/77 on cpu", "worker secret-host/78 on cpu"):
            leases.take_check("open", worker)
            clock.now += 61
        leases.take_check("open", "worker secret-host/79 on cpu")
        for path in (f"/api/v1/submissions/{accepted.link}", f"/s/{accepted.link}"):
            page = browser.get(path).text
            assert ("org/model" in page, "secret-host" in page) == (True, False)
        assert "secret-host" in operator.get(f"/operator/submissions/{accepted.name}").text

    def test_the_description_is_whole(self, browser):
        described = browser.get("/api/openapi.json").json()
        assert described["openapi"].startswith("3.")
        assert all(call["summary"] for methods in described["paths"].values() for call in methods.values())
        page = browser.get("/api").text
        assert [path for path in described["paths"] if path not in page] == []


class TestClient:
    """The command line's client against the real application, over a door that can slam."""

    @pytest.fixture
    def door(self, browser, monkeypatch):
        """What happens to the next requests; then all go through."""
        troubles = []

        def request(method, url, timeout, **more):
            trouble = troubles.pop(0) if troubles else None
            if trouble == "unreachable":
                raise httpx.ConnectError("connection refused")
            answer = browser.request(method, url.removeprefix("http://127.0.0.1:8320"), **more)
            if trouble == "answer lost":
                raise httpx.ReadError("reset")
            return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)

        monkeypatch.setattr(clients.httpx, "request", request)
        return troubles

    @pytest.fixture
    def waits(self):
        """Seconds that the client waited, each time."""
        return []

    @pytest.fixture
    def client(self, door, waits):
        return clients.Client("http://127.0.0.1:8320", sleep=waits.append)

    def test_submitted_and_followed(self, client, waits):
        receipt = client.submit_open(**OPEN)
        assert receipt["page"].endswith(f"/s/{receipt['link']}")
        status = client.status(receipt["page"])
        assert (status["state"], status["model"], status["figures"]) == ("received", "org/model", [])
        assert [step["actor"] for step in status["history"]] == ["submitter"]
        assert clients.describe(client.status(receipt["link"])).startswith(f"{receipt['submission']}  Received: ")
        with pytest.raises(PortalError, match="did you mean 'text_generation'"):
            client.submit_open("org/model", ["text_genration"], "someone@example.org")
        assert waits == []  # a refusal is not tried again

    def test_a_result_is_told_with_its_kind_and_its_label(self, client, reviewed, publish):
        accepted = reviewed("org/model", 12.0)
        publish()
        lines = clients.describe(client.status(accepted.link)).splitlines()
        assert "Published" in lines[0]
        assert "Wh per 1,000 queries, measured, on 1 x NVIDIA H100" in lines[1]
        assert "/labels/org/model.svg" in lines[-1]

    def test_an_answer_that_is_lost_doubles_nothing(self, client, door, waits, database):
        door += ["unreachable", "answer lost", "answer lost"]
        assert client.submit_open(**OPEN)["again"]
        assert waits == [1.0, 2.0, 4.0]
        with database.reading() as session:
            assert tables.counts(session) == {"received": 1}

    def test_a_portal_that_stays_away_is_said(self, client, door):
        door += ["unreachable"] * 10
        with pytest.raises(PortalError, match="does not answer .connection refused.; run the same command"):
            client.submit_open(**OPEN)

    def test_a_bundle(self, client, tmp_path):
        file = tmp_path / "bundle.json"
        file.write_bytes(b"\r\n--x\r\n\x00binary")
        receipt = client.submit_closed(file, ATTESTATIONS, "someone@example.org")
        assert client.status(receipt["link"])["kind"] == "closed"
        with pytest.raises(PortalError, match="cannot read"):
            client.submit_closed(tmp_path / "none", ATTESTATIONS, "someone@example.org")

    @pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://x", "127.0.0.1:8320"])
    def test_only_web_addresses(self, address):
        with pytest.raises(PortalError, match="write https"):
            clients.Client(address).status("x")
