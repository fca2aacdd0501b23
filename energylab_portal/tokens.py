"""What only the portal knows: its secret, and what is derived from it. No token is stored, only digests of tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from energylab.errors import PortalError

_BYTES = 32


class Vault:
    """The portal's secret, kept in its folder for its owner alone.

    Parameters
    ----------
    secret : bytes
        At least 32 random bytes.
    operator_hash : str
        sha256 of the operator's token, in hex.
    """

    def __init__(self, secret: bytes, operator_hash: str) -> None:
        self._secret = secret
        self._operator_hash = operator_hash

    @classmethod
    def open(cls, folder: Path, renew_operator: bool = False) -> tuple[Vault, str | None]:
        """Read the secret of a portal's folder, or make one.

        Parameters
        ----------
        folder : pathlib.Path
            The portal's.
        renew_operator : bool
            Make a new operator's token; the old one is then worth nothing.

        Returns
        -------
        Vault
        str or None
            The operator's token when it was made just now: it is not kept, and cannot be shown again.
        """
        secret = bytes.fromhex(_keep(folder / "secret", secrets.token_hex(_BYTES)))
        token = secrets.token_urlsafe(_BYTES)
        digest = digest_of(token)
        kept = _keep(folder / "operator", digest, renew_operator)
        if len(secret) < _BYTES or len(kept) != len(digest):
            raise PortalError(f"the secret files in {folder} are damaged; restore a copy of them")
        return cls(secret, kept), token if kept == digest else None

    def derive(self, purpose: str, *parts: str) -> str:
        """Return a token that only this portal can make: the same for the same purpose and parts."""
        message = "\0".join((purpose, *parts)).encode("utf-8", "surrogatepass")
        return base64.urlsafe_b64encode(hmac.digest(self._secret, message, "sha256")).decode().rstrip("=")

    def matches(self, given: str, purpose: str, *parts: str) -> bool:
        """Say, in a time that does not depend on `given`, whether it is the token of this purpose and parts."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.derive(purpose, *parts).encode())

    def is_operator(self, token: str) -> bool:
        """Say, in a time that does not depend on the token, whether it is the operator's."""
        return hmac.compare_digest(digest_of(token), self._operator_hash)

    def operator_cookie(self, until_s: float) -> str:
        """Return the cookie of an operator who has shown the token; it dies with the token and at `until_s`."""
        nonce = secrets.token_urlsafe(12)
        expiry = f"{until_s:.0f}"
        return f"{expiry}.{nonce}.{self.derive('operator', self._operator_hash, expiry, nonce)}"

    def operator_from_cookie(self, cookie: str, now_s: float) -> bool:
        """Say whether a cookie is one of ours and has not run out."""
        expiry, _, rest = cookie.partition(".")
        nonce, _, proof = rest.partition(".")
        if not expiry.isdecimal() or len(expiry) > 12 or not nonce or not proof:
            return False
        return self.matches(proof, "operator", self._operator_hash, expiry, nonce) and now_s < float(expiry)


def digest_of(token: str) -> str:
    """Return the sha256 of a token in hex: enough to know it again, useless to one who reads the database."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _keep(path: Path, value: str, renew: bool = False) -> str:
    """Return what a file of one line holds; write `value` there first where there is none. Two at once agree."""
    if renew:
        path.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return path.read_text(encoding="ascii").strip()
        return value
    finally:
        temporary.unlink()
