"""A model's whole way, in Chromium: submitted, measured from a stand-in hub, reviewed, published, its label fetched.

Screenshots go to ``test-output/portal/``, to be looked at.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import browser
import closed_builders as builders
import pytest
from portal_processes import RunningPortal, end, expire, start_worker

from energylab_portal.database import Database
from energylab_portal.sealed import keys
from energylab_portal.sealed.verify import write_list
from energylab_portal.settings import Settings

pytestmark = pytest.mark.timeout(1800)  # for hangs alone


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    running = RunningPortal(tmp_path_factory.mktemp("place") / "portal", "--submissions-per-minute", "1000")
    yield running
    running.kill()


@pytest.fixture
def open_page(watch, portal):
    return functools.partial(watch, portal.url)


def shot(page, name):
    browser.shot(page, f"portal/{name}")


def submit(page, portal, model):
    page.goto(f"{portal.url}/submit/open")
    page.get_by_label(re.compile("^Model")).fill(model)
    page.get_by_label("Text generation").check()
    return send(page)


def send(page):
    """Fill in what both forms ask for, and send; return the private link."""
    page.get_by_label(re.compile("^Contact")).fill("someone@example.org")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/s/*")
    return page.url


def enter(page, portal):
    page.goto(f"{portal.url}/operator")
    page.get_by_label("Token").fill(portal.token)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Operator").wait_for()


def publish(page, portal, name):
    """Approve the one submission that is measured, and publish it; return what the operator is told."""
    page.goto(f"{portal.url}/operator?state=measured")
    page.locator("tbody th a").first.click()
    shot(page, "operator-submission")
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("link", name="Operator", exact=True).first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Publish").click()
    return page.get_by_role("status").inner_text()


def state(page, link):
    page.goto(link)
    return page.locator("#state").get_attribute("data-state")


def wait_for(page, link, wanted):
    while (found := state(page, link)) != wanted:
        assert found in ("received", "checked", "queued"), f"it is {found}, and was not seen {wanted}"
        page.wait_for_timeout(200)


@pytest.mark.slow
def test_from_the_form_to_the_label(open_page, portal, hub, tmp_path):
    page = open_page("/")
    shot(page, "home")
    page.get_by_role("link", name="Submit an open model").click()
    shot(page, "submit-open")
    tiny, own_code = (submit(page, portal, f"someone/{name}") for name in ("tiny", "own-code"))
    assert state(page, tiny) == "received"
    told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    doomed = start_worker(portal.folder, "--measuring", "trial", **told)
    wait_for(page, tiny, "measuring")
    end(doomed)  # kill -9: the next worker takes over, and the study goes on from what is whole
    database = Database(Settings(portal.folder).database_url).open()
    assert expire(database, doomed.pid) == 1
    database.close()
    assert start_worker(portal.folder, "--measuring", "trial", "--once", **told).wait() == 0

    assert state(page, own_code) == "rejected"
    assert "its own code, which is not run" in page.locator(".problem").inner_text()
    shot(page, "rejected")
    assert not Path("/tmp/energylab-was-here").exists()

    assert state(page, tiny) == "measured"
    assert page.get_by_role("cell", name=re.compile("measured|estimated")).count() == 2
    assert "the previous worker stopped answering; this one continues" in page.locator(".history").inner_text()
    shot(page, "measured")
    enter(page, portal)
    assert "first-release: now published, 1 model," in publish(page, portal, "first-release")
    shot(page, "operator")

    assert state(page, tiny) == "published"
    label = page.get_by_role("img", name=re.compile("Energy label"))
    assert label.evaluate("image => image.decode().then(() => image.naturalWidth)") == 260
    answer = page.request.get(portal.url + label.get_attribute("src"))
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "someone/tiny" in answer.text()
    shot(page, "published")
    page.get_by_role("link", name="page on the leaderboard").click()
    assert page.locator("h1").inner_text() == "someone/tiny"
    page.goto(f"{portal.url}/leaderboard/")
    assert page.get_by_role("link", name="someone/tiny").count() == 1
    page.get_by_label("Search").fill("another")  # its script runs under the portal's policy
    assert page.get_by_role("link", name="someone/tiny").count() == 0


@pytest.mark.slow
def test_a_closed_result_from_the_form_to_its_verify_page(open_page, portal, tmp_path):
    signer, file = keys.make(tmp_path / "operator.key"), tmp_path / "bundle.json"
    (portal.folder / "official.json").write_bytes(write_list(builders.OFFICIAL, signer))
    (portal.folder / "operator.pub").write_text(signer.public)
    file.write_bytes(builders.signed(builders.honest_run()))
    page = open_page("/submit/closed")
    page.get_by_label(re.compile("^Bundle")).set_input_files(file)
    for statement in page.get_by_role("checkbox").all():
        statement.check()
    link = send(page)
    while "is not enrolled yet" not in page.locator("#state").inner_text():
        page.wait_for_timeout(200)
        page.goto(link)
    shot(page, "closed-waits-for-its-key")
    enter(page, portal)
    page.get_by_label(re.compile("^Public key")).fill(builders.owner().public)
    page.get_by_label("Owner").fill("Example Ltd")
    page.get_by_role("button", name="Enrol").click()
    wait_for(page, link, "measured")
    assert "1 submission new" in publish(page, portal, "second-release")
    page.goto(link)
    shot(page, "closed-published")
    page.get_by_role("link", name="How to verify this result").click()
    shot(page, "verify")
    with page.expect_download() as download:
        page.get_by_role("link", name="bundle.json").click()
    assert download.value.path().read_bytes() == file.read_bytes()


@pytest.mark.parametrize("path", ["/", "/submit/open", "/submit/closed", "/methodology", "/api", "/operator/login"])
def test_a_phone_does_not_scroll_sideways(open_page, path):
    page = open_page(path, width=375, height=812, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    shot(page, f"phone{path.replace('/', '-')}")


def test_dark(open_page):
    page = open_page("/", color_scheme="dark")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground))) < 64
    shot(page, "dark")


def test_by_keyboard(open_page):
    page = open_page("/submit/open")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.get_by_label(re.compile("^Model")).focus()
    page.keyboard.type("org/model")
    for key in ("Tab", "Tab", "Space"):
        page.keyboard.press(key)
    assert page.locator("input[name=tasks]:checked").count() == 1


def test_without_scripts(open_page, portal):
    page = open_page("/submit/open", java_script_enabled=False)
    assert submit(page, portal, "someone/later").startswith(f"{portal.url}/s/")
