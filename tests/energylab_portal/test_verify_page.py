"""The page of a closed result: what it offers is enough for a stranger, in another folder, to end in accepted."""

from __future__ import annotations

import html
import io
import os
import re
import secrets
import shlex
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import closed_builders as builders
import pytest
from portal_processes import ROOT

from energylab_portal import publication, review
from energylab_portal.checker import BundleChecker
from energylab_portal.sealed import keys
from energylab_portal.sealed.statement import ATTESTATIONS
from energylab_portal.sealed.verify import write_list
from energylab_portal.submissions import ClosedSubmission

FILES = {"bundle.json", "owner.pub", "official.json", "operator.pub"}
#: What is to be kept, as portal.md lists it.
KEPT = ("secret", "operator", "official.json", "operator.pub", "bundles", "releases")


@pytest.fixture(scope="module")
def portal(tmp_path_factory, open_portal):
    """One portal for this module, whose operator vouches for an image and has enrolled an owner's key."""
    with open_portal(tmp_path_factory.mktemp("place") / "portal") as portal:
        signer = keys.make(portal.settings.folder / "operator.key")
        portal.settings.official.write_bytes(write_list(builders.OFFICIAL, signer))
        portal.settings.operator_key.write_text(signer.public)
        review.enrol(portal.database, builders.owner().public, "Example Ltd")
        yield portal


@pytest.fixture(scope="module")
def measured_closed(portal):
    """A sealed run of a simulated board, submitted and measured: its name."""
    asked = ClosedSubmission(contact="someone@example.org", attested=tuple(ATTESTATIONS))
    bundle = io.BytesIO(builders.signed(builders.honest_run()))
    name = portal.queue.take_closed(asked, secrets.token_urlsafe(20), bundle).name
    assert BundleChecker(portal.database, portal.settings).check_one()
    return name


@pytest.fixture(scope="module")
def published(portal, measured_closed):
    review.act(portal.database, measured_closed, "review")
    made = publication.publish(portal.database, portal.settings, "first", "2026-02-02")
    assert made.published == (measured_closed,), made.left_out
    return measured_closed


def download(browser, name, folder):
    """Fetch every file that the page links to; return the command it names, as words."""
    page = browser.get(f"/verify/{name}").text
    for path in re.findall(rf'href="(/verify/{name}/[^"]+)"', page):
        (folder / path.rpartition("/")[2]).write_bytes(browser.get(path).content)
    assert {file.name for file in folder.iterdir()} == FILES
    return shlex.split(html.unescape(re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)[1]))


def follow(command, folder, python=sys.executable, **who):
    """Type the page's command in a folder; return its status, the last line of what it prints, and complaints."""
    assert command[0] == "energylab-portal"
    typed = [python, "-P", "-m", "energylab_portal.cli", *command[1:]]
    told = {**os.environ, "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}"}
    done = subprocess.run(typed, cwd=folder, env=told, capture_output=True, text=True, check=False, **who)
    return done.returncode, done.stdout.splitlines()[-1:], done.stderr


def test_nothing_is_shown_before_it_is_published(browser, measured_closed):
    """Runs first: the fixture of all others publishes it."""
    for file in ("", *(f"/{name}" for name in FILES)):
        assert browser.get(f"/verify/{measured_closed}{file}").status_code == 404


def test_another_user_of_the_machine_gets_there_too(browser, published):
    """From an installation that he may read, in a folder of his own: nothing of whoever published it is needed."""
    if os.geteuid() != 0:
        pytest.skip("only root may act as another user")
    pythons = (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    python = next((one for one in pythons if _may_run("nobody", one)), None)
    if python is None:
        pytest.skip(f"user nobody may run none of {', '.join(pythons)}: install Python where others may read it")
    with tempfile.TemporaryDirectory() as folder:
        command = download(browser, published, Path(folder))
        for path in (Path(folder), *Path(folder).iterdir()):
            shutil.chown(path, "nobody")
        code, words, complaint = follow(command, folder, python, user="nobody", group="nogroup", extra_groups=[])
        assert (code, words) == (0, ["accepted"]), complaint


def _may_run(user, python):
    try:
        return subprocess.run([python, "-c", ""], user=user, cwd="/", check=False).returncode == 0
    except (PermissionError, FileNotFoundError):
        return False


def test_a_stranger_gets_to_accepted_from_the_page_alone(browser, published, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = download(browser, published, elsewhere)
    assert follow(command, elsewhere)[:2] == (0, ["accepted"])
    # whoever is handed another key, or a list that somebody else signed, is told so
    stranger, list_file = keys.make(tmp_path / "stranger.key"), elsewhere / "official.json"
    ours = list_file.read_bytes()
    list_file.write_bytes(write_list(builders.OFFICIAL, stranger))
    code, words, complaint = follow(command, elsewhere)
    assert (code, words, "is not trusted" in complaint) == (2, [], True)
    list_file.write_bytes(ours)
    (elsewhere / "owner.pub").write_text(stranger.public)
    assert follow(command, elsewhere)[:2] == (1, ["not accepted"])


def test_home_leads_to_it_and_nothing_else_of_the_folder_is_sent(browser, published):
    assert f'href="/verify/{published}"' in browser.get("/").text
    for file in ("operator.key", "portal.db", "..%2fsecret", "secret"):
        assert browser.get(f"/verify/{published}/{file}").status_code == 404


def test_a_backup_holds_everything_that_is_shown(portal, published, reviewed, publish, browse, open_portal):
    """What portal.md says to keep is copied elsewhere: boards, old releases, labels, links and evidence are there."""
    accepted = reviewed("org/model")
    publish("second")
    review.revoke(portal.database, builders.owner().key_id)  # what was published before stays so
    here, there = portal.settings.folder, portal.settings.folder.parent / "restored"
    there.mkdir()
    for name in KEPT:
        (shutil.copytree if (here / name).is_dir() else shutil.copy)(here / name, there / name)
    with sqlite3.connect(here / "portal.db") as old, sqlite3.connect(there / "portal.db") as new:
        old.backup(new)
    with open_portal(there) as restored:
        assert restored.token is None  # the operator's token is the old one
        assert restored.vault.is_operator(portal.token)
        client = browse(portal=restored)
        for path, words in {
            "/leaderboard/": "org/model", "/closed/": "Closed model A", "/releases/second/": "org/model",
            "/labels/org/model.svg": "<svg", "/badges/Closed%20model%20A.svg": "measured",
            f"/s/{accepted.link}": "Published",
            f"/verify/{published}": "<b>revoked</b>", f"/verify/{published}/bundle.json": "payload",
            f"/verify/{published}/official.json": "payload",
        }.items():  # fmt: skip
            answer = client.get(path)
            assert (answer.status_code, words in answer.text) == (200, True), path


def test_the_backup_is_the_documented_one():
    keeping = (ROOT / "energylab_portal/docs/portal.md").read_text().partition("## Backup")[2]
    assert re.findall(r"`([^`]+?)/?`", keeping.partition(")")[0]) == list(KEPT)
