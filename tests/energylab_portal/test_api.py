"""The interface for programs, its description, and the command line that speaks it."""

from __future__ import annotations

import json
import secrets

import httpx
import pytest

from energylab.errors import PortalError
from energylab_portal import client as clients
from energylab_portal import tables

OPEN = {"model": "org/model", "tasks": ["text_generation"], "contact": "someone@example.org"}


def key():
    return {"Idempotency-Key": secrets.token_urlsafe(20)}


class TestSubmitters:
    def test_submitted_and_followed(self, browser):
        receipt = browser.post("/api/v1/submissions/open", json=OPEN, headers=key())
        assert receipt.status_code == 201
        told = receipt.json()
        assert told["page"].endswith(f"/s/{told['link']}")
        status = browser.get(f"/api/v1/submissions/{told['link']}").json()
        assert (status["state"], status["model"], status["figures"]) == ("received", "org/model", [])
        assert [step["actor"] for step in status["history"]] == ["submitter"]

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({**OPEN, "tasks": ["text_genration"]}, "did you mean 'text_generation'"),
            ({**OPEN, "tasks": []}, "tasks"),
            ({**OPEN, "model": "a/b/c"}, "write a hub id"),
            ({**OPEN, "state": "published"}, "state: Extra inputs"),
            ({}, "model: Field required"),
        ],
    )
    def test_what_is_wrong_is_said(self, browser, asked, said):
        answer = browser.post("/api/v1/submissions/open", json=asked, headers=key())
        assert answer.status_code == 422
        assert said in answer.json()["error"]

    @pytest.mark.parametrize("body", [b"", b"{", b"[" * 60_000, b"\xff\xfe", b'"x"', b'{"model":"\\ud800"}', b"null"])
    def test_a_body_that_is_no_json_is_refused(self, browser, body):
        headers = {**key(), "Content-Type": "application/json"}
        assert browser.post("/api/v1/submissions/open", content=body, headers=headers).status_code in (400, 422)

    def test_a_worker_is_not_named_to_a_submitter(self, browser, submit, leases, clock, operator):
        """Neither at its work nor when another takes over."""
        accepted = submit()
        for worker in ("worker secret-host/77 on cpu", "worker secret-host/78 on cpu"):
            leases.take_check("open", worker)
            clock.now += 61
        leases.take_check("open", "worker secret-host/79 on cpu")
        assert "secret-host" not in browser.get(f"/api/v1/submissions/{accepted.link}").text
        assert "secret-host" not in browser.get(f"/s/{accepted.link}").text
        assert "secret-host" in operator.get(f"/operator/submissions/{accepted.name}").text


class TestClient:
    """The command line's client against the real application, over a door that can slam."""

    @pytest.fixture
    def door(self, browser, monkeypatch):
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
    def client(self, door):
        waits = []
        client = clients.Client("http://127.0.0.1:8320", sleep=waits.append)
        object.__setattr__(client, "waits", waits)
        return client

    def test_submit_and_follow(self, client):
        receipt = client.submit_open("org/model", ["text_generation"], "someone@example.org")
        assert client.status(receipt["page"])["state"] == "received"
        assert clients.describe(client.status(receipt["link"])).startswith(f"{receipt['submission']}  Received: ")

    def test_an_answer_that_is_lost_doubles_nothing(self, client, door, database):
        door += ["unreachable", "answer lost", "answer lost"]
        receipt = client.submit_open("org/model", ["text_generation"], "someone@example.org")
        assert receipt["again"]
        assert client.waits == [1.0, 2.0, 4.0]
        with database.reading() as session:
            assert len(tables.in_states(session, ["received"])) == 1

    def test_a_refusal_is_not_tried_again(self, client):
        with pytest.raises(PortalError, match="did you mean 'text_generation'"):
            client.submit_open("org/model", ["text_genration"], "someone@example.org")
        assert client.waits == []

    def test_a_portal_that_stays_away_is_said(self, client, door):
        door += ["unreachable"] * 10
        with pytest.raises(PortalError, match="does not answer .connection refused.; nothing is lost"):
            client.submit_open("org/model", ["text_generation"], "someone@example.org")

    def test_a_bundle(self, client, tmp_path, all_attested):
        file = tmp_path / "bundle.json"
        file.write_bytes(b"\r\n--x\r\n\x00binary")
        receipt = client.submit_closed(file, all_attested, "someone@example.org")
        assert client.status(receipt["link"])["kind"] == "closed"
        with pytest.raises(PortalError, match="cannot read"):
            client.submit_closed(tmp_path / "none", all_attested, "someone@example.org")

    @pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://x", "127.0.0.1:8320"])
    def test_only_web_addresses(self, address):
        with pytest.raises(PortalError, match="write https"):
            clients.Client(address).status("x")


def test_the_description_is_whole(browser):
    described = browser.get("/api/openapi.json").json()
    assert described["openapi"].startswith("3.")
    for methods in described["paths"].values():
        for call in methods.values():
            assert call["summary"]
    page = browser.get("/api").text
    assert all(path in page for path in described["paths"])
    json.dumps(described)
