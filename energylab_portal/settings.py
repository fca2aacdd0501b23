"""Where a portal keeps its things, what it lets strangers do, its secret, and how submitted models are measured."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from energylab.errors import PortalError, unknown_name
from energylab.paths import params_root
from energylab.studies.plan import GIVEN_BY_STUDY, SlurmSettings
from energylab_portal.sealed.keys import write_private

#: Environment variable with the database's URL.
DATABASE = "ENERGYLAB_DATABASE"

#: Parameters that come from the submission itself, or that no submission may change.
_GIVEN = (*GIVEN_BY_STUDY, "task", "model", "model_source", "revision", "trust_remote_code", "device", "protocol")


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
        """Read the secret of a portal's folder, or make one."""
        secret, token = _keep(folder / "secret", secrets.token_hex(32)), secrets.token_urlsafe(32)
        kept = _keep(folder / "operator", digest_of(token), renew_operator)
        if len(secret) < 64 or len(kept) != 64:
            raise PortalError(f"the secret files in {folder} are damaged; restore a copy of them")
        return cls(secret, kept), token if kept == digest_of(token) else None

    def derive(self, purpose: str, part: str) -> str:
        """Return a token that only this portal can make: the same for the same purpose and part."""
        message = f"{purpose}\0{part}".encode("utf-8", "surrogatepass")
        return urlsafe_b64encode(hmac.digest(bytes.fromhex(self.secret), message, "sha256")).decode().rstrip("=")

    def is_operator(self, token: str) -> bool:
        return hmac.compare_digest(digest_of(token), self.operator_hash)


def digest_of(token: str) -> str:
    """Return the sha256 of a token in hex: enough to know it again, useless to one who reads the database."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _keep(path: Path, value: str, renew: bool = False) -> str:
    """Return what a file of one line holds; write `value` there first where there is none. Two at once agree."""
    if renew or not path.exists():
        made = write_private(path.with_name(f".{path.name}-{secrets.token_hex(6)}"), value.encode())
        if renew:
            made.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
            made.unlink()
    return path.read_text(encoding="ascii").strip()


class Measuring(BaseModel):
    """The content of ``params/portal/NAME.yaml``: a study without its models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    repeats: int = Field(3, ge=1, description="sessions of each model; 3 give an interval between sessions")
    parameters: dict[str, Any] = {}
    largest_gb: float = Field(400.0, gt=0, description="largest download of one model")
    time_limit_s: float = Field(24 * 3600.0, gt=0, description="of one session")
    slurm: SlurmSettings = SlurmSettings()

    def study(self, name: str, model: str, commit: str | None, tasks: tuple[str, ...]) -> dict[str, Any]:
        """Return the study that measures a submission, at the commit that was checked; no code of its own is run."""
        named = {"model": model, "model_source": "hub", "revision": commit, "trust_remote_code": False}
        return {
            "title": f"Submission {name}: {model}",
            "repeats": self.repeats,
            "parameters": {**self.parameters, **named},
            "sweeps": [{"task": list(tasks)}],
            "time_limit_s": self.time_limit_s,
            "slurm": self.slurm.model_dump(mode="json"),
        }


def load_measuring(name: str | Path, params: str | None = None) -> Measuring:
    """Read how models are measured: a file, or the name of one in ``params/portal/``."""
    path, folder = Path(name), params_root(params) / "portal"
    if not path.is_file():
        path = folder / f"{path.name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.yaml")]
        raise unknown_name("way of measuring", str(name), known, "or name a file")
    try:
        measuring = Measuring.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise PortalError(f"{path} does not say how to measure: {error}") from error
    for key in measuring.parameters:
        if key in _GIVEN:
            raise PortalError(f"{path}: parameter {key!r} is given by the portal; remove it")
    return measuring
