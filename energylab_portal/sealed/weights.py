"""Facts of the model's files, read outside the container: size, storage format and hashes.

Headers are read by the host, without loading a weight: size and precision are then not the container's word.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from energylab.errors import BundleError
from energylab_portal.sealed.statement import Weights

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack")
#: Keys of a configuration with the number of experts per layer, and of active experts per token.
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
USED = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "top_k_experts")


def survey(folder: Path) -> tuple[Weights, dict[str, str]]:
    """Read the facts of a model's folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in SUFFIXES)
    if not any(path.suffix == ".safetensors" for path in files):
        raise BundleError(f"{folder} has no weights as safetensors; save the model with save_pretrained")
    elements, of_experts = Counter(), 0
    for path in files:
        if path.suffix == ".safetensors":
            of_experts += _count(path, elements)
    config = _config(folder)
    experts = _number(config, EXPERTS) if of_experts else 0  # without this key, all experts are active
    hashes = {str(path.relative_to(folder)): _sha256(path) for path in files}
    return Weights(
        files=len(files),
        bytes=sum(path.stat().st_size for path in files),
        elements=dict(elements),
        packed_bits=_packed_bits(config),
        expert_elements=of_experts,
        experts=experts,
        experts_used=min(_number(config, USED), experts),
    ), hashes


def _count(path: Path, elements: Counter) -> int:
    """Add a file's values by type; return the number in experts."""
    of_experts = 0
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                part = file.get_slice(name)
                count = math.prod(part.get_shape())
                elements[part.get_dtype()] += count
                of_experts += count if re.search(r"\.experts?\.", name) else 0
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path.name} is not a complete safetensors file ({error}); copy it again") from None
    return of_experts


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a pipeline of several models has no configuration of its own
    return {**found, **found.get("text_config", {})} if isinstance(found, dict) else {}


def _number(config: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((config[name] for name in names if isinstance(config.get(name), int) and config[name] > 0), 0)


def _packed_bits(config: dict[str, Any]) -> int | None:
    told = config.get("quantization_config")
    if not isinstance(told, dict):
        return None
    by_flag = 4 if told.get("load_in_4bit") else 8 if told.get("load_in_8bit") else None
    bits = told.get("bits", told.get("w_bit", by_flag))
    return bits if isinstance(bits, int) and 1 <= bits <= 8 else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
