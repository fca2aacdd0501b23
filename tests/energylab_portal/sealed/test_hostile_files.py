"""Files that are no bundles, made to hurt whoever reads them: refused in words, quickly, in bounded memory."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import resource
import zipfile

import closed_builders as builders
import pytest

from energylab.errors import BundleError
from energylab.record import canonical_json
from energylab_portal.sealed import bundle, statement
from energylab_portal.sealed.bundle import parse


def _signed(payload: bytes) -> bytes:
    """Sign anything: the key's owner may be the hostile one."""
    return bundle.sign(payload, builders.owner())


def _zip_bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", b"0" * 50_000_000)
    return made.getvalue()


HOSTILE = {
    "zip bomb": _zip_bomb,
    "gzip bomb": lambda: gzip.compress(b"[" * 20_000_000),
    "deep nesting": lambda: b"[" * 200_000 + b"]" * 200_000,
    "many values": lambda: b"[" + b"1," * 3_000_000 + b"1]",
    "duplicate keys": lambda: b'{"payload":"","payload":"","payloadType":"","signatures":[]}',
    "huge integer": lambda: b'{"payload":' + b"9" * 1_000_000 + b',"payloadType":"","signatures":[]}',
    "NaN": lambda: b'{"payload":NaN,"payloadType":"","signatures":[]}',
    "not UTF-8": lambda: b'{"payload":"\xff\xfe","payloadType":"","signatures":[]}',
    "lone surrogate": lambda: b'{"payload":"\\ud800","payloadType":"","signatures":[]}',
    "signed: not JSON": lambda: _signed(b"hello"),
    "signed: deep nesting": lambda: _signed(b"[" * 100_000 + b"]" * 100_000),
    "signed: duplicate keys": lambda: _signed(b'{"_type":1,"_type":2,"subject":[],"predicateType":"","predicate":{}}'),
    "signed: many values": lambda: _signed(b"[" + b"1," * 2_500_000 + b"1]"),
    "signed: another statement": lambda: _signed(b'{"_type":"x","subject":[],"predicateType":"y","predicate":{}}'),
    "signed: half a character": lambda: _signed(
        b'{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"urn:energylab:sealed-run:2",'
        b'"predicate":{"name":"\\ud800"}}'
    ),
    "signed: an empty predicate": lambda: _signed(
        json.dumps({"_type": "https://in-toto.io/Statement/v1", "subject": [],
                    "predicateType": "urn:energylab:sealed-run:2", "predicate": {}}).encode()),
    "payload that is no base64": lambda: json.dumps(
        {"payload": "%%%", "payloadType": bundle.PAYLOAD_TYPE,
         "signatures": [{"keyid": "0" * 64, "sig": base64.b64encode(bytes(64)).decode()}]},
        separators=(",", ":")).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_in_words(name, judge) -> None:
    verdict = judge(HOSTILE[name]())
    assert not verdict.accepted
    assert len(verdict.failed) == 1
    assert verdict.failed[0].name in ("file", "schema")
    assert 10 < len(verdict.failed[0].words) < 400
    assert verdict.record is None


def test_file_of_a_gigabyte_is_refused_unread(judge, tmp_path) -> None:
    path = tmp_path / "bundle.json"
    with path.open("wb") as file:
        file.write(b'{"payload":"')
        file.truncate(2**30)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    verdict = judge(path)
    assert not verdict.accepted
    assert "bytes" in verdict.failed[0].words
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 50_000


def test_links_and_special_files_are_refused(honest, judge, tmp_path) -> None:
    real = tmp_path / "real.json"
    real.write_bytes(builders.signed(honest))
    assert judge(real).accepted
    link = tmp_path / "link.json"
    link.symlink_to(real)
    assert "symbolic link" in judge(link).failed[0].words
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    assert "plain file" in judge(pipe).failed[0].words
    assert "plain file" in judge(tmp_path).failed[0].words
    assert "cannot be read" in judge(tmp_path / "absent.json").failed[0].words


def test_largest_text_allowed_is_read_in_bounded_memory() -> None:
    """As many values as are allowed take a few hundred megabytes at most, and no more than seconds."""
    text = b"[" + b"[]," * 600_000 + b"[]]"
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(parse(text, "a text")) == 600_001
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 300_000


@pytest.mark.parametrize("value", [1e308, -1e308, "1e308", "1", True, 10**19])
def test_numbers_beyond_all_bounds_are_refused_however_they_are_written(value, honest, judge) -> None:
    """Infinity less infinity is no number, and no comparison with it refuses anything."""
    content = json.loads(statement.write(honest))
    content["predicate"]["timelines"][0]["energy_j"][3] = value
    verdict = judge(_signed(canonical_json(content)))
    assert not verdict.accepted
    assert verdict.failed[0].name == "schema"


@pytest.mark.parametrize("text", [b'{"a":1,"a":1}', b"[NaN]", b"[1e400]", b"[" * 40 + b"]" * 40, b"1" * 30, b"\xff"])
def test_strict_reading_refuses_what_has_no_single_meaning(text) -> None:
    with pytest.raises(BundleError):
        parse(text, "a text")
