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
from starlette.testclient import TestClient

from energylab_portal import publication, submissions, tables
from energylab_portal import review as actions
from energylab_portal.checker import BundleChecker
from energylab_portal.sealed import keys as key_files
from energylab_portal.sealed.statement import ATTESTATIONS
from energylab_portal.sealed.verify import write_list
from energylab_portal.web import create

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def portal(tmp_path_factory, open_portal):
    """One portal for this module, whose operator vouches for an image and has enrolled an owner's key."""
    with open_portal(tmp_path_factory.mktemp("place") / "portal") as portal:
        signer = key_files.make(portal.settings.folder / "operator.key")
        portal.settings.official.write_bytes(write_list(builders.OFFICIAL, signer))
        portal.settings.operator_key.write_text(signer.public)
        actions.enrol(portal.database, builders.owner().public, "Example Ltd")
        yield portal


@pytest.fixture(scope="module")
def closed(portal):
    """A sealed run of a simulated board, submitted and measured."""
    asked = submissions.ClosedSubmission(contact="someone@example.org", attested=tuple(ATTESTATIONS))
    bundle = io.BytesIO(builders.signed(builders.honest_run()))
    name = portal.queue.take_closed(asked, secrets.token_urlsafe(20), bundle).name
    assert BundleChecker(portal.database, portal.settings).check_one()
    with portal.database.reading() as session:
        one = tables.by_name(session, name)
    assert one.state == "measured", one.reason
    return name


@pytest.fixture(scope="module")
def published(portal, closed):
    client = TestClient(create(portal), base_url="http://127.0.0.1:8320")
    for file in ("", "/bundle.json", "/owner.pub", "/official.json", "/operator.pub"):  # nothing is shown before
        assert client.get(f"/verify/{closed}{file}").status_code == 404
    actions.act(portal.database, closed, "review")
    made = publication.publish(portal.database, portal.settings, "first", "2026-02-02")
    assert made.published == (closed,), made.left_out
    return closed


def download(browser, name, folder):
    """Fetch every file that the page links to; return the command it names, as words."""
    page = browser.get(f"/verify/{name}")
    assert page.status_code == 200
    for path in re.findall(rf'href="(/verify/{name}/[^"]+)"', page.text):
        answer = browser.get(path)
        assert answer.status_code == 200, path
        (folder / path.rpartition("/")[2]).write_bytes(answer.content)
    return shlex.split(html.unescape(re.search(r"<pre>(.*?)</pre>", page.text, re.DOTALL)[1]))


def follow(command, folder, python=sys.executable, **who):
    """Type the page's command in a folder; return the last line of what it prints."""
    assert command[0] == "energylab-portal"
    typed = [python, "-P", "-m", "energylab_portal.cli", *command[1:]]
    told = {**os.environ, "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}"}
    done = subprocess.run(typed, cwd=folder, env=told, capture_output=True, text=True, check=False, **who)
    return (done.returncode, done.stdout.splitlines()[-1:], done.stderr)


def test_another_user_of_the_machine_gets_there_too(browser, published):
    """From an installation that he may read, in a folder of his own: nothing of whoever published it is needed."""
    usual = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if os.geteuid() != 0:
        pytest.skip("only root may act as another user")
    pythons = [python for python in (sys.executable, usual) if Path(python).exists() and _may_run("nobody", python)]
    if not pythons:
        pytest.skip(
            f"user nobody may run neither {sys.executable} nor {usual}: install Python where others may read it"
        )
    folder = Path(tempfile.mkdtemp())
    try:
        command = download(browser, published, folder)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "nobody")
        code, said, complaint = follow(command, folder, pythons[0], user="nobody", group="nogroup", extra_groups=[])
        assert (code, said) == (0, ["accepted"]), complaint
    finally:
        shutil.rmtree(folder)


def _may_run(user, python):
    try:
        return subprocess.run([python, "-c", ""], user=user, cwd="/", check=False).returncode == 0
    except PermissionError:
        return False


def test_a_stranger_gets_to_accepted_from_the_page_alone(browser, published, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = download(browser, published, elsewhere)
    assert {file.name for file in elsewhere.iterdir()} == {"bundle.json", "owner.pub", "official.json", "operator.pub"}
    assert follow(command, elsewhere)[:2] == (0, ["accepted"])
    # whoever is handed another key, or a list that somebody else signed, is told so
    stranger = key_files.make(tmp_path / "stranger.key")
    (elsewhere / "official.json").write_bytes(write_list(builders.OFFICIAL, stranger))
    code, said, complaint = follow(command, elsewhere)
    assert (code != 0, said, "not the one that is trusted" in complaint) == (True, [], True)
    download(browser, published, elsewhere)
    (elsewhere / "owner.pub").write_text(stranger.public)
    code, said, _ = follow(command, elsewhere)
    assert (code != 0, said) == (True, ["not accepted"])


def test_home_leads_to_it_and_nothing_else_of_the_folder_is_sent(browser, published):
    assert f'href="/verify/{published}"' in browser.get("/").text
    for file in ("operator.key", "portal.db", "..%2fsecret", "secret"):
        assert browser.get(f"/verify/{published}/{file}").status_code == 404


def test_a_backup_holds_everything_that_is_shown(portal, published, measured, browse, open_portal):
    """What portal.md says to keep is copied elsewhere: boards, old releases, labels, links and evidence are there."""
    accepted = measured("org/model")
    actions.act(portal.database, accepted.name, "review")
    publication.publish(portal.database, portal.settings, "second", "2026-03-03")
    actions.revoke(portal.database, builders.owner().key_id)  # what was published before stays so
    there = portal.settings.folder.parent / "restored"
    there.mkdir()
    for name in KEPT:
        source = portal.settings.folder / name
        shutil.copytree(source, there / name) if source.is_dir() else shutil.copy(source, there / name)
    with sqlite3.connect(portal.settings.folder / "portal.db") as old, sqlite3.connect(there / "portal.db") as new:
        old.backup(new)
    with open_portal(there) as restored:
        assert restored.token is None  # the operator's token is the old one
        assert restored.vault.is_operator(portal.token)
        _shows_everything(browse(portal=restored), accepted.link, published)


def _shows_everything(client, link, published):
    for path, said in {
        "/leaderboard/": "org/model", "/closed/": "Closed model A", "/releases/second/": "org/model",
        "/labels/org/model.svg": "<svg", "/badges/Closed%20model%20A.svg": "measured",
        f"/s/{link}": "Published",
        f"/verify/{published}": "<b>revoked</b>", f"/verify/{published}/bundle.json": "payload",
        f"/verify/{published}/official.json": "payload",
    }.items():  # fmt: skip
        answer = client.get(path)
        assert (answer.status_code, said in answer.text) == (200, True), path


#: As portal.md lists it.
KEPT = ("secret", "operator", "official.json", "operator.pub", "bundles", "releases")


def test_the_backup_is_the_documented_one():
    keeping = (ROOT / "energylab_portal/docs/portal.md").read_text().partition("## Keeping it")[2]
    assert re.findall(r"`([^`]+?)/?`", keeping.partition(")")[0]) == list(KEPT)
