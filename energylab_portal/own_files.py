"""The files of a model that may bring its own code: which are fetched, and fetched without running any of them."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from energylab.errors import ModelError
from energylab.tasks import hub
from energylab_portal.sealed.weights import SUFFIXES

#: Which weights are taken where a repository holds the same ones in several formats: the first that is there.
PREFERRED = (".safetensors", ".bin")


def choose(model: str, files: Mapping[str, int], largest_gb: float) -> list[str]:
    """Return the files to fetch: everything but second copies of the weights in other formats.

    Parameters
    ----------
    model : str
        Hub id, for the message.
    files : mapping of str to int
        Size of every file in bytes, by its path in the repository.
    largest_gb : float
        Largest download.

    Raises
    ------
    ModelError
        If there are no weights, a path leads out of the folder, or it is too large.
    """
    strange = [name for name in files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if strange:
        raise ModelError(f"{model} holds a file whose path leads out of its folder: {strange[0][:100]!r}; remove it")
    formats = {PurePosixPath(name).suffix for name in files} & set(SUFFIXES)
    if not formats:
        raise ModelError(f"{model} holds no weights ({', '.join(SUFFIXES)}); push them, and submit again")
    kept = next(({one} for one in PREFERRED if one in formats), formats)
    chosen = [name for name in files if PurePosixPath(name).suffix not in formats - kept]
    size = sum(files[name] for name in chosen)
    if size > largest_gb * 1e9:
        raise ModelError(f"{size / 1e9:.1f} GB of files, more than the {largest_gb:g} GB that this portal measures")
    return sorted(chosen)


def describe(files: Mapping[str, int], chosen: list[str]) -> list[str]:
    """Say in words what will be fetched."""
    size = sum(files[name] for name in chosen)
    code = sum(name.endswith(".py") for name in chosen)
    return [
        f"{len(chosen)} files, {size / 1e6:,.3g} MB, {code} of them code",
        "the operator allows its own code and any format of weights, in the sealed container only",
    ]


def fetch(model: str, commit: str, chosen: list[str], folder: Path) -> Path:
    """Download files of one commit into a folder of their own, readable by the container's user; nothing is run.

    They do not lie in the hub's cache: another run on this machine could load them from there.

    Raises
    ------
    ModelError
        If the hub cannot be asked, or the download breaks off; what has arrived is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hub.snapshot(model, commit, "model", [glob.escape(name) for name in chosen], ModelError, into=folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder
