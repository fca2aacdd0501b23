"""Bundles are checked apart; an unknown key waits; hostile files cost a rejection and no memory."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from dataclasses import replace

import pytest
from release_builders import record_of

from energylab.errors import BundleError, ConflictError, NotThereError, PortalError
from energylab_portal import child, publication, submissions
from energylab_portal import review as actions
from energylab_portal.checker import BundleChecker, verify_apart
from energylab_portal.sealed import keys as key_files
from energylab_portal.sealed.checks import Check
from energylab_portal.sealed.verify import Official, Verdict, write_list
from energylab_portal.tables import EnrolledKey

PUBLIC = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="  # base64 of 32 times byte 7
KEY_ID = "4bb06f8e4e3a7715d201d573d0aa423762e55dabd61a2c02278fa56cc6d294e0"  # sha256 of those bytes


def verdict(accepted=True, known=True, record=None, checks=(("signature", True, "holds"),), key_id=KEY_ID):
    return Verdict(accepted, key_id, known, "d" * 64, tuple(Check(*one) for one in checks), record)


@pytest.fixture
def send(portal, all_attested):
    def send(content=b"a bundle"):
        asked = submissions.ClosedSubmission(contact="someone@example.org", attested=all_attested)
        return portal.queue.take_closed(asked, secrets.token_urlsafe(20), io.BytesIO(content)).name

    return send


@pytest.fixture
def checker(portal):
    def make(said):
        if not callable(said) and said.key_known:
            with contextlib.suppress(ConflictError):
                actions.enrol(portal.database, PUBLIC, "Example Ltd")
        return BundleChecker(portal.database, portal.settings, said if callable(said) else lambda *_: said)

    return make


def test_an_accepted_bundle_is_measured_with_its_record(send, checker, now, portal):
    name, seen = send(), []

    def verifier(path, enrolled):
        seen.append((path.read_bytes(), dict(enrolled)))
        return verdict(record=record_of("closed-1", 12.0, source="path"))

    actions.enrol(portal.database, PUBLIC, "Example Ltd")
    assert checker(verifier).check_one()
    assert not checker(verifier).check_one()
    one, records, lines = now(name)
    assert seen == [(b"a bundle", {KEY_ID: PUBLIC})]
    assert [line.after for line in lines] == ["received", "checked", "measured"]
    assert (one.model, one.tasks, one.key_id) == ("closed-1", "text_generation", KEY_ID)
    assert round(records[0].energy_wh) == 12
    assert "signature: passed: holds" in one.facts


def test_an_unknown_key_waits_until_it_is_enrolled(send, checker, now, portal):
    name = send()
    unknown = checker(lambda _, enrolled: verdict(accepted=False, known=KEY_ID in enrolled, record=record_of()))
    assert unknown.check_one()
    assert not unknown.check_one()  # it is not looked at again and again
    one, records, lines = now(name)
    assert (one.state, one.waits_for_key, one.key_id, records) == ("received", True, KEY_ID, [])
    assert "not enrolled" in lines[-1].words
    actions.enrol(portal.database, PUBLIC, "Example Ltd")
    assert checker(verdict(record=record_of())).check_one()
    assert now(name)[0].state == "measured"


def test_a_bundle_that_waits_can_be_rejected(send, checker, now, portal):
    name = send()
    checker(verdict(accepted=False, known=False)).check_one()
    actions.act(portal.database, name, "reject", "We do not know you; write to us first.")
    one = now(name)[0]
    assert (one.state, one.waits_for_key) == ("rejected", False)


def test_a_failed_check_is_a_reason_in_words(send, checker, now):
    name = send()
    failed = (("signature", True, "holds"), ("timeline", False, "the integral is 7 % off"), ("clocks", None, "unknown"))
    checker(verdict(accepted=False, checks=failed)).check_one()
    one = now(name)[0]
    assert one.state == "rejected"
    assert "timeline: the integral is 7 % off" in one.reason
    assert "signature" not in one.reason
    assert "clocks: not checked: unknown" in one.facts


def test_the_same_record_in_another_file_counts_once(send, checker, now):
    first, second = send(b"one"), send(b"the same, written otherwise")
    same = checker(verdict(record=record_of()))
    same.check_one()
    same.check_one()
    assert now(first)[0].state == "measured"
    assert "submitted before" in now(second)[0].reason


@pytest.mark.parametrize(
    "trouble", [OSError("/srv/portal/official.json"), child.ChildDied("killed"), BundleError("typo")]
)
def test_a_fault_of_the_operators_rejects_nobody(send, checker, now, clock, trouble):
    """A typo in the list, a child that died: the bundle waits, is said to, and is taken when all is well again."""
    name = send(b"one")

    def verifier(path, _):
        raise trouble

    for _ in range(5):
        assert checker(verifier).check_one()
        clock.now += 4000
    one, _, lines = now(name)
    assert one.state == "received"
    assert "through no fault of its own" in lines[-1].words
    assert "/srv/portal" not in lines[-1].words  # a path of the operator's is not the submitter's to see
    assert checker(verdict(record=record_of())).check_one()
    assert now(name)[0].state == "measured"


def test_a_list_that_cannot_be_read_is_the_operators_to_correct(portal, tmp_path):
    with pytest.raises(BundleError, match="listed no image"):
        verify_apart(tmp_path / "b", {}, portal.settings)
    portal.settings.official.write_text("images: [")
    portal.settings.operator_key.write_text(PUBLIC)
    with pytest.raises(BundleError, match="list of images cannot be read$") as error:  # without the operator's folder
        verify_apart(tmp_path / "b", {}, portal.settings)
    assert "official.json" in str(error.value.__cause__)


def test_a_revoked_key_counts_at_no_later_step(send, checker, now, portal):
    first, second = send(b"one"), send(b"two")
    assert checker(verdict(record=record_of("closed-1"))).check_one()
    actions.act(portal.database, first, "review")
    assert checker(verdict(record=record_of("closed-1", 12.0, 1))).check_one()
    actions.revoke(portal.database, KEY_ID)
    with pytest.raises(ConflictError, match="was revoked"):
        actions.act(portal.database, second, "review")
    with pytest.raises(PortalError, match="was revoked"):
        publication.publish(portal.database, portal.settings, "r1", "2026-03-01")
    assert now(first)[0].state == "reviewed"
    third = send(b"three")
    checker(verdict(record=record_of("closed-1", 12.0, 2))).check_one()
    assert "was revoked" in now(third)[0].reason
    fourth = send(b"sent after it was revoked")  # it does not wait for a key that can never be enrolled again
    checker(lambda _, enrolled: verdict(accepted=False, known=KEY_ID in enrolled)).check_one()
    assert (now(fourth)[0].state, now(fourth)[0].waits_for_key) == ("rejected", False)
    assert "was revoked" in now(fourth)[0].reason


class TestKeys:
    def test_the_id_is_the_digest_of_the_raw_key(self):
        assert key_files.key_id(PUBLIC) == KEY_ID

    @pytest.mark.parametrize("wrong", ["", "short", PUBLIC[:-4], "Q" * 64, "ü" * 44, PUBLIC + "AAAA"])
    def test_what_is_no_key_is_refused(self, wrong):
        with pytest.raises(BundleError, match="32 raw bytes"):
            key_files.key_id(wrong)

    def test_enrolled_once_and_revoked_for_good(self, database):
        actions.enrol(database, PUBLIC, "Example Ltd")
        with pytest.raises(ConflictError, match="enrolled for Example Ltd"):
            actions.enrol(database, PUBLIC, "Another")
        actions.revoke(database, KEY_ID)
        with database.reading() as session:
            assert actions.enrolled(session) == {}
            assert session.get(EnrolledKey, KEY_ID).revoked_s
        with pytest.raises(ConflictError, match="stays so"):
            actions.enrol(database, PUBLIC, "Example Ltd")
        with pytest.raises(NotThereError):
            actions.revoke(database, KEY_ID)


# ---- the real verifier in its own process, with files made to hurt it


HOSTILE = {
    "deep objects": lambda: b'{"a":' * 1_000_000,
    "a long number": lambda: b'{"payload":' + b"9" * 5_000_000 + b"}",
    "many keys": lambda: b"{" + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}",
    "no text": lambda: bytes(range(256)) * 1000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_rejected_within_their_bounds(name, send, portal, now):
    """In a process of 1 GiB and a minute of processor: none is accepted, nothing of them is kept but the reason."""
    bounds = child.Bounds(memory_bytes=1 << 30, cpu_s=60, wall_s=600.0, file_bytes=1 << 20)

    signer = key_files.make(portal.settings.folder / "operator.key")
    portal.settings.official.write_bytes(write_list(Official(), signer))
    portal.settings.operator_key.write_text(signer.public)

    def verifier(path, enrolled):
        return verify_apart(path, enrolled, portal.settings, bounds)

    sent = send(HOSTILE[name]())
    BundleChecker(portal.database, portal.settings, verifier).check_one()
    one, records, _ = now(sent)
    assert (one.state, records) == ("rejected", [])
    assert one.reason


#: The clock's bound is for hangs alone: a busy machine may take long to give a child its seconds.
BOUNDS = child.Bounds(memory_bytes=512 << 20, cpu_s=30, wall_s=1200.0, file_bytes=1000)


@pytest.fixture
def run_apart(tmp_path, monkeypatch):
    def run(body, **bounds):
        source = f"from energylab_portal.child import answer\ndef work(q):\n    {body}\nanswer(work)\n"
        (tmp_path / "hostile_child.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        return child.ask("hostile_child", {"file": str(tmp_path / "large")}, replace(BOUNDS, **bounds))

    return run


BEYOND = {
    "memory": ("return len(b'0' * (2 << 30))", "no answer", {}),
    "processor": ("\n    while True: pass", "no answer", {"cpu_s": 2}),
    "clock": ("import time; time.sleep(600)", "within 2 s", {"wall_s": 2.0}),
    "exit": ("import os; os._exit(3)", "exit status 3", {}),
    "signal": ("import os; os.kill(os.getpid(), 11)", "exit status -11", {}),
    "file": ("__import__('pathlib').Path(q['file']).write_bytes(b'0'*5000)", "no answer", {}),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_child_that_goes_beyond_its_bounds_ends(name, run_apart):
    body, said, bounds = BEYOND[name]
    with pytest.raises(child.ChildDied, match=said):
        run_apart(body, **bounds)


def test_an_answer_comes_back_through_all_noise(run_apart, tmp_path):
    assert run_apart("print('noise'); return {'seen': q}") == {"seen": {"file": str(tmp_path / "large")}}
