"""Where a portal keeps its things, what it lets strangers do, and its secret."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from energylab.errors import PortalError
from energylab_portal.sealed.keys import write_private


@dataclass(frozen=True)
class Limits:
    """What one client may ask; a client is an address, of IPv6 the network of it."""

    body_bytes: int = 64 * 1024  # largest body of a form or a JSON request, and largest upload of a closed result
    bundle_bytes: int = 24 * 1024 * 1024  # as `energylab_portal.sealed.bundle` reads at most
    submissions_per_minute: int = 30  # most in any such stretch of time
    requests_per_second: int = 50
    logins_per_minute: int = 10
    waiting: int = 20  # submissions of one client that may wait at once


@dataclass(frozen=True)
class Settings:
    folder: Path = Path("results/portal")  # database, secret, bundles, releases and pages
    database: str = ""  # SQLAlchemy URL; SQLite in the folder when empty
    address: str = "http://127.0.0.1:8320"
    params: str | None = None  # folder laid out like ``params/``
    limits: Limits = Limits()

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.folder.resolve() / 'portal.db'}"

    @property
    def secure(self) -> bool:
        """Whether people reach the portal by https, so that cookies may say so."""
        return self.address.startswith("https://")

    bundles = property(lambda self: self.folder / "bundles", doc="Uploaded bundles, named by their digest.")
    releases = property(lambda self: self.folder / "releases", doc="Releases, one file each.")
    sites = property(lambda self: self.folder / "sites", doc="The leaderboard of each release.")
    records = property(lambda self: self.folder / "records", doc="Records a release can be made of again.")
    official = property(lambda self: self.folder / "official.json", doc="The operator's signed list of images.")
    operator_key = property(lambda self: self.folder / "operator.pub", doc="The public key that signs the list.")

    def bundle_path(self, digest: str) -> Path:
        return self.bundles / f"{digest}.bundle"

    def prepare(self) -> None:
        """Make the folder, readable by its owner alone: it holds addresses of people."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o700)  # noqa: PTH101 - a folder that was there before is closed too
        for path in (self.bundles, self.releases, self.sites, self.records):
            path.mkdir(exist_ok=True)


@dataclass(frozen=True)
class Vault:
    """The portal's secret, kept in its folder for its owner alone, and the digest of the operator's token."""

    secret: str
    operator_hash: str

    @classmethod
    def open(cls, folder: Path, renew_operator: bool = False) -> tuple[Vault, str | None]:
        """Read the secret of a portal's folder, or make one; return the operator's token too where it was made now."""
        secret, operator, token = folder / "secret", folder / "operator", None
        with FileLock(folder / ".opening"):  # two that start at once share one secret
            if not secret.exists():
                _write(secret, secrets.token_hex(32))
            if renew_operator or not operator.exists():
                token = secrets.token_urlsafe(32)
                _write(operator, digest_of(token))
            kept = cls(secret.read_text(encoding="ascii").strip(), operator.read_text(encoding="ascii").strip())
        if len(kept.secret) < 64 or len(kept.operator_hash) != 64:
            raise PortalError(f"the secret files in {folder} are damaged; restore a copy of them")
        return kept, token

    def derive(self, purpose: str, part: str) -> str:
        """Return a token that only this portal can make: the same for the same purpose and part."""
        message = f"{purpose}\0{part}".encode("utf-8", "surrogatepass")
        return urlsafe_b64encode(hmac.digest(bytes.fromhex(self.secret), message, "sha256")).decode().rstrip("=")

    def is_operator(self, token: str) -> bool:
        return hmac.compare_digest(digest_of(token), self.operator_hash)


def _write(path: Path, text: str) -> None:
    write_private(path.with_name(f".{path.name}-{secrets.token_hex(6)}"), text.encode()).replace(path)


def digest_of(token: str) -> str:
    """Return the sha256 of a token in hex: enough to know it again, useless to one who reads the database."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
