"""A closed result's whole way with real bundles, and secrets that must not be found anywhere afterwards."""

from __future__ import annotations

import io
import secrets
import shutil
from pathlib import Path

import closed_builders
import pytest
import yaml
from starlette.testclient import TestClient

from energylab_portal import bundle_checker, keys, log, submission_rules
from energylab_portal.web import create

ROOT = Path(__file__).parents[2]

#: What the owner's model is called, where it lies, how it is configured, and what it answers; see `closed_builders`.
SECRETS = ("Secret-Model-8B", "SecretForCausalLM", "secretlm", "51237", "the secret answer number")


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """An operator's params folder, in which the builders' image is official."""
    folder = tmp_path_factory.mktemp("operator") / "params"
    shutil.copytree(ROOT / "params", folder)
    image = closed_builders.OFFICIAL.images[0].model_dump(mode="json")
    (folder / "closed" / "official.yaml").write_text(yaml.safe_dump({"images": [image]}), encoding="utf-8")
    return str(folder)


@pytest.fixture
def place(make_portal, params):
    return make_portal(params=params)


@pytest.fixture
def pages(place):
    """A browser of that portal."""
    return TestClient(create(place), base_url="http://127.0.0.1:8320", follow_redirects=False)


@pytest.fixture
def send(place, all_attested):
    def send(bundle):
        asked = submission_rules.ClosedSubmission(contact="owner@example.org", attested=all_attested)
        accepted = place.desk.take_closed(asked, secrets.token_urlsafe(20), io.BytesIO(bundle))
        bundle_checker.BundleChecker(
            place.database, place.settings
        ).check_one()  # the real verifier, in its own bounded process
        return accepted

    return send


def now(place, accepted):
    with place.database.reading() as session:
        return log.by_name(session, accepted.name)


def test_from_an_unknown_key_to_the_leaderboard_without_a_leak(place, pages, send):
    run = closed_builders.honest_run()
    bundle = closed_builders.signed(run)
    accepted = send(bundle)
    one = now(place, accepted)
    assert (one.state, one.waits_for_key, one.key_id) == ("received", True, closed_builders.owner().key_id)
    assert "not enrolled here yet" in pages.get(f"/s/{accepted.link}").text

    keys.enrol(place.database, closed_builders.owner().public, "Example Ltd")
    assert bundle_checker.BundleChecker(place.database, place.settings).check_one()
    one = now(place, accepted)
    assert (one.state, one.model, one.reason) == ("measured", "Closed model A", ""), one.facts
    assert "timeline: passed" in one.facts

    token = {"Authorization": f"Bearer {place.token}"}
    assert pages.post(f"/api/v1/operator/submissions/{accepted.name}/review", headers=token).status_code == 200
    made = pages.post("/api/v1/operator/releases", headers=token, json={"name": "r", "date": "2026-03-05"}).json()
    assert made["releases"] == ["r-closed"]
    board = pages.get("/closed/").text
    assert "Closed model A" in board
    assert pages.get("/leaderboard/").status_code == 404  # what was measured here is another board
    assert "measured by their owners" in pages.get("/").text
    label = pages.get("/labels/Closed%20model%20A.svg")
    assert (label.status_code, "Closed model A" in label.text) == (200, True)

    status = pages.get(f"/api/v1/submissions/{accepted.link}").json()
    assert status["state"] == "published"
    shown = [pages.get(path).text for path in
             (f"/s/{accepted.link}", "/", "/closed/", "/closed/release.json", "/closed/leaderboard.csv",
              status["labels"][0]["page"].partition("#")[0], status["labels"][0]["label"],
              f"/api/v1/submissions/{accepted.link}", "/api/v1/release?board=closed")]  # fmt: skip
    kept = b"".join(path.read_bytes() for path in place.settings.folder.rglob("*") if path.is_file())
    for secret in SECRETS:
        assert all(secret.lower() not in page.lower() for page in shown)
        assert secret.lower().encode() not in kept.lower()


def test_the_same_run_in_another_statement_counts_once(place, send):
    keys.enrol(place.database, closed_builders.owner().public, "Example Ltd")
    run = closed_builders.honest_run()
    assert now(place, send(closed_builders.signed(run))).state == "measured"
    again = send(closed_builders.signed(run.model_copy(update={"run_id": "e" * 64})))
    assert now(place, again).state == "rejected"
    assert "submitted before" in now(place, again).reason


def test_a_bundle_that_was_altered_is_refused_by_name(place, send):
    keys.enrol(place.database, closed_builders.owner().public, "Example Ltd")
    bundle = closed_builders.signed(closed_builders.honest_run())
    altered = bundle.replace(b'"sig":"', b'"sig":"A', 1)
    refused = now(place, send(altered))
    assert refused.state == "rejected"
    assert refused.reason.startswith("the bundle failed 1 checks. ")


def test_a_public_name_that_is_anothers_is_refused(place, send, measured_closed):
    """Records of one name would be rated as one model: nobody may add to another's figure."""
    keys.enrol(place.database, closed_builders.owner().public, "Example Ltd")
    measured_closed(place, "closed MODEL a", key_id="f" * 64)
    refused = now(place, send(closed_builders.signed(closed_builders.honest_run())))
    assert refused.state == "rejected"
    assert "stands for another's model" in refused.reason


@pytest.fixture
def measured_closed():
    from energylab_portal.schema import Submission

    def measure(place, model, key_id):
        with place.database.writing() as session:
            session.add(
                Submission(
                    name="0123456789", link_hash="0" * 64, request_hash="1" * 64, content_hash="2" * 64, kind="closed",
                    state="measured", received_s=0.0, changed_s=0.0, contact="a@b.c", model=model, key_id=key_id,
                )
            )  # fmt: skip

    return measure
