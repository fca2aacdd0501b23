"""What a machine can do, and the refusal, by name and before anything is loaded, of what it cannot."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from energylab.errors import ModelError
from energylab.record import DeviceFacts


@dataclass(frozen=True)
class Quantisation:
    """One way to store weights in fewer bits."""

    package: str  # Python package that does it
    install: str  # what to give to ``pip install``
    weight_bytes: float  # bytes of one weight, scales included
    capability: tuple[int, int] | None = None  # least compute capability of a GPU; None where any will do


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

#: Bytes of one weight, by what it is stored as.
WEIGHT_BYTES = {
    "float32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    **{name: way.weight_bytes for name, way in {**IN_CHECKPOINT, **ON_LOADING}.items()},
}

#: Package each attention implementation needs, and the least compute capability of a GPU (None: also on a CPU).
ATTENTIONS = {
    "eager": (None, None),
    "sdpa": (None, None),
    "flex_attention": (None, (7, 5)),
    "flash_attention_2": ("flash_attn", (8, 0)),
    "flash_attention_3": ("flash_attn_interface", (9, 0)),
}


@dataclass(frozen=True)
class Machine:
    """What matters of a machine for loading a model. Tests make up their own."""

    device: str  # ``cpu`` or ``cuda:N``: the first device the model goes to
    memory_bytes: tuple[int, ...]  # free memory of every visible device in order, 0: not used; the host's for a CPU
    capability: tuple[int, int] | None  # least compute capability among the GPUs used; None on a CPU
    packages: frozenset[str]  # importable ones among those that options need
    compiler: bool  # whether ``torch.compile`` finds the compiler it needs

    @property
    def first(self) -> int:
        """Index of the first device used."""
        return int(self.device.partition(":")[2] or 0)

    def devices(self, gpus: int) -> list[str]:
        """Return the devices a model on `gpus` of them uses, in torch's words."""
        if self.capability is None:
            return [self.device]
        return [f"cuda:{self.first + position}" for position in range(gpus)]

    @classmethod
    def described(cls, device: str, facts: Sequence[DeviceFacts]) -> Machine:
        """Take the driver's word for the devices: CUDA would create a context, and no board would be idle any more."""
        if not device.startswith("cuda"):
            return cls.detect(device)
        first = int(device.partition(":")[2] or 0)
        stated = [str(one.settings.get("compute_capability") or "0.0").split(".") for one in facts]
        capability = min((int(major), int(minor)) for major, minor in stated)
        memory = (0,) * first + tuple(one.memory_bytes or 0 for one in facts)
        return cls(device, memory, capability, _packages(), importlib.util.find_spec("triton") is not None)

    @classmethod
    def detect(cls, device: str, gpus: int = 1) -> Machine:
        """Look at this machine, and on it at `gpus` devices from `device` on: to ask a board starts a context there."""
        import psutil
        import torch

        packages = _packages()
        if not device.startswith("cuda"):
            memory = (psutil.virtual_memory().available,)
            return cls(device, memory, None, packages, any(map(shutil.which, ("c++", "g++", "clang++"))))
        count = torch.cuda.device_count()
        if count == 0:
            raise ModelError(f"device {device!r}: this machine has no usable GPU; choose device='cpu' or 'auto'")
        first = int(device.partition(":")[2] or 0)
        used = range(first, min(first + gpus, count))
        if not used:
            raise ModelError(f"device {device!r}: torch sees {count} GPU(s), numbered from 0; choose one of them")
        memory = tuple(torch.cuda.mem_get_info(index)[0] if index in used else 0 for index in range(count))
        capability = min(torch.cuda.get_device_capability(index) for index in used)
        return cls(device, memory, capability, packages, importlib.util.find_spec("triton") is not None)


def refuse_options(
    machine: Machine, dtype: str, quantisation: str | None, attention: str | None, compiled: bool, gpus: int
) -> None:
    """Refuse by name every option this machine cannot provide, and say what to choose instead."""
    problems = _refuse_devices(machine, gpus) + _refuse_attention(machine, attention)
    if quantisation is not None:
        problems += refuse_quantisation(machine, quantisation, ON_LOADING, "quantisation=")
    if dtype == "bfloat16" and machine.capability is not None and machine.capability < (8, 0):
        problems.append(f"dtype='bfloat16' needs compute capability 8.0, this GPU has {_dotted(machine.capability)}")
    if compiled and not machine.compiler:
        needed = "a C++ compiler (install g++)" if machine.capability is None else "triton (pip install triton)"
        problems.append(f"compile=True needs {needed}; or set compile=False")
    raise_all(problems)


def refuse_quantisation(machine: Machine, name: str, known: dict[str, Quantisation], what: str) -> list[str]:
    """Return why this machine cannot use one way of quantisation; nothing if it can."""
    if name not in known:
        return [f"{what}{name!r} is not known; allowed: {', '.join(known)}"]
    way = known[name]
    problems = []
    if way.package not in machine.packages:
        problems.append(f"{what}{name!r} needs the package {way.package!r}: pip install '{way.install}'")
    if way.capability is not None and machine.capability is not None and machine.capability < way.capability:
        here = _dotted(machine.capability)
        problems.append(f"{what}{name!r} needs compute capability {_dotted(way.capability)}, this GPU has {here}")
    return problems


def refuse_size(machine: Machine, name: str, parameters: int, weight: str, gpus: int) -> None:
    """Refuse a model whose weights alone do not fit the devices; `weight` is a dtype or a quantisation."""
    needed = parameters * WEIGHT_BYTES[weight]
    used = machine.memory_bytes[machine.first : machine.first + gpus] if machine.capability else machine.memory_bytes
    if 0 in used or needed <= sum(used):  # a board that shares the host's memory may not tell how much it has
        return
    where = "the host's free memory" if machine.capability is None else f"the free memory of {gpus} GPU(s)"
    more = "a GPU" if machine.capability is None else f"gpus={-(-needed // min(used)):.0f} or more of this kind"
    raise ModelError(
        f"model {name!r} has {parameters / 1e9:.2f} B parameters: {needed / 1e9:.1f} GB of weights in {weight}, more "
        f"than {where}, {sum(used) / 1e9:.1f} GB; use {more}, a narrower dtype, or a quantisation "
        f"({', '.join(ON_LOADING)})"
    )


def raise_all(problems: list[str]) -> None:
    """Raise one error that names every problem; do nothing when there is none."""
    if problems:
        raise ModelError("this machine cannot do what was asked:\n" + "\n".join(f"- {text}" for text in problems))


def _packages() -> frozenset[str]:
    needed = {way.package for way in (*ON_LOADING.values(), *IN_CHECKPOINT.values())}
    needed |= {package for package, _ in ATTENTIONS.values() if package}
    return frozenset(name for name in needed if importlib.util.find_spec(name))


def _refuse_devices(machine: Machine, gpus: int) -> list[str]:
    if machine.capability is None:
        return [f"gpus={gpus} needs GPUs, device is {machine.device!r}"] if gpus > 1 else []
    available = len(machine.memory_bytes) - machine.first
    return [f"gpus={gpus}: only {available} device(s) from {machine.device!r} on"] if gpus > available else []


def _refuse_attention(machine: Machine, value: str | None) -> list[str]:
    if value is None:
        return []
    if value not in ATTENTIONS:
        return [f"attention={value!r} is not known; allowed: {', '.join(ATTENTIONS)}"]
    package, capability = ATTENTIONS[value]
    problems = []
    if package is not None and package not in machine.packages:
        problems.append(f"attention={value!r} needs the package {package!r}: pip install {package.replace('_', '-')}")
    if capability is not None and (machine.capability is None or machine.capability < capability):
        here = "a CPU" if machine.capability is None else f"one of {_dotted(machine.capability)}"
        problems.append(f"attention={value!r} needs a GPU of compute capability {_dotted(capability)}, this is {here}")
    return problems


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def checkpoint_method(config: Any) -> str | None:
    """Return how the weights of a checkpoint are quantised, None for plain weights."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    method = stored.get("quant_method") if isinstance(stored, dict) else stored.quant_method
    return str(getattr(method, "value", method))


def loading_options(name: str | None) -> dict[str, Any]:
    """Return what ``from_pretrained`` needs to quantise while loading; nothing for plain weights."""
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
