"""The model's files as seen from outside the container: how large, stored how, and their hashes.

Headers of safetensors files are read here, by the host, without loading a weight: the number of weights and the type
they are stored in are then not the container's word.

References
----------
safetensors, https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import Counter
from pathlib import Path

from energylab.errors import BundleError
from energylab_portal.sealed.statement import Weights
from energylab_portal.sealed.strict import parse

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack")

#: Longest header that is read, in bytes; the format itself allows 100 MB.
MAX_HEADER = 100_000_000


def survey(folder: Path) -> tuple[Weights, dict[str, str]]:
    """Look at a model's folder.

    Parameters
    ----------
    folder : Path
        The folder that is mounted into the container.

    Returns
    -------
    weights : Weights
        Public: number and size of the weight files, and how many weights of which type.
    hashes : dict of str to str
        Private: sha256 of every weight file, by its path in the folder.

    Raises
    ------
    BundleError
        If it holds no weight file, or a broken one.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in SUFFIXES)
    if not files:
        raise BundleError(f"the model's folder {folder} holds no weight file ({', '.join(SUFFIXES)})")
    elements: Counter[str] = Counter()
    for path in files:
        if path.suffix == ".safetensors":
            elements.update(_elements(path))
    hashes = {str(path.relative_to(folder)): _sha256(path) for path in files}
    size = sum(path.stat().st_size for path in files)
    return Weights(files=len(files), bytes=size, elements=dict(elements), experts=_has_experts(folder)), hashes


def _has_experts(folder: Path) -> bool:
    """Tell whether a configuration names experts: ``num_local_experts``, ``n_routed_experts`` …"""
    return any("experts" in path.read_text(encoding="utf-8", errors="replace") for path in folder.glob("*config.json"))


def _elements(path: Path) -> Counter[str]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if length > min(MAX_HEADER, path.stat().st_size):
            raise BundleError(f"{path.name} is not a whole safetensors file; copy it again")
        header = parse(file.read(length), f"the header of {path.name}")
    try:
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        counts = [(str(tensor["dtype"]), math.prod(tensor["shape"])) for tensor in tensors]
    except (AttributeError, KeyError, TypeError) as error:
        raise BundleError(f"the header of {path.name} is not that of a safetensors file: {error!r}") from None
    found: Counter[str] = Counter()
    for kind, count in counts:
        found[kind] += count
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
