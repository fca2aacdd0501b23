"""Capabilities of a machine; options it cannot provide are refused before anything is loaded."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.record import DeviceFacts

Capability = tuple[int, int]  # compute capability of a GPU: (9, 0)
EXTRA = "'energylab[quantisation]'"


class Needs(NamedTuple):
    """Requirements of one option."""

    package: str | None = None  # Python package
    install: str = ""  # argument of ``pip install``
    capability: Capability | None = None  # lowest compute capability of a GPU; None: any
    cpu: bool = True  # whether a CPU can do it
    weight_bytes: float = 0.0  # bytes of one weight, scales included


#: Values of the parameter ``quantisation``: weights quantised while they are loaded.
ON_LOADING = {
    "int8": Needs("torchao", EXTRA, weight_bytes=1.0),
    "fp8": Needs("torchao", EXTRA, (8, 9), weight_bytes=1.0),
    "bitsandbytes-8bit": Needs("bitsandbytes", EXTRA, (7, 5), weight_bytes=1.0),
    "bitsandbytes-4bit": Needs("bitsandbytes", EXTRA, (7, 5), weight_bytes=0.56),
}

#: Quantisation of checkpoints (``quantization_config.quant_method``): used as stored, not a parameter.
IN_CHECKPOINT = {
    "gptq": Needs("gptqmodel", "gptqmodel", (7, 0), weight_bytes=0.56),
    "awq": Needs("gptqmodel", "gptqmodel", (7, 5), weight_bytes=0.56),
    "bitsandbytes": Needs("bitsandbytes", EXTRA, (7, 5), weight_bytes=1.0),
    "compressed-tensors": Needs("compressed_tensors", "compressed-tensors", weight_bytes=1.0),
    "torchao": Needs("torchao", EXTRA, weight_bytes=1.0),
    "fp8": Needs("kernels", "kernels", (8, 9), weight_bytes=1.0),
    "mxfp4": Needs("kernels", "kernels", (7, 5), weight_bytes=0.56),
}

ATTENTIONS = {
    "eager": Needs(),
    "sdpa": Needs(),
    "flex_attention": Needs(capability=(7, 5), cpu=False),
    "flash_attention_2": Needs("flash_attn", "flash-attn", (8, 0), cpu=False),
    "flash_attention_3": Needs("flash_attn_interface", "flash-attn-interface", (9, 0), cpu=False),
}

DTYPES = {"float32": Needs(), "float16": Needs(), "bfloat16": Needs(capability=(8, 0))}

#: Bytes of one weight, by dtype or quantisation.
WEIGHT_BYTES = {
    "float32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    **{name: needs.weight_bytes for name, needs in {**IN_CHECKPOINT, **ON_LOADING}.items()},
}


@dataclass(frozen=True)
class Machine:
    """Facts about a machine that decide whether a model can be loaded."""

    device: str  # ``cpu`` or ``cuda:N``: the first device the model goes to
    memory_bytes: tuple[int, ...]  # free memory of every visible device in order, 0: not used; the host's for a CPU
    capability: Capability | None  # lowest compute capability among the GPUs used; None on a CPU
    packages: frozenset[str]  # installed packages among those that options need
    compiler: bool  # whether ``torch.compile`` finds the compiler it needs

    @property
    def first(self) -> int:
        return int(self.device.partition(":")[2] or 0)

    def devices(self, gpus: int) -> list[str]:
        if self.capability is None:
            return [self.device]
        return [f"cuda:{self.first + position}" for position in range(gpus)]

    @classmethod
    def described(cls, device: str, facts: Sequence[DeviceFacts]) -> Machine:
        """Use facts of the driver, since CUDA would create a context and end the idle state of the boards."""
        if not device.startswith("cuda"):
            return cls.detect(device)
        stated = [str(one.settings.get("compute_capability") or "0.0").split(".") for one in facts]
        unused = (0,) * int(device.partition(":")[2] or 0)
        memory = tuple(one.memory_bytes or 0 for one in facts)
        return cls(device, unused + memory, min((int(a), int(b)) for a, b in stated), _packages(), _found("triton"))

    @classmethod
    def detect(cls, device: str, gpus: int = 1) -> Machine:
        """Inspect this machine and its `gpus` devices from `device` on; this creates a CUDA context on each."""
        import psutil
        import torch

        if not device.startswith("cuda"):
            compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
            return cls(device, (psutil.virtual_memory().available,), None, _packages(), compiler)
        count, first = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
        if first >= count:
            raise ModelError(f"device {device!r}: torch finds {count} GPU(s), numbered from 0; choose one, or 'cpu'")
        used = range(first, min(first + gpus, count))
        memory = tuple(torch.cuda.mem_get_info(index)[0] if index in used else 0 for index in range(count))
        capability = min(torch.cuda.get_device_capability(index) for index in used)
        return cls(device, memory, capability, _packages(), _found("triton"))


def refuse_options(machine: Machine, request: Parameters) -> None:
    """Refuse every option this machine cannot provide; the error names each, and what to choose instead."""
    problems = _gpu_problems(machine, request.gpus)
    for name, known in {"attention": ATTENTIONS, "quantisation": ON_LOADING, "dtype": DTYPES}.items():
        if getattr(request, name) is not None:
            problems += problems_of(machine, known, getattr(request, name), f"{name}=")
    if request.compile and not machine.compiler:
        needed = "a C++ compiler (install g++)" if machine.capability is None else "triton (pip install triton)"
        problems.append(f"compile=True needs {needed}; or set compile=False")
    raise_all(problems)


def problems_of(machine: Machine, known: dict[str, Needs], name: str, what: str) -> list[str]:
    if name not in known:
        return [f"{what}{name!r} is not known; allowed: {', '.join(known)}"]
    needs, problems = known[name], []
    if needs.package is not None and needs.package not in machine.packages:
        problems.append(f"{what}{name!r} needs the package {needs.package!r}: pip install {needs.install}")
    least, here = needs.capability, machine.capability
    if least is not None and (not needs.cpu if here is None else here < least):
        here_is = "the device is a CPU" if here is None else f"this GPU has {_dotted(here)}"
        problems.append(f"{what}{name!r} needs a GPU of compute capability {_dotted(least)} or higher; {here_is}")
    return problems


def refuse_size(machine: Machine, name: str, parameters: int, weight: str, gpus: int) -> None:
    """Refuse a model whose weights alone do not fit the devices; `weight` is a dtype or a quantisation."""
    needed = parameters * WEIGHT_BYTES[weight]
    used = machine.memory_bytes[machine.first : machine.first + gpus] if machine.capability else machine.memory_bytes
    if 0 in used or needed <= sum(used):  # 0: a board that shares the host's memory may not report its size
        return
    where = "the host's free memory" if machine.capability is None else f"the free memory of {gpus} GPU(s)"
    more = "a GPU" if machine.capability is None else f"gpus={-(-needed // min(used)):.0f} or more"
    raise ModelError(
        f"model {name!r} has {parameters / 1e9:.2f} B parameters: {needed / 1e9:.1f} GB of weights in {weight}, more "
        f"than {where}, {sum(used) / 1e9:.1f} GB; use {more}, a smaller dtype, or a quantisation "
        f"({', '.join(ON_LOADING)})"
    )


def raise_all(problems: list[str]) -> None:
    if problems:
        raise ModelError("this machine does not support the options:\n" + "\n".join(f"- {text}" for text in problems))


def _gpu_problems(machine: Machine, gpus: int) -> list[str]:
    if machine.capability is None:
        return [f"gpus={gpus} needs GPUs, but device is {machine.device!r}; set gpus=1"] if gpus > 1 else []
    available = len(machine.memory_bytes) - machine.first
    return [f"gpus={gpus}: {available} device(s) from {machine.device!r} on; lower gpus"] if gpus > available else []


def _found(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _packages() -> frozenset[str]:
    needs = (*ON_LOADING.values(), *IN_CHECKPOINT.values(), *ATTENTIONS.values())
    return frozenset(one.package for one in needs if one.package and _found(one.package))


def _dotted(capability: Capability) -> str:
    return ".".join(map(str, capability))


# ---- quantised weights


def checkpoint_method(config: Any) -> str | None:
    """Return how the weights of a checkpoint are quantised, None for plain weights."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    method = stored.get("quant_method") if isinstance(stored, dict) else stored.quant_method
    return str(getattr(method, "value", method))


def loading_options(name: str | None) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that quantise while loading; empty for plain weights."""
    if name is None:
        return {}
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if name.startswith("bitsandbytes"):
        return {"quantization_config": BitsAndBytesConfig(**{f"load_in_{name.removeprefix('bitsandbytes-')}": True})}
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kind = Int8WeightOnlyConfig() if name == "int8" else Float8WeightOnlyConfig()
    return {"quantization_config": TorchAoConfig(kind)}


def stored_bytes(tensor: Any) -> int:
    """Return the bytes of a stored weight; a quantised weight consists of codes and scales."""
    if hasattr(tensor, "__tensor_flatten__"):
        inner, _ = tensor.__tensor_flatten__()
        return sum(stored_bytes(getattr(tensor, name)) for name in inner)
    return tensor.numel() * tensor.element_size()
