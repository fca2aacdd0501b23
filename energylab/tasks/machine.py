"""What a machine can do, and the refusal, by name and before anything is loaded, of what it cannot."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass

from energylab.errors import ModelError

#: Bytes of one weight.
WEIGHT_BYTES = {
    "float32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "int8": 1.0,
    "fp8": 1.0,
    "bitsandbytes-8bit": 1.0,
    "bitsandbytes-4bit": 0.55,  # 4 bits and one scale for every 64 weights
}

#: Package each quantisation needs, and the least compute capability of a GPU (None: also runs on a CPU).
QUANTISATIONS = {
    "int8": ("torchao", None),
    "fp8": ("torchao", (8, 9)),
    "bitsandbytes-8bit": ("bitsandbytes", (7, 5)),
    "bitsandbytes-4bit": ("bitsandbytes", (7, 5)),
}

#: Package each attention implementation needs, and the least compute capability of a GPU.
ATTENTIONS = {
    "eager": (None, None),
    "sdpa": (None, None),
    "flex_attention": (None, (7, 5)),
    "flash_attention_2": ("flash_attn", (8, 0)),
    "flash_attention_3": ("flash_attn_interface", (9, 0)),
}


@dataclass(frozen=True)
class Machine:
    """What matters of a machine for loading a model. Tests make up their own.

    Attributes
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``: the first device the model goes to.
    memory_bytes : tuple of int
        Free memory of every device the process can see, in order; the host's for a CPU.
    capability : (int, int) or None
        Least compute capability among the GPUs; None on a CPU.
    packages : frozenset of str
        Importable packages among those that options need.
    compiler : bool
        Whether ``torch.compile`` finds the compiler it needs.
    """

    device: str
    memory_bytes: tuple[int, ...]
    capability: tuple[int, int] | None
    packages: frozenset[str]
    compiler: bool

    @property
    def first(self) -> int:
        """Index of the first device used."""
        return int(self.device.partition(":")[2] or 0)

    @classmethod
    def detect(cls, device: str) -> Machine:
        """Look at this machine.

        Raises
        ------
        ModelError
            If `device` is a GPU and there is none.
        """
        import psutil
        import torch

        wanted = {package for package, _ in (*QUANTISATIONS.values(), *ATTENTIONS.values()) if package}
        packages = frozenset(name for name in wanted if importlib.util.find_spec(name))
        if not device.startswith("cuda"):
            memory = (psutil.virtual_memory().available,)
            return cls(device, memory, None, packages, any(map(shutil.which, ("c++", "g++", "clang++"))))
        count = torch.cuda.device_count()
        if count == 0:
            raise ModelError(f"device {device!r}: this machine has no usable GPU; choose device='cpu' or 'auto'")
        memory = tuple(torch.cuda.mem_get_info(index)[0] for index in range(count))
        capability = min(torch.cuda.get_device_capability(index) for index in range(count))
        return cls(device, memory, capability, packages, importlib.util.find_spec("triton") is not None)


def refuse_options(
    machine: Machine, dtype: str, quantisation: str | None, attention: str | None, compiled: bool, gpus: int
) -> None:
    """Refuse by name every option this machine cannot provide.

    Parameters
    ----------
    machine : Machine
        The machine.
    dtype : str
        Precision of the weights.
    quantisation, attention : str or None
        As in `Parameters`.
    compiled : bool
        Whether the model is to be compiled.
    gpus : int
        Devices the model is to be spread over.

    Raises
    ------
    ModelError
        Names every option that cannot be met, and what to choose instead.
    """
    problems = [
        *_refuse_devices(machine, gpus),
        *_refuse_choice(machine, "quantisation", quantisation, QUANTISATIONS),
        *_refuse_choice(machine, "attention", attention, ATTENTIONS),
    ]
    if dtype == "bfloat16" and machine.capability is not None and machine.capability < (8, 0):
        problems.append(f"dtype='bfloat16' needs compute capability 8.0, this GPU has {_dotted(machine.capability)}")
    if compiled and not machine.compiler:
        needed = "a C++ compiler (install g++)" if machine.capability is None else "triton"
        problems.append(f"compile=True needs {needed}; or set compile=False")
    if problems:
        raise ModelError("this machine cannot do what was asked:\n" + "\n".join(f"- {text}" for text in problems))


def refuse_size(machine: Machine, name: str, parameters: int, weight: str, gpus: int) -> None:
    """Refuse a model whose weights alone do not fit the devices.

    Parameters
    ----------
    machine : Machine
        The machine.
    name : str
        The model, for the message.
    parameters : int
        Number of its parameters.
    weight : str
        What one weight is stored as: a dtype or a quantisation.
    gpus : int
        Devices the model is to be spread over.

    Raises
    ------
    ModelError
        If it does not fit; says how much it needs, how much there is, and how many such devices would do.
    """
    needed = parameters * WEIGHT_BYTES[weight]
    used = machine.memory_bytes[machine.first : machine.first + gpus]
    if needed <= sum(used):
        return
    enough = -(-needed // max(used))
    what = "the host's free memory" if machine.capability is None else f"the free memory of {gpus} device(s)"
    raise ModelError(
        f"model {name!r} has {parameters / 1e9:.1f} B parameters: {needed / 1e9:.0f} GB of weights in {weight}, more "
        f"than {what}, {sum(used) / 1e9:.0f} GB; use gpus={enough:.0f} or more of this kind, a narrower dtype, or a "
        f"quantisation ({', '.join(QUANTISATIONS)})"
    )


def _refuse_devices(machine: Machine, gpus: int) -> list[str]:
    if machine.capability is None:
        return [f"gpus={gpus} needs GPUs, device is {machine.device!r}"] if gpus > 1 else []
    available = len(machine.memory_bytes) - machine.first
    return [f"gpus={gpus}: only {available} device(s) from {machine.device!r} on"] if gpus > available else []


def _refuse_choice(machine: Machine, option: str, value: str | None, table: dict) -> list[str]:
    if value is None:
        return []
    if value not in table:
        return [f"{option}={value!r} is not known; allowed: {', '.join(table)}"]
    package, capability = table[value]
    problems = []
    if package is not None and package not in machine.packages:
        problems.append(f"{option}={value!r} needs the package {package!r}: pip install {package}")
    if capability is not None and (machine.capability is None or machine.capability < capability):
        here = "a CPU" if machine.capability is None else f"compute capability {_dotted(machine.capability)}"
        problems.append(f"{option}={value!r} needs a GPU of compute capability {_dotted(capability)}, this is {here}")
    return problems


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
