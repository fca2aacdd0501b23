"""Weights in fewer bits: what can be asked for, what checkpoints bring with them, and which package each needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from energylab.errors import ModelError


@dataclass(frozen=True)
class Quantisation:
    """One way to store weights in fewer bits.

    Attributes
    ----------
    package : str
        Python package that does it.
    install : str
        What to give to ``pip install``.
    weight_bytes : float
        Bytes of one weight, scales included.
    capability : (int, int) or None
        Least compute capability of a GPU; None where any will do.
    """

    package: str
    install: str
    weight_bytes: float
    capability: tuple[int, int] | None = None


#: What the parameter ``quantisation`` may say: weights quantised while they are loaded.
ON_LOADING = {
    "int8": Quantisation("torchao", "energylab[quantisation]", 1.0),
    "fp8": Quantisation("torchao", "energylab[quantisation]", 1.0, (8, 9)),
    "bitsandbytes-8bit": Quantisation("bitsandbytes", "energylab[quantisation]", 1.0, (7, 5)),
    "bitsandbytes-4bit": Quantisation("bitsandbytes", "energylab[quantisation]", 0.56, (7, 5)),
}

#: What a checkpoint may bring (``quantization_config.quant_method``); used as it is, never asked for.
IN_CHECKPOINT = {
    "gptq": Quantisation("gptqmodel", "gptqmodel", 0.56, (7, 0)),
    "awq": Quantisation("gptqmodel", "gptqmodel", 0.56, (7, 5)),
    "bitsandbytes": Quantisation("bitsandbytes", "energylab[quantisation]", 1.0, (7, 5)),
    "compressed-tensors": Quantisation("compressed_tensors", "compressed-tensors", 1.0),
    "torchao": Quantisation("torchao", "energylab[quantisation]", 1.0),
    "fp8": Quantisation("kernels", "kernels", 1.0, (8, 9)),
    "mxfp4": Quantisation("kernels", "kernels", 0.56, (7, 5)),
}


def checkpoint_method(config: Any) -> str | None:
    """Return how the weights of a checkpoint are quantised, None for plain weights."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    method = stored.get("quant_method") if isinstance(stored, dict) else stored.quant_method
    return str(getattr(method, "value", method))


def loading_options(name: str | None) -> dict[str, Any]:
    """Return what ``from_pretrained`` needs to quantise while loading.

    Parameters
    ----------
    name : str or None
        A key of `ON_LOADING`; None for plain weights.

    Returns
    -------
    dict
        ``{"quantization_config": …}``, or nothing.

    Raises
    ------
    ModelError
        If the name is not known.
    """
    if name is None:
        return {}
    if name not in ON_LOADING:
        raise ModelError(f"quantisation={name!r} is not known; allowed: {', '.join(ON_LOADING)}")
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if name.startswith("bitsandbytes"):
        return {"quantization_config": BitsAndBytesConfig(**{f"load_in_{name.removeprefix('bitsandbytes-')}": True})}
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kind = Int8WeightOnlyConfig() if name == "int8" else Float8WeightOnlyConfig()
    return {"quantization_config": TorchAoConfig(kind)}


def stored_bytes(tensor: Any) -> int:
    """Return the bytes a weight really takes: a quantised one is a wrapper around its codes and scales."""
    if hasattr(tensor, "__tensor_flatten__"):
        inner, _ = tensor.__tensor_flatten__()
        return sum(stored_bytes(getattr(tensor, name)) for name in inner)
    return tensor.numel() * tensor.element_size()
