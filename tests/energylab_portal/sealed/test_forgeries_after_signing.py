"""Forgeries, first table: altered after signing. Signature or digests refuse all of them."""

from __future__ import annotations

import base64
import json

import closed_builders as builders
import forgeries as forge
import pytest

from energylab.record import canonical_json
from energylab_portal.sealed import envelope, keys, statement


def _replaced(bundle: bytes, run) -> bytes:
    """Put another statement under the old signature, written the one way an envelope is."""
    content = json.loads(bundle)
    content["payload"] = base64.b64encode(statement.write(run)).decode()
    return canonical_json(content)


def _dropped(run):
    return forge.with_record(run, windows=run.record.windows[:-1])


def _doubled(run):
    return forge.with_record(run, windows=(*run.record.windows, run.record.windows[-1]))


ALTERED = {
    "energy scaled": lambda run: forge.with_windows(run, lambda w: forge.window_energy(w, 0.8)),
    "one digit of one energy": lambda run: forge.with_windows(
        run, lambda w: {"energy_j": w.energy_j + 0.001} if w.index == 3 else {}
    ),
    "window dropped": _dropped,
    "window doubled": _doubled,
    "other data digest": lambda run: forge.with_record(
        run, data=run.record.data.model_copy(update={"digest": "0" * 64})
    ),
    "other image digest": lambda run: run.model_copy(
        update={"image": run.image.model_copy(update={"digest": f"sha256:{'9' * 64}"})}
    ),
    "attestation added": lambda run: run.model_copy(
        update={"attestations": run.attestations.model_copy(update={"version": "2"})}
    ),
    "other public name": lambda run: forge.with_record(
        run, model=run.record.model.model_copy(update={"name": "Famous model"})
    ),
    "other device": lambda run: forge.with_record(
        run, devices=(run.record.devices[0].model_copy(update={"name": "NVIDIA H200"}),)
    ),
    "timeline emptied": lambda run: run.model_copy(update={"timelines": ()}),
    "commitment replaced": lambda run: run.model_copy(
        update={"commitments": {**run.commitments, "model_name": "0" * 64}}
    ),
    "date moved": lambda run: run.model_copy(update={"finished_utc": run.record.created_utc.replace(year=2030)}),
    "fewer parameters": lambda run: forge.with_record(
        run, model=run.record.model.model_copy(update={"parameters": 1_000_000_000})
    ),
}


@pytest.mark.parametrize("name", ALTERED)
def test_statement_altered_after_signing_is_refused_by_its_signature(name, honest, judge) -> None:
    verdict = judge(_replaced(builders.signed(honest), ALTERED[name](honest)))
    assert not verdict.accepted
    assert [check.name for check in verdict.failed] == ["signature"]
    assert verdict.record is None


def _with(bundle: bytes, **changes) -> bytes:
    return canonical_json({**json.loads(bundle), **changes})


def _signature(bundle: bytes) -> dict:
    return json.loads(bundle)["signatures"][0]


def test_another_owners_signature_is_refused(honest, judge, tmp_path) -> None:
    other = keys.make(tmp_path / "other.pem")
    bundle, theirs = builders.signed(honest), builders.signed(honest, other)
    swapped = {**_signature(bundle), "sig": _signature(theirs)["sig"]}
    verdict = judge(_with(bundle, signatures=[swapped]))
    assert [check.name for check in verdict.failed] == ["signature"]
    # under the other's name, with both keys enrolled, the statement would be theirs: they did sign it
    both = {**builders.enrolled(), other.key_id: other.public}
    assert judge(theirs, keys=both).key_id == other.key_id
    renamed = {**_signature(bundle), "keyid": other.key_id}
    assert not judge(_with(bundle, signatures=[renamed]), keys=both).accepted


def test_signature_of_another_bundle_is_refused(honest, judge) -> None:
    other = builders.signed(honest.model_copy(update={"run_id": "a" * 64}))
    verdict = judge(_with(builders.signed(honest), signatures=[_signature(other)]))
    assert [check.name for check in verdict.failed] == ["signature"]


def test_bundle_by_an_unknown_key_waits_and_is_not_read(honest, judge, tmp_path) -> None:
    other = keys.make(tmp_path / "other.pem")
    verdict = judge(builders.signed(honest, other))
    assert not verdict.accepted
    assert not verdict.key_known
    assert verdict.key_id == other.key_id
    assert verdict.digest is not None
    assert verdict.record is None
    assert verdict.failed == ()  # nothing speaks against it: its key is unknown


def test_replayed_bundle_is_refused(honest, judge) -> None:
    bundle = builders.signed(honest)
    first = judge(bundle)
    assert first.accepted
    assert [check.name for check in judge(bundle, seen={first.digest}).failed] == ["replay"]


def test_run_that_was_handed_in_is_refused_when_signed_again(honest, judge) -> None:
    """The owner may sign the run again in another statement: its record's id is still the one that was taken."""
    again = builders.signed(honest.model_copy(update={"run_id": "b" * 64}))
    verdict = judge(again, seen={honest.record.record_id})
    assert [check.name for check in verdict.failed] == ["replay"]


def _same_bytes(text: str) -> str:
    """Return other base64 that decodes to the same 64 bytes: the last four bits before ``==`` are spare."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "=="
    assert base64.b64decode(other, validate=True) == base64.b64decode(text)
    return other


ENVELOPES = {
    "truncated file": lambda bundle: bundle[:-20],
    "half the file": lambda bundle: bundle[: len(bundle) // 2],
    "empty file": lambda bundle: b"",
    "truncated payload": lambda bundle: _with(bundle, payload=json.loads(bundle)["payload"][:-400]),
    "truncated signature": lambda bundle: _with(
        bundle, signatures=[{**_signature(bundle), "sig": base64.b64encode(b"\1" * 40).decode()}]
    ),
    "no signature": lambda bundle: _with(bundle, signatures=[]),
    "two signatures": lambda bundle: _with(bundle, signatures=[_signature(bundle)] * 2),
    "another payload type": lambda bundle: _with(bundle, payloadType="application/json"),
    "a field more": lambda bundle: _with(bundle, note="harmless"),
    "key id in capitals": lambda bundle: _with(
        bundle, signatures=[{**_signature(bundle), "keyid": _signature(bundle)["keyid"].upper()}]
    ),
    "a space more": lambda bundle: bundle.replace(b",", b", ", 1),
    "a newline at the end": lambda bundle: bundle + b"\n",
    "base64 with spare bits set": lambda bundle: _with(
        bundle, signatures=[{**_signature(bundle), "sig": _same_bytes(_signature(bundle)["sig"])}]
    ),
    "a byte order mark": lambda bundle: b"\xef\xbb\xbf" + bundle,
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_altered_envelope_is_refused(name, honest, judge) -> None:
    verdict = judge(ENVELOPES[name](builders.signed(honest)))
    assert not verdict.accepted
    assert verdict.failed[0].name in ("file", "signature")


def test_stated_digest_of_a_part_must_be_the_parts_own(honest, judge) -> None:
    content = json.loads(statement.write(honest))
    content["subject"][0]["digest"]["sha256"] = "0" * 64
    verdict = judge(envelope.sign(canonical_json(content), builders.owner()))
    assert [check.name for check in verdict.failed] == ["digests"]
