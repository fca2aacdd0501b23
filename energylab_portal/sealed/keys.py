"""Ed25519 keys, and salted commitments to values that the owner keeps and can show later.

A commitment is ``sha256(salt ‖ canonical JSON of [name, value])`` with 32 random bytes of salt of its own, so that
nobody can try likely values. The opening file holds salts and values; its owner shows one entry of it, or none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from securesystemslib.signer import CryptoSigner, SSlibKey

from energylab.errors import BundleError
from energylab.record import canonical_json


@dataclass(frozen=True)
class PrivateKey:
    key_id: str  # sha256 (hex) of the raw public key
    public: str  # the raw public key in base64, which an operator enrols
    signer: Any


def make(path: str | os.PathLike) -> PrivateKey:
    """Make a key pair, and write the private key to the new file `path`, readable only by its owner."""
    made = ed25519.Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(path, made.private_bytes(*form))
    return _private(made)


def write_private(path: str | os.PathLike, data: bytes) -> Path:
    """Write a new file that only its owner may read."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BundleError(f"{path} exists and is not overwritten: name another file") from None
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


def load(path: str | os.PathLike) -> PrivateKey:
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(10_000)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}; run `energylab-portal sealed key`") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BundleError(f"other users may read the key {path}; run `chmod 600 {path}`")
    try:
        loaded = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path} is not a private key in PEM: {error}") from None
    if not isinstance(loaded, ed25519.Ed25519PrivateKey):
        raise BundleError(f"{path} is not an Ed25519 key; make one with `energylab-portal sealed key`")
    return _private(loaded)


def _private(key: ed25519.Ed25519PrivateKey) -> PrivateKey:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    public = base64.b64encode(raw).decode()
    return PrivateKey(key_id(public), public, CryptoSigner(key, public_key(key_id(public), public)))


def key_id(public: str) -> str:
    """Return the id of a public key in base64: sha256 (hex) of its 32 raw bytes."""
    return hashlib.sha256(_raw(public)).hexdigest()


def public_key(identity: str, public: str) -> SSlibKey:
    if key_id(public) != identity:
        raise BundleError(f"the key stored as {identity} has the id {key_id(public)}; enrol it again")
    return SSlibKey(identity, "ed25519", "ed25519", {"public": _raw(public).hex()})


def read_public(text: str) -> dict[str, str]:
    """Return id and public key, given as base64 or as a file."""
    path = Path(text)
    public = path.read_text(encoding="utf-8").strip() if len(text) < 200 and path.is_file() else text.strip()
    return {key_id(public): public}


def _raw(public: str) -> bytes:
    try:
        raw = base64.b64decode(public, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise BundleError(f"{public[:60]!r} is not a public key (32 bytes in base64); `sealed key` prints it")
    return raw


def commit(private: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    opening = {name: {"salt": secrets.token_hex(32), "value": value} for name, value in private.items()}
    return {name: commitment(name, entry) for name, entry in opening.items()}, opening


def commitment(name: str, entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(bytes.fromhex(entry["salt"]) + canonical_json([name, entry["value"]])).hexdigest()


def check_opening(commitments: Mapping[str, str], opening: Any) -> dict[str, bool]:
    """Return, for every entry of an opening, whether it matches its commitment."""
    if not isinstance(opening, dict):
        raise BundleError("the file is not an opening: it contains no names")
    found = {}
    for name, entry in opening.items():
        if name not in commitments:
            raise BundleError(f"no commitment {name!r}; the bundle has: {', '.join(sorted(commitments))}")
        try:
            found[name] = secrets.compare_digest(commitment(name, entry), commitments[name])
        except (ValueError, TypeError, KeyError):
            raise BundleError(f"the opening of {name!r} needs a salt in hex and a value") from None
    return found
