"""A portal's files, limits for clients, and secret."""

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
    """Limits per client; a client is an address, for IPv6 its /64 network."""

    body_bytes: int = 64 * 1024  # largest body of a form or a JSON request, and largest upload of a closed result
    bundle_bytes: int = 24 * 1024 * 1024  # the limit of `energylab_portal.sealed.bundle`
    submissions_per_minute: int = 30  # within any 60 seconds
    requests_per_second: int = 50
    logins_per_minute: int = 10
    waiting: int = 20  # submissions of one client that may wait at once


@dataclass(frozen=True)
class Settings:
    folder: Path = Path("results/portal")  # database, secret, bundles, releases and pages
    database: str = ""  # SQLAlchemy URL; if empty: SQLite in the folder
    address: str = "http://127.0.0.1:8320"
    params: str | None = None  # folder with the layout of ``params/``
    limits: Limits = Limits()

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.folder.resolve() / 'portal.db'}"

    @property
    def secure(self) -> bool:
        """Whether the public address is https, so that cookies are marked secure."""
        return self.address.startswith("https://")

    bundles = property(lambda self: self.folder / "bundles", doc="Uploaded bundles, named by their digest.")
    releases = property(lambda self: self.folder / "releases", doc="One file per release.")
    sites = property(lambda self: self.folder / "sites", doc="The leaderboard of each release.")
    records = property(lambda self: self.folder / "records", doc="Records of the releases.")
    official = property(lambda self: self.folder / "official.json", doc="The operator's signed list of images.")
    operator_key = property(lambda self: self.folder / "operator.pub", doc="The public key that signs the list.")

    def bundle_path(self, digest: str) -> Path:
        return self.bundles / f"{digest}.bundle"

    def prepare(self) -> None:
        """Create the folder, readable only by its owner, since it contains mail addresses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o700)  # noqa: PTH101 - also for an existing folder
        for path in (self.bundles, self.releases, self.sites, self.records):
            path.mkdir(exist_ok=True)


@dataclass(frozen=True)
class Vault:
    """The portal's secret, stored in its folder, and the digest of the operator's token."""

    secret: str
    operator_hash: str

    @classmethod
    def open(cls, folder: Path, renew_operator: bool = False) -> tuple[Vault, str | None]:
        """Read or create the secret of a portal's folder; return it and, if created now, the operator's token."""
        secret, operator, token = folder / "secret", folder / "operator", None
        with FileLock(folder / ".opening"):  # two simultaneous starts share one secret
            if not secret.exists():
                _write(secret, secrets.token_hex(32))
            if renew_operator or not operator.exists():
                token = secrets.token_urlsafe(32)
                _write(operator, digest_of(token))
            kept = cls(secret.read_text(encoding="ascii").strip(), operator.read_text(encoding="ascii").strip())
        if len(kept.secret) < 64 or len(kept.operator_hash) != 64:
            raise PortalError(f"the files secret and operator in {folder} are damaged; restore them from a backup")
        return kept, token

    def derive(self, purpose: str, part: str) -> str:
        """Return the token for a purpose and part, which only this portal can compute."""
        message = f"{purpose}\0{part}".encode("utf-8", "surrogatepass")
        return urlsafe_b64encode(hmac.digest(bytes.fromhex(self.secret), message, "sha256")).decode().rstrip("=")

    def is_operator(self, token: str) -> bool:
        return hmac.compare_digest(digest_of(token), self.operator_hash)


def _write(path: Path, text: str) -> None:
    write_private(path.with_name(f".{path.name}-{secrets.token_hex(6)}"), text.encode()).replace(path)


def digest_of(token: str) -> str:
    """Return the sha256 of a token in hex, which recognises the token but does not reveal it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
