"""The images and data that an operator knows: listed in ``params/closed/official.yaml``, or computed here."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from energylab.errors import BundleError, EnergylabError
from energylab.parameters import Parameters
from energylab.paths import params_root
from energylab.record import DataFacts
from energylab_portal.sealed.statement import Image, ImageDigest, Sha256

#: Most rows of sample or synthetic data that are made to compare a digest.
MOST_COMPUTED = 2_000

FILE = Path("closed") / "official.yaml"


class _Listed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OfficialImage(_Listed):
    """One image an operator trusts to do the work it is asked for."""

    name: str
    digest: ImageDigest
    layers: tuple[ImageDigest, ...]
    environment_digest: Sha256 | None = None  # None: any environment, or the image's own


class OfficialData(_Listed):
    """The first rows of a published data set."""

    task: str
    samples: int
    digest: Sha256


class _File(_Listed):
    images: tuple[OfficialImage, ...] = ()
    data: tuple[OfficialData, ...] = ()


@dataclass(frozen=True)
class Official:
    """What is official here.

    Attributes
    ----------
    images : tuple of OfficialImage
    data : tuple of OfficialData
    params : str or None
        Where tasks and sample data lie, for digests that are computed.
    """

    images: tuple[OfficialImage, ...] = ()
    data: tuple[OfficialData, ...] = field(default=())
    params: str | None = None

    def image(self, image: Image) -> tuple[bool | None, str]:
        """Return whether an image is official, and why, in words; None for one that is built on an official image."""
        for listed in self.images:
            if listed.digest == image.digest:
                if listed.layers != image.layers:
                    return False, f"the image has the digest of {listed.name}, but other layers"
                if listed.environment_digest not in (None, image.environment_digest):
                    return (
                        False,
                        f"the image is {listed.name}, but the Python environment shared with it is another one",
                    )
                return True, f"the image is the official {listed.name}"
        for listed in self.images:
            if image.layers[: len(listed.layers)] == listed.layers:
                own = len(image.layers) - len(listed.layers)
                return None, f"a plug-in image: the official {listed.name} with {own} layer(s) of the owner's on top"
        return False, f"image {image.digest[:19]}… is none of the {len(self.images)} official ones"

    def rows(self, task: str, data: DataFacts, seed: int) -> tuple[bool | None, str]:
        """Return whether data are the first rows of a task's, by digest and name, and why, in words."""
        source, samples, digest = data.source, data.queries, data.digest
        if source == "hub":
            listed = [one for one in self.data if one.task == task and one.samples == samples]
            if not listed:
                return None, f"no digest of the first {samples} published rows of {task} is listed here"
            same = listed[0].digest == digest
            return same, f"the rows are {'' if same else 'not '}the first {samples} published ones of {task}"
        if samples > MOST_COMPUTED:
            return None, f"{samples} {source} rows are more than the {MOST_COMPUTED} that are made here to compare"
        try:
            known = _computed(task, source, samples, seed, self.params)
        except EnergylabError as error:
            return None, f"the {source} rows of {task} cannot be made here: {str(error)[:120]}"
        if known.digest == digest and (data.name, data.licence) != (known.name, known.licence):
            return False, f"the rows are {known.name}'s, and are said to be {str(data.name)[:60]}'s"
        same = known.digest == digest
        return same, f"the rows are {'' if same else 'not '}the first {samples} {source} ones of {task}"


@functools.lru_cache(maxsize=64)
def _computed(task: str, source: str, samples: int, seed: int, params: str | None) -> DataFacts:
    from energylab import tasks

    values = {"task": task, "data_source": source, "samples": samples, "seed": seed, "params": params}
    _, data = tasks.load_task(Parameters.check(values)).load_rows()
    return data


def load(params: str | Path | None = None) -> Official:
    """Read what is official, by the rule that finds ``params/``; nothing is, where there is no file.

    Raises
    ------
    BundleError
        If the file is not what it must be.
    """
    root = params_root(params)
    file = root / FILE
    if not file.is_file():
        return Official(params=str(root))
    try:
        listed = _File.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise BundleError(f"{file}: {str(error)[:500]}") from None
    return Official(listed.images, listed.data, str(root))


def lines_for(image: str) -> str:
    """Return the lines by which an image on this machine is listed."""
    from energylab_portal.sealed.container import Container, Plan

    container = Container(Plan(image, Path()))
    container.describe()
    found = container.image
    entry = {"name": image, "digest": found.digest, "layers": list(found.layers)}
    if found.environment_digest:
        entry["environment_digest"] = found.environment_digest
    return yaml.safe_dump({"images": [entry]}, sort_keys=False, width=200).strip()
