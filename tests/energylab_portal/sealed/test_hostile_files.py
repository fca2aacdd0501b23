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

from energylab.record import canonical_json
from energylab_portal.sealed import bundle, statement
from energylab_portal.sealed.bundle import parse


def _signed(payload):
    """Sign anything: the key's owner may be the hostile one."""
    return bundle.sign(payload, builders.owner())


def _zip_bomb():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", b"0" * 50_000_000)
    return made.getvalue()


def _envelope(payload):
    return b'{"payload":' + payload + b',"payloadType":"","signatures":[]}'


def _statement(predicate):
    kinds = f'"_type":"{statement.STATEMENT_TYPE}","predicateType":"{statement.PREDICATE_TYPE}"'
    return _signed(f'{{{kinds},"subject":[],"predicate":{predicate}}}'.encode())


HOSTILE = {
    "zip bomb": _zip_bomb,
    "gzip bomb": lambda: gzip.compress(b"[" * 20_000_000),
    "deep nesting": lambda: b"[" * 200_000 + b"]" * 200_000,
    "many values": lambda: b"[" + b"1," * 3_000_000 + b"1]",
    "duplicate keys": lambda: _envelope(b'"","payload":""'),
    "huge integer": lambda: _envelope(b"9" * 1_000_000),
    "NaN": lambda: _envelope(b"NaN"),
    "a number beyond all": lambda: _envelope(b"1e400"),
    "not UTF-8": lambda: _envelope(b'"\xff\xfe"'),
    "lone surrogate": lambda: _envelope(b'"\\ud800"'),
    "payload that is no base64": lambda: json.dumps(
        {"payload": "%%%", "payloadType": bundle.PAYLOAD_TYPE,
         "signatures": [{"keyid": "0" * 64, "sig": base64.b64encode(bytes(64)).decode()}]}, separators=(",", ":"),
    ).encode(),
    "signed: not JSON": lambda: _signed(b"hello"),
    "signed: deep nesting": lambda: _signed(b"[" * 100_000 + b"]" * 100_000),
    "signed: a little too deep": lambda: _signed(b"[" * 40 + b"]" * 40),
    "signed: duplicate keys": lambda: _signed(b'{"_type":1,"_type":2,"subject":[],"predicateType":"","predicate":{}}'),
    "signed: many values": lambda: _signed(b"[" + b"1," * 2_500_000 + b"1]"),
    "signed: another statement": lambda: _signed(b'{"_type":"x","subject":[],"predicateType":"y","predicate":{}}'),
    "signed: half a character": lambda: _statement('{"name":"\\ud800"}'),
    "signed: an empty predicate": lambda: _statement("{}"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_in_words(name, judge):
    verdict = judge(HOSTILE[name]())
    assert not verdict.accepted
    assert [check.name for check in verdict.failed] in (["file"], ["schema"])
    assert 10 < len(verdict.failed[0].words) < 400
    assert verdict.record is None


def _peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_file_of_a_gigabyte_is_refused_unread(judge, tmp_path):
    path = tmp_path / "bundle.json"
    with path.open("wb") as file:
        file.write(b'{"payload":"')
        file.truncate(2**30)
    before_kb = _peak_kb()
    assert "bytes" in judge(path).failed[0].words
    assert _peak_kb() - before_kb < 50_000


def test_links_and_special_files_are_refused(honest, judge, tmp_path):
    real, link, pipe = (tmp_path / name for name in ("real.json", "link.json", "pipe.json"))
    real.write_bytes(builders.signed(honest))
    assert judge(real).accepted
    link.symlink_to(real)
    os.mkfifo(pipe)
    for path, words in (
        (link, "symbolic link"), (pipe, "regular file"), (tmp_path, "regular file"), (tmp_path / "no", "cannot be"),
    ):  # fmt: skip
        assert words in judge(path).failed[0].words


def test_largest_text_allowed_is_read_in_bounded_memory():
    """As many values as are allowed take a few hundred megabytes at most, and no more than seconds."""
    text, before_kb = b"[" + b"[]," * 600_000 + b"[]]", _peak_kb()
    assert len(parse(text, "a text")) == 600_001
    assert _peak_kb() - before_kb < 300_000


@pytest.mark.parametrize("value", [1e308, -1e308, "1e308", "1", True, 10**19])
def test_numbers_beyond_all_bounds_are_refused_however_they_are_written(value, honest, judge):
    """Infinity less infinity is no number, and no comparison with it refuses anything."""
    content = json.loads(statement.write(honest))
    content["predicate"]["timelines"][0]["energy_j"][3] = value
    assert [check.name for check in judge(_signed(canonical_json(content))).failed] == ["schema"]
