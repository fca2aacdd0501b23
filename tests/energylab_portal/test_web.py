"""The pages as a browser sees them: forms that only our own pages can send, links that only their owners know."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode

import pytest
from bs4 import BeautifulSoup
from itsdangerous import TimestampSigner

from energylab.errors import ConflictError, EnergylabError
from energylab.release import NEVER_INCLUDED
from energylab_portal import pages, publication, tables
from energylab_portal.guards import POLICY
from energylab_portal.sealed import keys
from energylab_portal.sealed.statement import ATTESTATIONS

PUBLIC = ("/", "/submit/open", "/submit/closed", "/methodology", "/api", "/operator/login", "/leaderboard/", "/no")
OPEN = {"model": "org/model", "revision": "", "tasks": ["text_generation"], "contact": "someone@example.org"}
HEADERS = {
    "content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
    "cache-control": "no-store",
}  # fmt: skip


@pytest.fixture
def send_open(browser, fields):
    def send_open(headers=None, **changes):
        data = {**fields(browser, "/submit/open"), **OPEN, **changes}
        return browser.post("/submit/open", data=data, headers=headers)

    return send_open


def soup(answer):
    return BeautifulSoup(answer.text, "html.parser")


def count(database, state):
    with database.reading() as session:
        return tables.counts(session).get(state, 0)


class TestEveryPage:
    @pytest.mark.parametrize("path", PUBLIC)
    def test_says_what_energy_means_and_holds_nothing_from_elsewhere(self, browser, path):
        answer = browser.get(path)
        page = soup(answer)
        words = page.footer.get_text(" ", strip=True)
        assert [
            one for one in (NEVER_INCLUDED, "measured", "estimated", "simulated", "imported") if one not in words
        ] == []
        assert HEADERS.items() <= dict(answer.headers).items()
        assert not page.find_all("script")
        assert not page.find_all(style=True)
        assert not page.find_all(lambda tag: any(name.startswith("on") for name in tag.attrs))
        addresses = [tag.get("href") or tag.get("src") for tag in page.find_all(["a", "link", "img", "form"])]
        assert [one for one in addresses if one and not one.startswith(("/", "#"))] == []

    def test_a_fault_of_ours_shows_no_trace(self, browser, portal, monkeypatch):
        monkeypatch.setattr(portal, "boards", lambda: 1 / 0)
        answer = browser.get("/")
        assert answer.status_code == 500
        assert re.search("ZeroDivision|Traceback", answer.text) is None


class TestSubmitting:
    def test_an_open_model_gets_its_private_page(self, browser, send_open):
        answer = send_open()
        assert answer.status_code == 303
        text = soup(browser.get(answer.headers["location"])).get_text(" ", strip=True)
        assert "org/model" in text
        assert "waits for its check" in text
        assert "someone@example.org" not in text  # who has the link need not learn the address

    def test_the_same_form_sent_twice_is_one_submission(self, browser, fields, database):
        data = {**fields(browser, "/submit/open"), **OPEN}
        first, second = (browser.post("/submit/open", data=data).headers["location"] for _ in range(2))
        assert first == second
        assert count(database, "received") == 1

    def test_what_is_wrong_is_said_and_what_was_typed_stays(self, send_open):
        answer = send_open(model="no hub id")
        page = soup(answer)
        assert answer.status_code == 422
        assert "no hub id" in page.find(role="alert").get_text()
        assert page.find("input", {"name": "model"})["value"] == "no hub id"
        assert page.find("input", {"value": "text_generation"}).has_attr("checked")

    def test_a_closed_result_waits_for_its_check(self, browser, fields):
        given = {"attested": tuple(ATTESTATIONS), "contact": "someone@example.org"}
        data = {**fields(browser, "/submit/closed"), **given}
        answer = browser.post("/submit/closed", data=data, files={"bundle": ("b.json", b"not read here")})
        assert "bundle of 13 bytes" in browser.get(answer.headers["location"]).text
        data["attested"] = ("public",)
        refused = browser.post("/submit/closed", data=data, files={"bundle": ("b.json", b"another")})
        assert (refused.status_code, "missing: integrity" in refused.text) == (422, True)

    @pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}"])
    def test_what_strangers_write_is_text(self, send_open, text):
        page = soup(send_open(model=text, contact=text, revision=text))
        assert not page.find_all(["script", "img"])
        assert page.find("input", {"name": "model"})["value"] == text


class TestForgedForms:
    def test_a_token_is_the_sessions_own(self, browser, browse, fields, database):
        mine, theirs = (fields(one, "/submit/open")["csrf"] for one in (browser, browse()))
        for client, csrf in [(browser, ""), (browser, "A" * 43), (browser, theirs), (browse(), ""), (browse(), mine)]:
            assert client.post("/submit/open", data={**OPEN, "csrf": csrf}).status_code == 403
        assert count(database, "received") == 0

    def test_every_form_of_every_page_is_checked(self, operator):
        """Whoever is the operator has a cookie that other sites' forms would be sent with."""
        routes = [*pages.router.routes, *pages.operators.routes]
        paths = [route.path for route in routes if "POST" in route.methods]
        assert len(paths) >= 8
        for path in paths:
            sent = path.format(link="x", name="x", action="review", key="x")
            answer = operator.post(sent, data={"csrf": "x"}, files={"bundle": ("b.json", b"x")})
            assert answer.status_code == 403, path

    @pytest.mark.parametrize(
        "header",
        ["origin: https://evil.example", "origin: null", "sec-fetch-site: cross-site", "sec-fetch-site: same-site"],
    )
    def test_another_site_is_refused(self, send_open, header):
        assert send_open(headers=dict([header.split(": ")])).status_code == 403

    def test_cookies_are_for_us_alone_and_behind_https_say_so(self, browser, make_portal, browse):
        address = "https://energy.example"
        secure = browse(make_portal("secure", address=address), base_url=address)
        for client, words in ((browser, {"httponly", "samesite=strict"}), (secure, {"secure"})):
            cookie = client.get("/submit/open").headers["set-cookie"].lower()
            assert words <= set(cookie.split("; "))


class TestOperator:
    def test_everything_is_closed_without_the_token(self, browser, fields):
        csrf = fields(browser, "/submit/open")
        answers = [browser.get(path) for path in ("/operator", "/operator/submissions/abc")]
        for path in ("releases", "keys", "submissions/a/review"):
            answers.append(browser.post(f"/operator/{path}", data=csrf))
        assert {(one.status_code, one.headers["location"]) for one in answers} == {(303, "/operator/login")}

    @pytest.mark.parametrize("token", ["", "x", "A" * 43, "ü" * 43, "\x00"])
    def test_a_wrong_token_does_not_open_them(self, browser, fields, token):
        data = {**fields(browser, "/operator/login"), "token": token}
        assert browser.post("/operator/login", data=data).status_code == 403
        assert browser.get("/operator").status_code == 303

    def test_a_made_up_cookie_does_not_open_them(self, browse, make_portal):
        session = b64encode(json.dumps({"operator_until": time.time() + 3600}).encode())
        stranger = make_portal("anothers").vault  # whose secret signs as ours does
        by_another = TimestampSigner(stranger.derive("sessions", stranger.operator_hash)).sign(session)
        for cookie in ("", "x", session.decode(), f"{session.decode()}.a.b", by_another.decode()):
            assert browse(cookies={"energylab": cookie}).get("/operator").status_code == 303

    def test_a_session_ends_when_left_with_a_new_token_and_after_half_a_day(
        self, operator, portal, browse, fields, monkeypatch
    ):
        assert operator.get("/operator").status_code == 200
        same = browse(cookies=operator.cookies)
        assert same.get("/operator").status_code == 200
        same.post("/operator/logout", data=fields(same, "/operator"))
        assert same.get("/operator").status_code == 303
        now = time.time()
        with monkeypatch.context() as later:
            later.setattr("energylab_portal.web.time.time", lambda: now + 13 * 3600)
            assert operator.get("/operator").status_code == 303
        renewed, token = type(portal.vault).open(portal.settings.folder, renew_operator=True)
        assert (renewed.is_operator(token), renewed.is_operator(portal.token)) == (True, False)
        portal.vault = renewed
        assert browse(cookies=operator.cookies).get("/operator").status_code == 303

    def test_review_reject_and_take_up_again(self, operator, fields, measured, submit, now):
        good, bad = measured("org/good"), submit("org/bad")
        csrf = fields(operator, f"/operator/submissions/{good.name}")

        def act(one, action, reason=""):
            return operator.post(f"/operator/submissions/{one.name}/{action}", data={**csrf, "reason": reason})

        assert act(good, "review").status_code == 303
        refused = act(bad, "reject", "no")
        assert (refused.status_code, "write what to do" in refused.text) == (422, True)
        act(bad, "reject", "Send a smaller model, please.")
        assert [now(one.name)[0].state for one in (good, bad)] == ["reviewed", "rejected"]
        assert "Send a smaller model" in operator.get(f"/s/{bad.link}").text
        act(bad, "retry")
        assert now(bad.name)[0].state == "received"
        assert "did you mean &#39;review&#39;" in act(good, "reviw").text

    def test_keys_and_addresses_are_the_operators_to_change(self, operator, fields, submit, measured, now):
        one, key = submit("org/one"), {"public_key": "A" * 43 + "=", "owner": "Example Ltd"}
        csrf = fields(operator, "/operator")

        def told(path, **data):
            answer = operator.post(f"/operator/{path}", data={**csrf, **data}, follow_redirects=True)
            return soup(answer).get_text(" ", strip=True)

        assert "the owner of the key is missing" in told("keys", **{**key, "owner": " "})
        assert "is enrolled." in told("keys", **key)
        identity = keys.key_id(key["public_key"])
        assert f"Key {identity[:16]} is revoked." in told(f"keys/{identity}/revoke")
        assert "Contact erased" in told(f"submissions/{one.name}/erase-contact")
        assert now(one.name)[0].contact == ""
        held = measured("org/held").name
        told(f"submissions/{held}/reject", reason="Not what was submitted.")
        assert "to measure it again, submit it again" in told(f"submissions/{held}/retry")

    def test_publishing_shows_leaderboard_label_and_badge(self, operator, browser, fields, reviewed, measured, now):
        sent = [reviewed(f"org/model-{number}", 10.0 * 2**number) for number in range(3)]
        waits = measured("org/waits")
        data = {**fields(operator, "/operator"), "name": "first", "date": "2026-03-05"}
        answer = operator.post("/operator/releases", data=data)
        assert answer.status_code == 303
        assert "3 models" in operator.get(answer.headers["location"]).text
        board = browser.get("/leaderboard/").text
        assert ("org/model-0" in board, "org/waits" in board) == (True, False)
        assert '<h1><a href="/">' in board  # and back
        label = browser.get("/labels/org/model-0.svg?task=text_generation&class=A")
        badge = browser.get("/badges/org/model-0.svg")
        assert "5 of 5 stars" in label.text
        assert re.search(r"★★★★★ (9\.9|10\.)\d Wh per 1,000, measured<", badge.text)
        for picture in (label, badge):
            assert picture.headers["content-type"] == "image/svg+xml"
            assert picture.headers["cross-origin-resource-policy"] == "cross-origin"
            assert "<script" not in picture.text
        assert {now(one.name)[0].state for one in sent} == {"published"}
        page = soup(browser.get(f"/s/{sent[0].link}"))
        assert [browser.get(picture["src"]).status_code for picture in page.find_all("img")] == [200, 200]
        assert "<bdi>org/model-0</bdi>" in str(page.h1)
        address = re.search(r"\((http[^)]*/leaderboard/[^)]*)\)", page.pre.get_text())[1]
        assert browser.get(address.partition("8320")[2].partition("#")[0]).status_code == 200
        again = operator.post("/operator/releases", data={**data, "date": "2026-03-06"})
        assert "no submission is reviewed" in again.text
        csrf = fields(operator, f"/operator/submissions/{waits.name}")
        operator.post(f"/operator/submissions/{waits.name}/review", data=csrf)
        assert "choose another name" in operator.post("/operator/releases", data=data).text
        operator.post("/operator/releases", data={**data, "name": "second"})
        assert "org/waits" in (second := browser.get("/leaderboard/").text)
        assert "org/model-1" in second
        assert "org/waits" not in browser.get("/releases/first/").text

    def test_an_unrated_model_has_a_picture_that_says_so(self, browser):
        answers = [browser.get(f"/{kind}/org/nothing.svg") for kind in ("labels", "badges")]
        assert [(one.status_code, "not rated" in one.text) for one in answers] == [(404, True)] * 2


class TestPublication:
    def test_one_publication_at_a_time(self, reviewed, publish, monkeypatch):
        """A second one that comes while the first builds its pages is refused, and the first ends well."""
        reviewed()
        build, refused = publication.leaderboard.build, []

        def meanwhile(*given, **more):
            with pytest.raises(ConflictError, match="is being made") as error:
                publish("second")
            refused.append(error)
            return build(*given, **more)

        monkeypatch.setattr(publication.leaderboard, "build", meanwhile)
        assert publish("first").releases == ("first",)
        assert len(refused) == 1

    def test_another_cohort_is_left_out_and_stays_reviewed(self, reviewed, publish, now):
        names = [reviewed(f"org/m{n}", 10.0 + n).name for n in range(3)]
        other = reviewed("org/other", 5.0, board="GPU-9", data="sample").name
        made = publish()
        assert made.published == tuple(names)
        assert "another cohort" in made.left_out[0]
        one, _, lines = now(other)
        assert one.state == "reviewed"
        assert "not in release r" in lines[-1].words

    @pytest.mark.parametrize("step", ["leaderboard.build", "_record"])
    def test_a_crash_before_the_last_step_publishes_nothing_and_the_next_try_does(
        self, portal, reviewed, publish, monkeypatch, step
    ):
        reviewed()
        with monkeypatch.context() as broken:
            failing = lambda *_, **__: (_ for _ in ()).throw(OSError("power"))  # noqa: E731
            broken.setattr(f"energylab_portal.publication.{step}", failing)
            with pytest.raises(OSError, match="power"):
                publish()
        assert (portal.settings.releases / "r.json").is_file()
        assert portal.boards() == {}
        reviewed("org/later")
        assert len(publish().published) == 2

    def test_a_release_has_its_own_leaderboard_from_its_first_moment(self, portal, reviewed, publish, monkeypatch):
        """Pages of that name are left from before the database was restored; and visitors come at once."""
        site, seen, record = portal.settings.sites / "r", [], publication._record
        site.mkdir()
        for name in ("index.html", "leaderboard.json"):
            (site / name).write_text("of a release that is not known any more")

        def visited(*given):
            seen.append((site / "index.html").read_text())
            return record(*given)

        reviewed("org/new")
        monkeypatch.setattr(publication, "_record", visited)
        publish()
        assert "org/new" in seen[0]

    @pytest.mark.parametrize(("name", "date"), [("../r", "2026-03-05"), ("r", "yesterday"), ("r" * 200, "2026-03-05")])
    def test_bad_names_and_dates_are_refused(self, portal, reviewed, publish, name, date):
        reviewed()
        with pytest.raises(EnergylabError):
            publish(name, date)
        assert list(portal.settings.folder.parent.glob("*.json")) == []


OUTSIDE = ["..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "../../operator", "..\\secret", "%00", "models/../../../secret"]


def test_nothing_outside_the_leaderboard_is_sent(browser, reviewed, publish):
    reviewed()
    publish()
    answers = [browser.get(root + path).status_code for root in ("/leaderboard/", "/releases/r/") for path in OUTSIDE]
    assert set(answers) <= {404, 303, 307, 405}
    assert browser.get("/releases/../portal/").status_code == 404
