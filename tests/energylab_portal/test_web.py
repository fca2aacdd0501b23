"""The pages as a browser sees them: forms that only our own pages can send, links that only their owners know."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode

import pytest
from bs4 import BeautifulSoup
from itsdangerous import TimestampSigner

from energylab.errors import ConflictError, EnergylabError, PortalError
from energylab.release import NEVER_INCLUDED
from energylab_portal import pages, publication, tables
from energylab_portal import review as actions
from energylab_portal.guards import POLICY

PUBLIC_PAGES = (
    "/",
    "/submit/open",
    "/submit/closed",
    "/methodology",
    "/api",
    "/operator/login",
    "/leaderboard/",
    "/no",
)
OPEN = {"model": "org/model", "revision": "", "tasks": ["text_generation"], "contact": "someone@example.org"}


def send_open(browser, fields, **changes):
    return browser.post("/submit/open", data={**fields(browser, "/submit/open"), **OPEN, **changes})


class TestEveryPage:
    @pytest.mark.parametrize("path", PUBLIC_PAGES)
    def test_says_what_energy_means_and_holds_nothing_from_elsewhere(self, browser, path):
        answer = browser.get(path)
        page = BeautifulSoup(answer.text, "html.parser")
        said = page.footer.get_text(" ", strip=True)
        assert NEVER_INCLUDED in said
        assert all(kind in said for kind in ("measured", "estimated", "simulated", "imported"))
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert not page.find_all("script")
        assert not page.find_all(style=True)
        assert not page.find_all(lambda tag: any(name.startswith("on") for name in tag.attrs))
        addresses = [tag.get("href") or tag.get("src") for tag in page.find_all(["a", "link", "img", "form"])]
        assert [one for one in addresses if one and not one.startswith(("/", "#"))] == []

    def test_a_fault_of_ours_shows_no_trace(self, browser, portal, monkeypatch):
        monkeypatch.setattr(portal, "boards", lambda: 1 / 0)
        answer = browser.get("/")
        assert answer.status_code == 500
        assert "ZeroDivision" not in answer.text
        assert "Traceback" not in answer.text


class TestSubmitting:
    def test_an_open_model_gets_its_private_page(self, browser, fields):
        answer = send_open(browser, fields)
        assert answer.status_code == 303
        page = browser.get(answer.headers["location"])
        assert page.status_code == 200
        text = BeautifulSoup(page.text, "html.parser").get_text(" ", strip=True)
        assert "org/model" in text
        assert "it waits to be checked" in text
        assert "someone@example.org" not in text  # who has the link need not learn the address

    def test_the_same_form_sent_twice_is_one_submission(self, browser, fields, database):
        data = {**fields(browser, "/submit/open"), **OPEN}
        first, second = browser.post("/submit/open", data=data), browser.post("/submit/open", data=data)
        assert first.headers["location"] == second.headers["location"]
        with database.reading() as session:
            assert len(tables.in_states(session, ["received"])) == 1

    def test_what_is_wrong_is_said_and_what_was_typed_stays(self, browser, fields):
        answer = send_open(browser, fields, model="no hub id", contact="someone@example.org")
        page = BeautifulSoup(answer.text, "html.parser")
        assert answer.status_code == 422
        assert "write a hub id" in page.find(role="alert").get_text()
        assert page.find("input", {"name": "model"})["value"] == "no hub id"
        assert page.find("input", {"value": "text_generation"}).has_attr("checked")

    def test_a_closed_result_waits_for_its_check(self, browser, fields, all_attested):
        data = {**fields(browser, "/submit/closed"), "attested": all_attested, "contact": "someone@example.org"}
        answer = browser.post("/submit/closed", data=data, files={"bundle": ("b.json", b"not read here")})
        assert answer.status_code == 303
        assert "bundle of 13 bytes" in browser.get(answer.headers["location"]).text

    @pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}"])
    def test_what_strangers_write_is_text(self, browser, fields, text):
        answer = send_open(browser, fields, model=text, contact=text, revision=text)
        page = BeautifulSoup(answer.text, "html.parser")
        assert not page.find_all(["script", "img"])
        assert page.find("input", {"name": "model"})["value"] == text


class TestForgedForms:
    @pytest.mark.parametrize("csrf", ["", "x", "A" * 43])
    def test_a_wrong_token_is_refused(self, browser, fields, csrf, database):
        assert send_open(browser, fields, csrf=csrf).status_code == 403
        with database.reading() as session:
            assert tables.in_states(session, ["received"]) == []

    def test_anothers_token_is_refused(self, browser, browse, fields):
        theirs = fields(browse(), "/submit/open")
        browser.get("/submit/open")
        assert browser.post("/submit/open", data={**theirs, **OPEN}).status_code == 403

    def test_without_a_cookie_no_token_counts(self, browser, browse, fields):
        for csrf in ("", fields(browser, "/submit/open")["csrf"]):
            assert browse().post("/submit/open", data={**OPEN, "csrf": csrf}).status_code == 403

    def test_every_form_of_every_page_is_checked(self, operator, portal):
        """Whoever is the operator has a cookie that other sites' forms would be sent with."""
        paths = [route.path for router in (pages.router, pages.operators) for route in router.routes
                 if "POST" in route.methods]  # fmt: skip
        assert len(paths) >= 8
        for path in paths:
            sent = path.format(link="x", name="x", action="review", key="x")
            answer = operator.post(sent, data={"csrf": "x"}, files={"bundle": ("b.json", b"x")})
            assert answer.status_code == 403, path

    @pytest.mark.parametrize(
        "headers",
        [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
         {"sec-fetch-site": "same-site"}],
    )  # fmt: skip
    def test_another_site_is_refused(self, browser, fields, headers):
        data = {**fields(browser, "/submit/open"), **OPEN}
        assert browser.post("/submit/open", data=data, headers=headers).status_code == 403

    def test_cookies_are_for_us_alone(self, browser):
        said = browser.get("/submit/open").headers["set-cookie"].lower()
        assert "httponly" in said
        assert "samesite=strict" in said

    def test_behind_https_cookies_say_so(self, make_portal, browse):
        secure = make_portal("secure", address="https://energy.example")
        client = browse(secure, base_url="https://energy.example")
        assert "secure" in client.get("/submit/open").headers["set-cookie"].lower()


class TestOperator:
    @pytest.mark.parametrize("path", ["/operator", "/operator/submissions/abc"])
    def test_pages_are_closed_without_the_token(self, browser, path):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/operator/login")

    @pytest.mark.parametrize("path", ["/operator/releases", "/operator/keys", "/operator/submissions/a/review"])
    def test_actions_are_closed_without_the_token(self, browser, fields, path):
        assert browser.post(path, data=fields(browser, "/submit/open")).headers["location"] == "/operator/login"

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

    def test_a_new_token_ends_every_session(self, operator, portal, browse):
        assert operator.get("/operator").status_code == 200
        renewed, token = type(portal.vault).open(portal.settings.folder, renew_operator=True)
        assert (renewed.is_operator(token), renewed.is_operator(portal.token)) == (True, False)
        portal.vault = renewed
        assert browse(cookies=operator.cookies).get("/operator").status_code == 303

    def test_a_session_runs_out(self, operator, monkeypatch):
        now = time.time()
        monkeypatch.setattr("energylab_portal.web.time.time", lambda: now + 13 * 3600)
        assert operator.get("/operator").status_code == 303

    def test_review_reject_and_take_up_again(self, operator, fields, measured, submit, database):
        good, bad = measured("org/good"), submit("org/bad")
        csrf = fields(operator, f"/operator/submissions/{good.name}")
        assert operator.post(f"/operator/submissions/{good.name}/review", data=csrf).status_code == 303
        refused = operator.post(f"/operator/submissions/{bad.name}/reject", data={**csrf, "reason": "no"})
        assert (refused.status_code, "says what to do" in refused.text) == (422, True)
        operator.post(
            f"/operator/submissions/{bad.name}/reject", data={**csrf, "reason": "Send a smaller model, please."}
        )
        states = {}
        for one in (good, bad):
            with database.reading() as session:
                states[one.name] = tables.by_name(session, one.name).state
        assert states == {good.name: "reviewed", bad.name: "rejected"}
        assert "Send a smaller model" in operator.get(f"/s/{bad.link}").text
        operator.post(f"/operator/submissions/{bad.name}/retry", data=csrf)
        with database.reading() as session:
            assert tables.by_name(session, bad.name).state == "received"

    def test_publishing_shows_leaderboard_label_and_badge(self, operator, browser, fields, measured, database, portal):
        for number in range(3):
            actions.act(database, measured(f"org/model-{number}", 10.0 * 2**number).name, "review")
        last = measured("org/waits")
        data = {**fields(operator, "/operator"), "name": "first", "date": "2026-03-05"}
        answer = operator.post("/operator/releases", data=data)
        assert answer.status_code == 303
        assert "3 models" in operator.get(answer.headers["location"]).text
        board = browser.get("/leaderboard/").text
        assert "org/model-0" in board
        assert "org/waits" not in board
        assert '<h1><a href="/">' in board  # and back
        label = browser.get("/labels/org/model-0.svg?task=text_generation&class=A")
        badge = browser.get("/badges/org/model-0.svg")
        assert label.headers["content-type"] == badge.headers["content-type"] == "image/svg+xml"
        assert "5 of 5 stars" in label.text
        assert re.search(r"★★★★★ (9\.9|10\.)\d Wh per 1,000, measured<", badge.text)
        for picture in (label, badge):
            assert picture.headers["cross-origin-resource-policy"] == "cross-origin"
            assert "<script" not in picture.text
        with database.reading() as session:
            assert [one.model for one in tables.in_states(session, ["published"])] == [
                f"org/model-{n}" for n in range(3)
            ]
        again = operator.post("/operator/releases", data={**data, "date": "2026-03-06"})
        assert "choose another name" in again.text or "no submission is reviewed" in again.text
        actions.act(database, last.name, "review")
        operator.post("/operator/releases", data={**data, "name": "second"})
        assert "org/waits" in browser.get("/leaderboard/").text
        assert "org/waits" not in browser.get("/releases/first/").text
        assert "org/model-1" in browser.get("/leaderboard/").text

    def test_a_published_submission_shows_its_label(self, operator, browser, fields, measured, database):
        one = measured("org/shown")
        actions.act(database, one.name, "review")
        operator.post("/operator/releases", data={**fields(operator, "/operator"), "name": "r", "date": "2026-03-05"})
        page = BeautifulSoup(browser.get(f"/s/{one.link}").text, "html.parser")
        for picture in page.find_all("img"):
            assert browser.get(picture["src"]).status_code == 200
        assert "<bdi>org/shown</bdi>" in str(page.h1)
        address = re.search(r"\((http[^)]*/leaderboard/[^)]*)\)", page.pre.get_text())[1]
        assert browser.get(address.partition("8320")[2].partition("#")[0]).status_code == 200

    def test_an_unrated_model_has_a_picture_that_says_so(self, browser):
        for kind in ("labels", "badges"):
            answer = browser.get(f"/{kind}/org/nothing.svg")
            assert answer.status_code == 404
            assert "not rated" in answer.text


class TestPublication:
    def test_nothing_reviewed_is_refused(self, portal, measured):
        measured()
        with pytest.raises(PortalError, match="no submission is reviewed"):
            publication.publish(portal.database, portal.settings, "r", "2026-03-05")

    def test_one_publication_at_a_time(self, portal, measured, database, monkeypatch):
        """A second one that comes while the first builds its pages is refused, and the first ends well."""
        actions.act(database, measured().name, "review")
        build, refused = publication.leaderboard.build, []

        def meanwhile(*given, **more):
            with pytest.raises(ConflictError, match="being made right now") as error:
                publication.publish(database, portal.settings, "second", "2026-03-05")
            refused.append(error)
            return build(*given, **more)

        monkeypatch.setattr(publication.leaderboard, "build", meanwhile)
        assert publication.publish(database, portal.settings, "first", "2026-03-05").releases == ("first",)
        assert len(refused) == 1

    def test_another_cohort_is_left_out_and_stays_reviewed(self, portal, measured, database):
        names = [measured(f"org/m{n}", 10.0 + n).name for n in range(3)]
        other = measured("org/other", 5.0, board="GPU-9", data="sample").name
        for name in (*names, other):
            actions.act(database, name, "review")
        made = publication.publish(database, portal.settings, "r", "2026-03-05")
        assert made.published == tuple(names)
        assert "another cohort" in made.left_out[0]
        with database.reading() as session:
            one = tables.by_name(session, other)
            assert one.state == "reviewed"
            assert "not in release r" in tables.history(session, one.id)[-1].words

    @pytest.mark.parametrize("step", ["leaderboard.build", "_record"])
    def test_a_crash_before_the_last_step_publishes_nothing_and_the_next_try_does(
        self, portal, measured, database, monkeypatch, step
    ):
        actions.act(database, measured().name, "review")
        with monkeypatch.context() as broken:
            failing = lambda *_, **__: (_ for _ in ()).throw(OSError("power"))  # noqa: E731
            broken.setattr(f"energylab_portal.publication.{step}", failing)
            with pytest.raises(OSError, match="power"):
                publication.publish(database, portal.settings, "r", "2026-03-05")
        assert (portal.settings.releases / "r.json").is_file()
        with database.reading() as session:
            assert publication.current(session) is None
        actions.act(database, measured("org/later").name, "review")
        assert len(publication.publish(database, portal.settings, "r", "2026-03-05").published) == 2

    def test_a_release_has_its_own_leaderboard_from_its_first_moment(self, portal, measured, database, monkeypatch):
        """Pages of that name are left from before the database was restored; and visitors come at once."""
        site, seen = portal.settings.sites / "r", []
        site.mkdir()
        for name in ("index.html", "leaderboard.json"):
            (site / name).write_text("of a release that is not known any more")
        actions.act(database, measured("org/new").name, "review")
        record = publication._record
        monkeypatch.setattr(publication, "_record", lambda *told: seen.append((site / "index.html").read_text())
                            or record(*told))  # fmt: skip
        publication.publish(database, portal.settings, "r", "2026-03-05")
        assert "org/new" in seen[0]

    @pytest.mark.parametrize(("name", "date"), [("../r", "2026-03-05"), ("r", "yesterday"), ("r" * 200, "2026-03-05")])
    def test_bad_names_and_dates_are_refused(self, portal, measured, database, name, date):
        actions.act(database, measured().name, "review")
        with pytest.raises(EnergylabError):
            publication.publish(database, portal.settings, name, date)
        assert list(portal.settings.folder.parent.glob("*.json")) == []


OUTSIDE = ["..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "../../operator", "..\\secret", "%00", "models/../../../secret"]


def test_nothing_outside_the_leaderboard_is_sent(portal, browser, measured, database):
    actions.act(database, measured().name, "review")
    publication.publish(database, portal.settings, "r", "2026-03-05")
    answers = [browser.get(root + path).status_code for root in ("/leaderboard/", "/releases/r/") for path in OUTSIDE]
    assert set(answers) <= {404, 303, 307, 405}
    assert browser.get("/releases/../portal/").status_code == 404
