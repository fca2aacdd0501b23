"""Whether a bundle can be believed: file, signature, digests, schema, official parts, physics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from energylab.closed.verdict import Check, Verdict

__all__ = ["Check", "Verdict", "verify"]


def verify(bundle: Path | bytes, *, keys: Mapping[str, str]) -> Verdict:
    """Check a bundle; never raises on what the bundle holds.

    Parameters
    ----------
    bundle : path or bytes
        The bundle file, or its content.
    keys : mapping of str to str
        Enrolled keys: id (sha256 hex of the raw Ed25519 public key) to the raw public key in base64.

    Returns
    -------
    Verdict
    """
    refused = Check("file", False, "bundles cannot be read yet")
    return Verdict(False, None, False, None, (refused,), None, None)
