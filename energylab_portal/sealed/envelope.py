"""The signed envelope of a bundle: DSSE, with one signature and one way to write it.

A bundle is a single file of JSON, never an archive: there is nothing to unpack, no path to follow, and no way to
be small on the disk and large in memory. Only one sequence of bytes stands for an envelope, so that a file which
was changed at all is refused, even where the change would mean nothing.

References
----------
DSSE, https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from energylab.errors import BundleError
from energylab.record import canonical_json
from energylab_portal.sealed import keys as enrolled
from energylab_portal.sealed.strict import parse

PAYLOAD_TYPE = "application/vnd.in-toto+json"

#: Largest bundle, in bytes: hours of a power timeline. A larger file is not read.
MAX_BYTES = 24 * 2**20

_MAGIC = {
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x28\xb5\x2f\xfd": "a zstd file",
}


@dataclass(frozen=True)
class Sealed:
    """An envelope as read, its signature not yet checked."""

    payload: bytes
    key_id: str
    signature: bytes


def sign(payload: bytes, key: enrolled.PrivateKey) -> bytes:
    """Return the file that holds `payload`, signed by `key`."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    signature = envelope.sign(key.signer)
    return _written(Sealed(payload, key.key_id, bytes.fromhex(signature.signature)))


def _written(sealed: Sealed) -> bytes:
    return canonical_json(
        {
            "payload": base64.b64encode(sealed.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": sealed.key_id, "sig": base64.b64encode(sealed.signature).decode()}],
        }
    )


def read_file(path: str | os.PathLike) -> bytes:
    """Read a bundle's file: a plain file of bounded size, never what a link points to.

    Raises
    ------
    BundleError
        If it is missing, a link, no plain file, or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if Path(path).is_symlink():
            raise BundleError("the file is a symbolic link; give the bundle itself") from None
        raise BundleError(f"the file cannot be read: {error.strerror}") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise BundleError("it is not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_size > MAX_BYTES:
            raise BundleError(f"the file has {facts.st_size} bytes; a bundle has at most {MAX_BYTES}")
        return file.read(MAX_BYTES + 1)


def read(data: bytes) -> Sealed:
    """Take an envelope apart; its signature is not checked here.

    Raises
    ------
    BundleError
        If it is not the one way to write an envelope with one signature.
    """
    if len(data) > MAX_BYTES:
        raise BundleError(f"it has {len(data)} bytes; a bundle has at most {MAX_BYTES}")
    archive = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if archive:
        raise BundleError(f"it is {archive}; a bundle is one file of JSON and is never unpacked")
    sealed = _taken_apart(parse(data, "the envelope", max_values=16))
    if _written(sealed) != data:
        raise BundleError("it is not written the one way an envelope is written; send the file as it was made")
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
    """Return whether the named key made the signature; None where that key is not enrolled."""
    key = enrolled.public_key(sealed.key_id, keys)
    if key is None:
        return None
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error
    from securesystemslib.signer import Signature

    signature = Signature(sealed.key_id, sealed.signature.hex())
    try:
        Envelope(sealed.payload, PAYLOAD_TYPE, {sealed.key_id: signature}).verify([key], 1)
    except Error:
        return False
    return True
