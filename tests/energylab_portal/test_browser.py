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
from stand_in_hub import StandInHub

from energylab.tasks.architectures import find_architecture
from energylab.tasks.tokenizers import local_tokenizer
from energylab_portal.database import Database
from energylab_portal.sealed import keys as key_files
from energylab_portal.sealed.verify import write_list
from energylab_portal.settings import Settings

pytest.importorskip("fastapi", reason="the portal's libraries are not installed: pip install energylab-portal")

pytestmark = pytest.mark.timeout(1800)  # for hangs alone


def tiny_model(folder, seed):
    """Return the files of a small language model with weights of its own."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = find_architecture("tiny-gpt2").build_config()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    local_tokenizer(config, "gpt").save_pretrained(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with a model, and one with code of its own."""
    stand_in = StandInHub()
    files = tiny_model(tmp_path_factory.mktemp("model"), 1)
    stand_in.add("model", "someone/tiny").commit(files)
    own = files["config.json"].replace(
        b'"model_type": "gpt2"', b'"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}'
    )
    code = b"import pathlib\npathlib.Path('/tmp/energylab-was-here').touch()\nclass Config: pass\n"
    stand_in.add("model", "someone/own-code").commit({**files, "config.json": own, "own.py": code})
    yield stand_in
    stand_in.close()


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
    page.get_by_label(re.compile("^Contact")).fill("someone@example.org")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/s/*")
    return page.url


def enter(page, portal):
    page.goto(f"{portal.url}/operator")
    page.get_by_label("Token").fill(portal.token)
    page.get_by_role("button", name="Enter").click()
    page.get_by_role("heading", name="Operator").wait_for()


@pytest.mark.slow
def test_from_the_form_to_the_label(open_page, portal, hub, tmp_path):
    page = open_page("/")
    shot(page, "home")
    page.get_by_role("link", name="Submit an open model").click()
    shot(page, "submit-open")
    links = {name: submit(page, portal, f"someone/{name}") for name in ("tiny", "own-code")}
    page.goto(links["tiny"])
    assert page.locator("#state").get_attribute("data-state") == "received"
    told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    doomed = start_worker(portal.folder, "--measuring", "trial", **told)
    _wait(page, links["tiny"], "measuring")
    end(doomed)  # kill -9: the next worker takes over, and the study goes on from what is whole
    database = Database(Settings(portal.folder).database_url).open()
    assert expire(database, doomed.pid) == 1
    database.close()
    worker = start_worker(portal.folder, "--measuring", "trial", "--once", **told)
    assert worker.wait() == 0

    page.goto(links["own-code"])
    assert page.locator("#state").get_attribute("data-state") == "rejected"
    assert "no code of strangers" in page.locator(".problem").inner_text()
    shot(page, "rejected")
    assert not Path("/tmp/energylab-was-here").exists()

    page.goto(links["tiny"])
    assert page.locator("#state").get_attribute("data-state") == "measured"
    assert page.get_by_role("cell", name=re.compile("measured|estimated")).count() == 2
    assert "the worker before stopped answering; taken over" in page.locator(".history").inner_text()
    shot(page, "measured")
    enter(page, portal)
    page.get_by_role("link", name=re.compile("measured")).first.click()
    page.locator("tbody th a").first.click()
    shot(page, "operator-submission")
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("link", name="Operator", exact=True).first.click()
    page.get_by_label("Name").fill("first-release")
    page.get_by_role("button", name="Publish").click()
    assert "first-release: on show now, 1 model," in page.get_by_role("status").inner_text()
    shot(page, "operator")

    page.goto(links["tiny"])
    assert page.locator("#state").get_attribute("data-state") == "published"
    label = page.get_by_role("img", name=re.compile("Energy label"))
    assert label.evaluate("image => image.decode().then(() => image.naturalWidth)") == 260
    answer = page.request.get(portal.url + label.get_attribute("src"))
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "someone/tiny" in answer.text()
    shot(page, "published")
    page.get_by_role("link", name="its page on the leaderboard").click()
    assert page.locator("h1").inner_text() == "someone/tiny"
    page.goto(f"{portal.url}/leaderboard/")
    assert page.get_by_role("link", name="someone/tiny").count() == 1
    page.get_by_label("Search").fill("another")  # its script runs under the portal's policy
    assert page.get_by_role("link", name="someone/tiny").count() == 0


@pytest.mark.slow
def test_a_closed_result_from_the_form_to_its_verify_page(open_page, portal, tmp_path):
    signer = key_files.make(tmp_path / "operator.key")
    (portal.folder / "official.json").write_bytes(write_list(builders.OFFICIAL, signer))
    (portal.folder / "operator.pub").write_text(signer.public)
    (tmp_path / "bundle.json").write_bytes(builders.signed(builders.honest_run()))
    page = open_page("/submit/closed")
    page.get_by_label(re.compile("^Bundle")).set_input_files(tmp_path / "bundle.json")
    for statement in page.get_by_role("checkbox").all():
        statement.check()
    page.get_by_label(re.compile("^Contact")).fill("someone@example.org")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/s/*")
    link = page.url
    while "is not enrolled here yet" not in page.locator("#state").inner_text():
        page.wait_for_timeout(200)
        page.goto(link)
    shot(page, "closed-waits-for-its-key")
    enter(page, portal)
    page.get_by_label(re.compile("^Public key")).fill(builders.owner().public)
    page.get_by_label("Owner").fill("Example Ltd")
    page.get_by_role("button", name="Enrol").click()
    _wait(page, link, "measured")
    page.goto(f"{portal.url}/operator?state=measured")
    page.locator("tbody th a").first.click()
    page.get_by_role("button", name="Approve").click()
    page.goto(f"{portal.url}/operator")
    page.get_by_label("Name").fill("second-release")
    page.get_by_role("button", name="Publish").click()
    assert "1 submission new" in page.get_by_role("status").inner_text()
    page.goto(link)
    shot(page, "closed-published")
    page.get_by_role("link", name="How anyone verifies this result").click()
    shot(page, "verify")
    with page.expect_download() as download:
        page.get_by_role("link", name="bundle.json").click()
    assert download.value.path().read_bytes() == (tmp_path / "bundle.json").read_bytes()


def _wait(page, link, state):
    while page.goto(link) and (found := page.locator("#state").get_attribute("data-state")) != state:
        assert found in ("received", "checked", "queued"), f"it is {found}, and was not seen {state}"
        page.wait_for_timeout(200)


class TestScreens:
    @pytest.mark.parametrize("path", ["/", "/submit/open", "/submit/closed", "/methodology", "/api", "/operator/login"])
    def test_a_phone_does_not_scroll_sideways(self, open_page, path):
        page = open_page(path, width=375, height=812, is_mobile=True, has_touch=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        shot(page, f"phone{path.replace('/', '-')}")

    def test_dark(self, open_page):
        page = open_page("/", color_scheme="dark")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", ground))) < 64
        shot(page, "dark")

    def test_by_keyboard(self, open_page):
        page = open_page("/submit/open")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.get_by_label(re.compile("^Model")).focus()
        page.keyboard.type("org/model")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.locator("input[name=tasks]:checked").count() == 1

    def test_without_scripts(self, open_page, portal):
        page = open_page("/submit/open", java_script_enabled=False)
        assert submit(page, portal, "someone/later").startswith(f"{portal.url}/s/")
