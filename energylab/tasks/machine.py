"""What a machine can do, and the refusal, by name and before anything is loaded, of what it cannot."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from energylab.errors import ModelError
from energylab.record import DeviceFacts
from energylab.tasks.quantisation import IN_CHECKPOINT, ON_LOADING, Quantisation

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
    """What matters of a machine for loading a model. Tests make up their own.

    Attributes
    ----------
    device : str
        ``cpu`` or ``cuda:N``: the first device the model goes to.
    memory_bytes : tuple of int
        Free memory of every device the process can see, in order, 0 for those not used; the host's for a CPU.
    capability : (int, int) or None
        Least compute capability among the GPUs used; None on a CPU.
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

    def devices(self, gpus: int) -> list[str]:
        """Return the devices a model on `gpus` of them uses, in torch's words."""
        if self.capability is None:
            return [self.device]
        return [f"cuda:{self.first + position}" for position in range(gpus)]

    @classmethod
    def described(cls, device: str, facts: Sequence[DeviceFacts]) -> Machine:
        """Take the word of the driver for the devices, without touching them.

        CUDA itself would create a context on a board when asked, and there would be no idle board left to observe.

        Parameters
        ----------
        device : str
            The first device in torch's words.
        facts : sequence of DeviceFacts
            The devices the model is to be spread over, from that one on.
        """
        if not device.startswith("cuda"):
            return cls.detect(device)
        first = int(device.partition(":")[2] or 0)
        stated = [str(one.settings.get("compute_capability") or "0.0").split(".") for one in facts]
        capability = min((int(major), int(minor)) for major, minor in stated)
        memory = (0,) * first + tuple(one.memory_bytes or 0 for one in facts)
        return cls(device, memory, capability, _packages(), importlib.util.find_spec("triton") is not None)

    @classmethod
    def detect(cls, device: str, gpus: int = 1) -> Machine:
        """Look at this machine, and on it at `gpus` devices from `device` on: to ask a board starts a context there.

        Raises
        ------
        ModelError
            If `device` is a GPU and there is none.
        """
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
        What a weight is stored as: a dtype or a quantisation.
    gpus : int
        Devices the model is to be spread over.

    Raises
    ------
    ModelError
        If it does not fit; says how much it needs, how much there is, and how many such devices would do.
    """
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
