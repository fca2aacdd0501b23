"""Bundles are checked apart; an unknown key waits; hostile files cost a rejection and no memory."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from release_builders import record_of

from energylab.errors import BundleError, ConflictError, NotThereError, PortalError
from energylab_portal import child, review
from energylab_portal.checker import BundleChecker, verify_apart
from energylab_portal.sealed import keys
from energylab_portal.sealed.checks import Check
from energylab_portal.sealed.verify import Official, Verdict, write_list
from energylab_portal.tables import EnrolledKey

PUBLIC = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="  # base64 of 32 times byte 7
KEY_ID = "4bb06f8e4e3a7715d201d573d0aa423762e55dabd61a2c02278fa56cc6d294e0"  # sha256 of those bytes
PASSED = ("signature", True, "holds")


@pytest.fixture
def enrol(database):
    """Enrol the key that signed every bundle here."""
    return lambda: review.enrol(database, PUBLIC, "Example Ltd")


@pytest.fixture
def check(portal):
    """Return a function that checks the next bundle, whose verdict or whose trouble is told; whether there was one."""

    def check(record=None, *checks, accepted=True, known=lambda enrolled: KEY_ID in enrolled, trouble=None):
        def verifier(path, enrolled):
            if trouble is not None:
                raise trouble
            check.seen.append((path.read_bytes(), dict(enrolled)))
            made = tuple(Check(*one) for one in checks or [PASSED])
            return Verdict(accepted and known(enrolled), KEY_ID, known(enrolled), "d" * 64, made, record)

        return BundleChecker(portal.database, portal.settings, verifier).check_one()

    check.seen = []
    return check


def test_an_accepted_bundle_is_measured_with_its_record(send, check, enrol, now):
    name = send().name
    enrol()
    assert check(record_of("closed-1", 12.0, source="path"))
    assert not check()
    one, records, lines = now(name)
    assert check.seen == [(b"a bundle", {KEY_ID: PUBLIC})]
    assert [line.after for line in lines] == ["received", "checked", "measured"]
    assert (one.model, one.tasks, one.key_id) == ("closed-1", "text_generation", KEY_ID)
    assert round(records[0].energy_wh) == 12
    assert "signature: passed: holds" in one.facts


def test_an_unknown_key_waits_until_it_is_enrolled(send, check, enrol, now):
    name = send().name
    assert check()
    assert not check()  # it is not looked at again and again
    one, records, lines = now(name)
    assert (one.state, one.waits_for_key, one.key_id, records) == ("received", True, KEY_ID, [])
    assert "not enrolled" in lines[-1].words
    enrol()
    assert check(record_of())
    assert now(name)[0].state == "measured"


def test_a_bundle_that_waits_can_be_rejected(send, check, database, now):
    name = send().name
    check()
    review.act(database, name, "reject", "We do not know you; write to us first.")
    one = now(name)[0]
    assert (one.state, one.waits_for_key) == ("rejected", False)


def test_a_failed_check_is_a_reason_in_words(send, check, enrol, now):
    name = send().name
    enrol()
    failed, open_ = ("timeline", False, "the integral is 7 % off"), ("clocks", None, "unknown")
    check(None, PASSED, failed, open_, accepted=False)
    one = now(name)[0]
    assert one.state == "rejected"
    assert "timeline: the integral is 7 % off" in one.reason
    assert "signature" not in one.reason
    assert "clocks: not checked: unknown" in one.facts


def test_a_record_counts_once_and_a_name_is_its_first_owners(send, check, enrol, now, measured):
    enrol()
    names = [send(content).name for content in (b"one", b"the same, written otherwise", b"a name that is taken")]
    measured("Org/Model-1")
    for record in (record_of(), record_of(), record_of("org/model-1", session=2)):
        assert check(record)
    first, second, third = (now(name)[0] for name in names)
    assert first.state == "measured"
    assert "submitted before" in second.reason
    assert "belongs to another owner; measure again with another --name" in third.reason


@pytest.mark.parametrize(
    "trouble", [OSError("/srv/portal/official.json"), child.ChildDied("killed"), BundleError("typo")]
)
def test_a_fault_of_the_operators_rejects_nobody(send, check, enrol, now, clock, trouble):
    """A typo in the list, a child that died: the bundle waits, is said to, and is taken when all is well again."""
    name = send().name
    enrol()
    for _ in range(5):
        assert check(trouble=trouble)
        clock.now += 4000
    one, _, lines = now(name)
    assert one.state == "received"
    assert "because of an error of the portal" in lines[-1].words
    assert "/srv/portal" not in lines[-1].words  # a path of the operator's is not the submitter's to see
    assert check(record_of())
    assert now(name)[0].state == "measured"


def test_a_list_that_cannot_be_read_is_the_operators_to_correct(portal, tmp_path):
    with pytest.raises(BundleError, match="has no list of images"):
        verify_apart(tmp_path / "b", {}, portal.settings)
    portal.settings.official.write_text("images: [")
    portal.settings.operator_key.write_text(PUBLIC)
    with pytest.raises(BundleError, match="list of images cannot be read$") as error:  # without the operator's folder
        verify_apart(tmp_path / "b", {}, portal.settings)
    assert "official.json" in str(error.value.__cause__)


def test_a_revoked_key_counts_at_no_later_step(send, check, enrol, now, database, publish):
    enrol()
    names = [send(content).name for content in (b"reviewed", b"measured", b"checked", b"known no more")]
    for number in range(2):
        assert check(record_of("closed-1", 12.0, number))
    review.act(database, names[0], "review")
    review.revoke(database, KEY_ID)
    with pytest.raises(ConflictError, match="was revoked"):
        review.act(database, names[1], "review")
    with pytest.raises(PortalError, match="was revoked"):
        publish()
    check(record_of("closed-1", 12.0, 2), known=lambda _: True)  # it was revoked while the bundle was looked at
    check()  # it does not wait for a key that can never be enrolled again
    found = [now(name)[0] for name in names]
    assert [(one.state, one.waits_for_key) for one in found] == [
        ("reviewed", False), ("measured", False), ("rejected", False), ("rejected", False),
    ]  # fmt: skip
    assert all("was revoked" in one.reason for one in found[2:])


def test_a_key_is_enrolled_once_and_revoked_for_good(enrol, database):
    assert keys.key_id(PUBLIC) == KEY_ID
    enrol()
    with pytest.raises(ConflictError, match="enrolled for Example Ltd"):
        enrol()
    review.revoke(database, KEY_ID)
    with database.reading() as session:
        assert review.enrolled(session) == {}
        assert session.get(EnrolledKey, KEY_ID).revoked_s
    with pytest.raises(ConflictError, match="was revoked; use a new key"):
        enrol()
    with pytest.raises(NotThereError):
        review.revoke(database, KEY_ID)
    for wrong in ("", "short", PUBLIC[:-4], "Q" * 64, "ü" * 44, PUBLIC + "AAAA"):
        with pytest.raises(BundleError, match="32 bytes in base64"):
            review.enrol(database, wrong, "Example Ltd")


# ---- the real verifier in its own process, with files made to hurt it


HOSTILE = {
    "deep objects": lambda: b'{"a":' * 1_000_000,
    "many keys": lambda: b"{" + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_rejected_within_their_bounds(name, send, portal, now):
    """In a process of 1 GiB and a minute of processor: none is accepted, nothing of them is kept but the reason."""
    bounds = child.Bounds(memory_bytes=1 << 30, cpu_s=60, wall_s=600.0, file_bytes=1 << 20)

    signer = keys.make(portal.settings.folder / "operator.key")
    portal.settings.official.write_bytes(write_list(Official(), signer))
    portal.settings.operator_key.write_text(signer.public)

    def verifier(path, enrolled):
        return verify_apart(path, enrolled, portal.settings, bounds)

    sent = send(HOSTILE[name]()).name
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
