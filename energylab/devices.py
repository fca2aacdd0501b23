"""Facts about the devices of a session and their machine; probed when needed, never at import.

Devices are resolved by the driver's library (NVML), not CUDA, so that no context is created on a board and the idle
level "no context" can still be measured afterwards.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from energylab.errors import DeviceLostError, MeterError, MeterPermissionError, ParameterError, unknown_name
from energylab.meters.nvml_library import MIG_REFUSED, Nvml, in_host_namespace
from energylab.meters.processor_load import server_of, usable_cores
from energylab.parameters import Parameters
from energylab.record import DeviceFacts, HostFacts

if TYPE_CHECKING:
    from energylab.serving.processes import ServerProcesses

#: Packages whose version can influence energies, queries or scores.
PACKAGES = (
    "energylab", "torch", "transformers", "diffusers", "accelerate", "tokenizers", "datasets", "timm", "bitsandbytes",
    "flash-attn", "triton", "numpy", "scikit-learn", "pillow", "nvidia-ml-py", "nvidia-cuda-runtime",
    "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "codecarbon", "zeus", "papermill",
)  # fmt: skip

#: Files, variables and words in a control group's name that container engines leave.
CONTAINER_FILES = (".dockerenv", "run/.containerenv", ".singularity.d")
CONTAINER_VARIABLES = ("container", "KUBERNETES_SERVICE_HOST", "APPTAINER_NAME", "SINGULARITY_NAME")
CONTAINER_WORDS = ("docker", "kubepods", "containerd", "lxc", "libpod")


@dataclass(frozen=True)
class Board:
    """An NVIDIA board as the driver lists it."""

    index: int  # its number for NVML and nvidia-smi: PCI order
    uuid: str  # GPU-…, the same in every process and after every reboot
    name: str  # product name


def list_boards(nvml: Nvml) -> tuple[Board, ...]:
    """List the boards that this process may use; `nvml` must be started."""
    boards = []
    for index in range(nvml.call("nvmlDeviceGetCount")):
        try:
            handle = nvml.call("nvmlDeviceGetHandleByIndex", index)
        except (MeterPermissionError, DeviceLostError):
            continue  # hidden by a scheduler's control group, or lost: CUDA does not show it either
        boards.append(Board(index, nvml.text("nvmlDeviceGetUUID", handle), nvml.text("nvmlDeviceGetName", handle)))
    return tuple(boards)


def visible_boards(boards: Sequence[Board], environ: Mapping[str, str]) -> tuple[Board, ...]:
    """Apply ``CUDA_VISIBLE_DEVICES`` to all boards; return those that CUDA shows, in torch's order.

    Accepts indices, UUIDs and unique prefixes of UUIDs (NVIDIA, *CUDA Programming Guide*). Refuses a board named twice,
    a MIG slice, and indices among boards of different kinds, which CUDA, unlike NVML, numbers by speed.
    """
    value = environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(len(boards)))))
    entries = [part.strip() for part in value.split(",")]
    ends = [at for at, entry in enumerate(entries) if entry in ("", "-1", "NoDevFiles", "void", "none")]
    entries = entries[: min(ends, default=None)]  # CUDA shows nothing from the first such entry on
    by_index = any(not entry.startswith("GPU-") for entry in entries)
    if by_index and len({board.name for board in boards}) > 1 and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise ParameterError(
            "boards of different kinds are installed, and CUDA numbers them by speed while the meter numbers "
            "them by slot: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name boards by UUID in CUDA_VISIBLE_DEVICES "
            f"({', '.join(f'{board.uuid} = {board.name}' for board in boards)})"
        )
    chosen = tuple(_board(entry, boards) for entry in entries)
    if len(set(chosen)) != len(chosen):
        raise ParameterError(f"CUDA_VISIBLE_DEVICES={value!r} names a board twice, so CUDA shows none; name it once")
    return chosen


def _board(entry: str, boards: Sequence[Board]) -> Board:
    if entry.startswith("MIG-"):
        raise ParameterError(f"CUDA_VISIBLE_DEVICES names {entry!r}: {MIG_REFUSED}")
    if entry.isdecimal() and int(entry) < len(boards):
        return boards[int(entry)]
    matches = [board for board in boards if entry.startswith("GPU-") and board.uuid.lower().startswith(entry.lower())]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(f"{position} = {board.uuid}" for position, board in enumerate(boards)) or "none"
    what = "several boards" if matches else "no board of this machine"
    raise ParameterError(f"CUDA_VISIBLE_DEVICES entry {entry!r} names {what}; boards here: {known}")


def resolve_devices(
    device: str = "auto",
    gpus: int = 1,
    *,
    environ: Mapping[str, str] | None = None,
    nvml: Any = None,
    cuda_count: Callable[[], int] | None = None,
) -> tuple[DeviceFacts, ...]:
    """Return the devices of a session for the parameters ``device`` and ``gpus``, in torch's order.

    `auto` is a GPU that torch can use, else the CPU. `environ`, `nvml` and `cuda_count` replace those of this machine.
    """
    kind, index = _wanted(device)
    environ = os.environ if environ is None else environ
    count = 0 if kind == "cpu" else (cuda_count or _torch_cuda_count)()
    if kind != "cpu" and (reason := _no_cuda(count)):
        if kind == "cuda":
            raise ParameterError(f"device={device!r}, but {reason}, or use device=cpu")
        if unused := "torch's GPU" if count else _unused_boards(environ, nvml):
            warnings.warn(f"the session runs on the CPU, not on {unused}: {reason}, or set device=cpu", stacklevel=2)
        kind = "cpu"
    if kind == "cpu":
        return _cpu_only(gpus)
    chosen = range(gpus) if index is None else range(index, index + gpus)
    if chosen.stop > count:
        raise ParameterError(
            f"device={device!r} with gpus={gpus} needs {chosen.stop} visible CUDA devices, but torch finds "
            f"{count}; lower gpus, or add boards to CUDA_VISIBLE_DEVICES"
        )
    with Nvml(nvml).started() as library:
        visible = visible_boards(list_boards(library), environ)
        if chosen.stop > len(visible):
            raise ParameterError(
                f"torch counts more CUDA devices than the driver shows ({len(visible)}); see "
                "`nvidia-smi -L`, and name boards by UUID in CUDA_VISIBLE_DEVICES"
            )
        return tuple(board_facts(library, visible[at], at) for at in chosen)


def devices_of(parameters: Parameters) -> tuple[DeviceFacts, ...]:
    """Return the devices of a session: those of its parameters, or those of its server."""
    server = server_of(parameters)
    if server is None:
        return resolve_devices(parameters.device, parameters.gpus)
    return server_devices(server, parameters.device, parameters.gpus)


def server_devices(
    processes: ServerProcesses, device: str = "auto", gpus: int = 1, *, nvml: Any = None
) -> tuple[DeviceFacts, ...]:
    """Return the devices of a server.

    `device` is ``auto`` (the boards on which the server has a context, else the processor), ``cpu``, or ``cuda:N``
    (`gpus` boards from number N of ``nvidia-smi``, needed if the driver does not list the processes of a board).
    """
    kind, first = _wanted(device)
    library = Nvml(nvml)
    if kind == "cpu":
        return _cpu_only(gpus)
    try:
        library.start()
    except MeterError:
        if kind == "cuda":
            raise
        return _cpu_only(gpus)  # without an NVIDIA driver the server uses the processor
    try:
        boards = list_boards(library)
        used = _boards_of(library, boards, processes) if first is None else boards[first : first + gpus]
        if not used and kind != "cuda":
            return _cpu_only(gpus)
        if len(used) != gpus:
            names = ", ".join(f"{board.index} = {board.uuid}" for board in used) or "none"
            raise ParameterError(
                f"gpus={gpus}, but the server uses {len(used)} board(s) ({names}): set the same number"
            )
        return tuple(board_facts(library, board, board.index) for board in used)
    finally:
        library.stop()


def _boards_of(library: Nvml, boards: Sequence[Board], processes: ServerProcesses) -> list[Board]:
    """Return the boards on which a server has a context."""
    own = processes.tree()
    handles = {board: library.call("nvmlDeviceGetHandleByIndex", board.index) for board in boards}  # MIG ones, too
    users = {board: library.users(handle) or set() for board, handle in handles.items()}
    used = [board for board, pids in users.items() if pids & own]
    if not used and any(users.values()) and not in_host_namespace():
        raise ParameterError(
            "the driver lists process ids of the host, unknown in this container, so the server's boards cannot be "
            "found; set device=cuda:N (as nvidia-smi numbers boards) and gpus, or device=cpu"
        )
    return used


def all_devices() -> tuple[DeviceFacts, ...]:
    """Return every visible board that torch can use, or the processor if there is none."""
    return resolve_devices("auto", max(_torch_cuda_count(), 1))


def torch_name(device: DeviceFacts) -> str:
    """Return torch's name of a device: ``cpu`` or ``cuda:0``."""
    return f"cuda:{device.index}" if device.type == "cuda" else "cpu"


def check_torch_agrees(devices: Sequence[DeviceFacts]) -> None:
    """Check by UUID, once the model is loaded, that torch uses the boards that are measured."""
    import torch

    for device in (device for device in devices if device.type == "cuda" and device.uuid):
        seen = getattr(torch.cuda.get_device_properties(device.index), "uuid", None)
        if seen is not None and str(seen).lower() != device.uuid.lower().removeprefix("gpu-"):
            raise MeterError(
                f"torch's {torch_name(device)} is board GPU-{seen}, but the meter measures {device.uuid}; "
                "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the board by UUID in CUDA_VISIBLE_DEVICES"
            )


def _wanted(device: str) -> tuple[str, int | None]:
    kind, _, index = device.partition(":")
    if device in ("auto", "cpu", "cuda"):
        return device, None
    if kind == "cuda" and index.isdecimal():
        return kind, int(index)
    raise unknown_name(
        "device", device, ("auto", "cpu", "cuda", "cuda:0"), "cuda:INDEX counts the visible devices from 0"
    )


def _cpu_only(gpus: int) -> tuple[DeviceFacts, ...]:
    if gpus > 1:
        raise ParameterError(f"gpus={gpus} needs CUDA devices, but this session runs on the CPU; set gpus=1")
    return (cpu_facts(),)


def cpu_facts() -> DeviceFacts:
    """Describe the processor as a device."""
    import psutil

    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    settings = {"usable_cores": usable_cores(), **threads}
    return DeviceFacts(name=processor_name(), type="cpu", memory_bytes=psutil.virtual_memory().total, settings=settings)


def _torch_cuda_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _no_cuda(count: int) -> str | None:
    """Return why torch's `count` CUDA devices cannot be measured (torch also counts AMD boards); None if they can."""
    import torch

    if count and torch.version.hip:
        built = f"torch {torch.__version__} is built for AMD GPUs (ROCm {torch.version.hip})"
        return f"{built}, and only NVIDIA GPUs can be measured: use a machine with one"
    if count:
        return None
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: install its GPU build"
    return "torch finds no CUDA device: see `nvidia-smi` and CUDA_VISIBLE_DEVICES"


def _unused_boards(environ: Mapping[str, str], nvml: Any) -> str:
    """Return the names of boards that torch does not use although none are hidden."""
    if "CUDA_VISIBLE_DEVICES" in environ:
        return ""
    try:
        with Nvml(nvml).started() as library:
            return ", ".join(board.name for board in list_boards(library))
    except MeterError:  # no driver, hence no boards
        return ""


def board_facts(nvml: Nvml, board: Board, torch_index: int) -> DeviceFacts:
    """Describe one board, which must not be in MIG mode; `nvml` must be started."""
    handle = nvml.handle(board.index)
    memory = nvml.optional("nvmlDeviceGetMemoryInfo", handle)
    ecc = nvml.optional("nvmlDeviceGetEccMode", handle)
    capability = nvml.optional("nvmlDeviceGetCudaComputeCapability", handle)
    persistence = nvml.optional("nvmlDeviceGetPersistenceMode", handle)
    return DeviceFacts(
        name=board.name,
        type="cuda",
        index=torch_index,
        uuid=board.uuid,
        memory_bytes=None if memory is None else memory.total,
        power_limit_w=nvml.watts("nvmlDeviceGetEnforcedPowerLimit", handle),
        power_limit_default_w=nvml.watts("nvmlDeviceGetPowerManagementDefaultLimit", handle),
        clock_policy=_clock_policy(nvml, handle),
        ecc=None if ecc is None else bool(ecc[0]),
        driver=nvml.text("nvmlSystemGetDriverVersion"),
        settings={
            "nvml_index": board.index,
            "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
            "persistence_mode": None if persistence is None else bool(persistence),
        },
    )


def _clock_policy(nvml: Nvml, handle: Any) -> str | None:
    """Return whether the application clock has its default; None if the board has no application clock.

    NVML cannot read locked clocks (``nvidia-smi -lgc``); they show in the clocks of every window.
    """
    sm = nvml.module.NVML_CLOCK_SM
    now = nvml.optional("nvmlDeviceGetApplicationsClock", handle, sm)
    default = nvml.optional("nvmlDeviceGetDefaultApplicationsClock", handle, sm)
    if now is None or default is None:
        return None
    return "default" if now == default else f"application clock {now} MHz (default {default} MHz)"


def host_facts() -> HostFacts:
    """Describe this machine and its software; unavailable facts (no git, no ``/proc``) are None."""
    import psutil

    commit, dirty = git_state(Path(__file__).resolve())
    return HostFacts(
        processor=processor_name(),
        cores=max(math.ceil(usable_cores()), 1),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages=package_versions(PACKAGES),
        container=in_container(),
        git_commit=commit,
        git_dirty=dirty,
    )


def processor_name(root: str | os.PathLike = "/") -> str:
    """Return the processor's product name, or its architecture if the kernel reports no name (some Arm)."""
    cpuinfo = Path(root) / "proc/cpuinfo"
    told = cpuinfo.read_text(errors="replace") if cpuinfo.is_file() else ""
    named = re.search(r"^(?:model name|Hardware|cpu model|cpu)\s*:\s*(\S.*)$", told, re.MULTILINE)
    return named.group(1).strip() if named else platform.processor() or platform.machine()


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed packages among `names`."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # not installed: no entry
            continue
    return found


def in_container(root: str | os.PathLike = "/") -> bool | None:
    """Whether this process runs in a container, by the traces of container engines; None without ``/proc``."""
    if any((Path(root) / mark).exists() for mark in CONTAINER_FILES) or any(map(os.environ.get, CONTAINER_VARIABLES)):
        return True
    group = Path(root) / "proc/1/cgroup"
    return any(word in group.read_text() for word in CONTAINER_WORDS) if group.is_file() else None


def git_state(file: Path) -> tuple[str | None, bool | None]:
    """Return the commit of a file of the program, and whether its repository has uncommitted changes.

    A file that git does not track (such as an installed copy inside another repository) has no commit.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None, None
    described = _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return (None, None) if described is None else (described.removesuffix("-dirty"), described.endswith("-dirty"))


def _git(folder: Path, *arguments: str) -> str | None:
    # a slow network file system must not delay a session: a timeout counts as no git
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
