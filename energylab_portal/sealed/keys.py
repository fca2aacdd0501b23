"""Ed25519 keys: made once, kept by the owner, known by the hash of their public half."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylab.errors import BundleError, MissingExtraError

EXTRA = "signing and checking bundles needs energylab-portal: pip install energylab-portal"


@dataclass(frozen=True)
class PrivateKey:
    """The key that signs.

    Attributes
    ----------
    key_id : str
        sha256 (hex) of the raw public key.
    public : str
        The raw public key in base64: what an operator enrols.
    signer : securesystemslib.signer.Signer
    """

    key_id: str
    public: str
    signer: Any


def make(path: str | os.PathLike) -> PrivateKey:
    """Make a key pair and write its private half, readable by its owner alone.

    Parameters
    ----------
    path : path
        File to write; never overwritten.

    Returns
    -------
    PrivateKey

    Raises
    ------
    BundleError
        If the file exists or cannot be written.
    """
    ed25519, serialization = _cryptography()
    made = ed25519.Ed25519PrivateKey.generate()
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
    except FileExistsError:
        raise BundleError(f"{path} exists; a key is never overwritten: name another file") from None
    except OSError as error:
        raise BundleError(f"cannot write the key {path}: {error.strerror}") from error
    return _private(made)


def load(path: str | os.PathLike) -> PrivateKey:
    """Read a private key.

    Raises
    ------
    BundleError
        If it cannot be read, is no Ed25519 key, or others may read it.
    """
    ed25519, serialization = _cryptography()
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(10_000)
    except OSError as error:
        fix = "`energylab-portal sealed key` makes one"
        raise BundleError(f"cannot read the key {path}: {error.strerror}; {fix}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BundleError(f"others may read the key {path}; run `chmod 600 {path}`")
    try:
        loaded = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path} is no private key in PEM: {error}") from None
    if not isinstance(loaded, ed25519.Ed25519PrivateKey):
        raise BundleError(f"{path} holds a key of another kind; `energylab-portal sealed key` makes an Ed25519 key")
    return _private(loaded)


def key_id(public: str) -> str:
    """Return the id of a public key: sha256 (hex) of its 32 raw bytes.

    Parameters
    ----------
    public : str
        The raw public key in base64.

    Raises
    ------
    BundleError
        If it is not 32 bytes in base64.
    """
    return hashlib.sha256(_raw(public)).hexdigest()


def public_key(identity: str, keys: Mapping[str, str]) -> Any | None:
    """Return the enrolled key of that id in securesystemslib's form; None where it is not enrolled.

    Raises
    ------
    BundleError
        If an enrolled key does not have the id it is enrolled under.
    """
    if identity not in keys:
        return None
    if key_id(keys[identity]) != identity:
        raise BundleError(f"the key enrolled as {identity} has another id: {key_id(keys[identity])}")
    try:
        from securesystemslib.signer import SSlibKey
    except ImportError as error:
        raise MissingExtraError(EXTRA) from error
    return SSlibKey(identity, "ed25519", "ed25519", {"public": _raw(keys[identity]).hex()})


def _raw(public: str) -> bytes:
    try:
        raw = base64.b64decode(public, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BundleError(f"public key {public[:60]!r} is not base64: {error}") from None
    if len(raw) != 32:
        raise BundleError(f"public key {public[:60]!r} has {len(raw)} bytes; an Ed25519 key has 32")
    return raw


def _private(key: Any) -> PrivateKey:
    _, serialization = _cryptography()
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    identity = hashlib.sha256(raw).hexdigest()
    from securesystemslib.signer import CryptoSigner, SSlibKey

    half = SSlibKey(identity, "ed25519", "ed25519", {"public": raw.hex()})
    return PrivateKey(identity, base64.b64encode(raw).decode(), CryptoSigner(key, half))


def _cryptography() -> tuple[Any, Any]:
    try:
        import securesystemslib.signer  # noqa: F401 - both or neither
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError(EXTRA) from error
    return ed25519, serialization
