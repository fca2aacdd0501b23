"""A bundle's file: one signed envelope of strict JSON in canonical form.

Only one sequence of bytes stands for an envelope, so that a file which was changed at all is refused, even where the
change would mean nothing. There is nothing to unpack, no path to follow, and every size is bounded.

References
----------
DSSE, https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error
from securesystemslib.signer import Signature

from energylab.errors import BundleError
from energylab.record import canonical_json
from energylab_portal.sealed import keys as key_files

PAYLOAD_TYPE = "application/vnd.in-toto+json"

#: Maximal size of a bundle in bytes.
MAX_BYTES = 24 * 2**20
#: Maximal number of values in a text, which limits the memory of reading it.
MAX_VALUES = 2_000_000
MAX_DEPTH = 32
#: Maximal digits of an integer, and largest number, so that sums, products and quotients stay finite.
MAX_DIGITS, MAX_NUMBER = 20, 1e18


@dataclass(frozen=True)
class Sealed:
    """An envelope whose signature is not checked yet."""

    payload: bytes
    key_id: str
    signature: bytes


def sign(payload: bytes, key: key_files.PrivateKey) -> bytes:
    signature = Envelope(payload, PAYLOAD_TYPE, {}).sign(key.signer)
    return _written(Sealed(payload, key.key_id, bytes.fromhex(signature.signature)))


def _written(sealed: Sealed) -> bytes:
    signature = {"keyid": sealed.key_id, "sig": base64.b64encode(sealed.signature).decode()}
    return canonical_json({
        "payload": base64.b64encode(sealed.payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": [signature],
    })  # fmt: skip


def read_file(path: str | os.PathLike) -> bytes:
    """Read a regular file of limited size; links are refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "it is a symbolic link; name the file itself" if Path(path).is_symlink() else error.strerror
        raise BundleError(f"the file cannot be read: {reason}") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise BundleError("it is not a regular file; name a bundle")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_size > MAX_BYTES:
            raise BundleError(f"the file has {facts.st_size} bytes; at most {MAX_BYTES} are allowed")
        return file.read(MAX_BYTES + 1)


def read(data: bytes) -> Sealed:
    """Parse an envelope, without checking its signature."""
    if len(data) > MAX_BYTES:
        raise BundleError(f"it has {len(data)} bytes; at most {MAX_BYTES} are allowed")
    if not data.startswith(b"{"):
        raise BundleError("it is not an envelope: a bundle is one JSON file")
    sealed = _taken_apart(parse(data, "the envelope", max_values=16))
    if _written(sealed) != data:
        raise BundleError("it is not in canonical form; send the unchanged file")
    return sealed


def _taken_apart(envelope: object) -> Sealed:
    match envelope:
        case {"payload": str(payload), "payloadType": str(kind), "signatures": [{"keyid": str(name), "sig": str(sig)}]}:
            pass
        case _:
            raise BundleError("it is not a DSSE envelope with payload, payloadType and one signature")
    if kind != PAYLOAD_TYPE:
        raise BundleError(f"its payload is {kind[:60]!r}, not {PAYLOAD_TYPE!r}")
    if not re.fullmatch(r"[0-9a-f]{64}", name):
        raise BundleError(f"its key id {name[:80]!r} is not a sha256 in hex")
    try:
        return Sealed(base64.b64decode(payload, validate=True), name, base64.b64decode(sig, validate=True))
    except (binascii.Error, ValueError) as error:
        raise BundleError(f"its payload or signature is not base64: {error}") from None


def signature_holds(sealed: Sealed, keys: Mapping[str, str]) -> bool | None:
    """Whether the signature is that of the named key; None if `keys` does not contain this key."""
    if sealed.key_id not in keys:
        return None
    key = key_files.public_key(sealed.key_id, keys[sealed.key_id])
    signature = Signature(sealed.key_id, sealed.signature.hex())
    try:
        Envelope(sealed.payload, PAYLOAD_TYPE, {sealed.key_id: signature}).verify([key], 1)
    except Error:
        return False
    return True


def parse(data: bytes, what: str, *, max_values: int = MAX_VALUES) -> Any:
    """Read untrusted JSON with limited values, depth and numbers, and without ambiguous forms."""
    # Every value but the first follows a comma, a bracket or a brace, which are counted before parsing.
    values = 1 + sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if values > max_values:
        raise BundleError(f"{what} has up to {values} values; at most {max_values} are allowed")
    hooks = {
        "object_pairs_hook": _without_repeats, "parse_constant": _refuse_constant, "parse_int": _short_int,
        "parse_float": _finite,
    }  # fmt: skip
    try:
        value = json.loads(data.decode("utf-8"), **hooks)
        if rb"\u" in data:  # an escaped lone surrogate cannot be written again
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise BundleError(f"{what} is nested too deeply") from None
    except (ValueError, UnicodeError) as error:
        raise BundleError(f"{what} is not strict JSON: {str(error)[:200]}") from None
    if _deeper_than(value, MAX_DEPTH):
        raise BundleError(f"{what} is nested too deeply; at most {MAX_DEPTH} levels are allowed")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        raise ValueError(f"duplicate key among {', '.join(sorted(built))[:100]!r}")
    return built


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _short_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) <= MAX_NUMBER:
        raise ValueError(f"{text[:30]} is beyond {MAX_NUMBER:g}")
    return value


def _deeper_than(value: Any, limit: int) -> bool:
    """Walk level by level, without recursion."""
    level = [value]
    for _ in range(limit):
        parents = [one for one in level if isinstance(one, dict | list)]
        level = [child for one in parents for child in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)
