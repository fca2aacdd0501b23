"""Where a portal keeps its things, and the limits it holds strangers to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Environment variable with the database's URL.
DATABASE = "ENERGYLAB_DATABASE"

DEFAULT_FOLDER = Path("results/portal")


@dataclass(frozen=True)
class Limits:
    """What one client may ask; a client is an address.

    Attributes
    ----------
    body_bytes : int
        Largest body of a form or a JSON request.
    bundle_bytes : int
        Largest upload of a closed result.
    submissions_per_minute, requests_per_second, logins_per_minute : float
        Steady rates.
    burst : float
        Seconds' worth of a rate that may come at once.
    clients : int
        Addresses remembered; the longest unseen is forgotten first.
    """

    body_bytes: int = 64 * 1024
    bundle_bytes: int = 24 * 1024 * 1024  # as `energylab_portal.sealed.envelope` reads at most
    submissions_per_minute: float = 30.0
    requests_per_second: float = 50.0
    logins_per_minute: float = 10.0
    burst: float = 20.0
    clients: int = 10_000


@dataclass(frozen=True)
class Settings:
    """One portal.

    Attributes
    ----------
    folder : pathlib.Path
        Database, secret, bundles, releases and pages.
    database : str
        SQLAlchemy URL; SQLite in the folder when empty.
    address : str
        Web address under which people reach the portal, without a slash at its end.
    params : str or None
        Folder laid out like ``params/``.
    limits : Limits
    """

    folder: Path = DEFAULT_FOLDER
    database: str = ""
    address: str = "http://127.0.0.1:8320"
    params: str | None = None
    limits: Limits = Limits()

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database: as stated, or SQLite in the folder."""
        return self.database or f"sqlite:///{self.folder.resolve() / 'portal.db'}"

    @property
    def secure(self) -> bool:
        """Whether people reach the portal by https, so that cookies may say so."""
        return self.address.startswith("https://")

    @property
    def bundles(self) -> Path:
        """Uploaded bundles, named by their digest."""
        return self.folder / "bundles"

    @property
    def releases(self) -> Path:
        """Releases, one file each."""
        return self.folder / "releases"

    @property
    def sites(self) -> Path:
        """The leaderboard of each release."""
        return self.folder / "sites"

    @property
    def records(self) -> Path:
        """Records of published submissions, as files a release can be made of again."""
        return self.folder / "records"

    def prepare(self) -> None:
        """Make the folder, readable by its owner alone: it holds addresses of people."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o700)  # noqa: PTH101 - a folder that was there before is closed too
        for path in (self.bundles, self.releases, self.sites, self.records):
            path.mkdir(exist_ok=True)
