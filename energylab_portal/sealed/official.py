"""The images and data that count: a list signed by whoever vouches for them.

An image that is built twice differs in its digest, so images are not reproduced but vouched for: an operator builds
or checks one, lists its digest, and signs the list. Who trusts the operator's key trusts the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from energylab.errors import BundleError
from energylab.record import canonical_json
from energylab_portal.sealed import bundle as bundles
from energylab_portal.sealed.checks import Check
from energylab_portal.sealed.derive import Known
from energylab_portal.sealed.keys import PrivateKey
from energylab_portal.sealed.statement import ClosedRun, Image, ImageDigest, Sha256, Text

KIND = "urn:energylab:official:1"


class _Listed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OfficialImage(_Listed):
    """One image that is trusted to do the work it is asked for, and the environment that is shared with it."""

    name: Text
    digest: ImageDigest
    layers: tuple[ImageDigest, ...]
    environment_digest: Sha256 | None = None  # None: the image's own


class OfficialData(_Listed):
    """The first rows of a published data set."""

    task: Text
    samples: int
    digest: Sha256


class Official(_Listed):
    """What counts, and who says so."""

    images: tuple[OfficialImage, ...] = ()
    data: tuple[OfficialData, ...] = ()
    key_id: str = "nobody"

    def image(self, image: Image) -> Check:
        for one in self.images:
            if one.digest != image.digest:
                continue
            if (one.layers, one.environment_digest) != (image.layers, image.environment_digest):
                return Check("image", False, f"it has the digest of {one.name}, but other layers or packages")
            return Check("image", True, f"{one.name}, listed by key {self.key_id[:16]}…")
        words = f"{image.digest[:19]}… is none of the {len(self.images)} images listed by key {self.key_id[:16]}…"
        return Check("image", False, words)

    def rows(self, run: ClosedRun, known: Known) -> Check:
        """Return whether the queries are the first rows of the task's data."""
        name, count, source = known.facts.name, known.data.queries, known.data.source
        digest = known.data.digest
        if source == "hub":
            listed = [one.digest for one in self.data if (one.task, one.samples) == (name, count)]
            if not listed:
                return Check("data", None, f"no digest of the first {count} published rows of {name} is listed here")
            digest = listed[0]
        same = digest == run.data_digest
        return Check("data", same, f"the rows are {'' if same else 'not '}the first {count} {source} ones of {name}")


def entry(image: Image, name: str) -> OfficialImage:
    return OfficialImage(name=name, **image.model_dump(include={"digest", "layers", "environment_digest"}))


def sign(listed: Official, key: PrivateKey) -> bytes:
    content: dict[str, Any] = {"kind": KIND, **listed.model_dump(mode="json", exclude={"key_id"})}
    return bundles.sign(canonical_json(content), key)


def load(path: Path, keys: dict[str, str] | None = None) -> Official:
    """Read a list signed by one of `keys`; without them whoever signed it, for one who signs it again."""
    try:
        sealed = bundles.read(bundles.read_file(path))
        if keys is not None and not bundles.signature_holds(sealed, keys):
            raise BundleError(f"key {sealed.key_id[:16]}… is named as its signer, which is not the one that is trusted")
        content = bundles.parse(sealed.payload, "the list")
        if not isinstance(content, dict) or content.pop("kind", None) != KIND:
            raise BundleError("it is no list of official images and data")
        return Official.model_validate_json(canonical_json({**content, "key_id": sealed.key_id}))
    except (BundleError, ValidationError) as error:
        raise BundleError(f"{path}: {str(error)[:300]}") from None
