"""Access to NVML: start it, call it, and translate its error codes to errors of this package.

Nothing else in energylab imports ``pynvml``, so that error codes are mapped in one place and a test can replace the
library.

References
----------
NVIDIA, *NVML API Reference*, https://docs.nvidia.com/deploy/nvml-api/ (error codes: "Device Enumerations";
field values: ``nvmlFieldValue_t``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from energylab.errors import DeviceLostError, MeterError, MeterPermissionError


class NotSupportedError(MeterError):
    """This board or driver does not support the function."""


JETSON = (
    "the NVIDIA library reports no power on a Jetson; write a meter that reads its sensors (INA3221, as `tegrastats` "
    "does): see docs/extend.md"
)
AMD = "no meter of this package reads the energy of an AMD GPU (ROCm); write one (see docs/extend.md) or use device=cpu"
MIG_REFUSED = (
    "a MIG slice cannot be measured: energy counter and power sensor belong to the whole board. Use a board without "
    "MIG, or as its administrator run `sudo nvidia-smi -i INDEX -mig 0`"
)
#: Files that show why there is no NVIDIA library: an AMD driver, or a Jetson.
INSTEAD = {Path("/dev/kfd"): AMD, Path("/etc/nv_tegra_release"): JETSON}

_LOST = (DeviceLostError, "the board stopped answering: see `dmesg | grep -i xid`, then reset it or reboot")
_ABSENT = (NotSupportedError, "this board or driver does not have it")

#: Error codes (by the library's names) to the error of this package and what to do next.
_ERRORS: dict[str, tuple[type[MeterError], str]] = {
    "GPU_IS_LOST": _LOST,
    "RESET_REQUIRED": _LOST,
    "NO_PERMISSION": (
        MeterPermissionError,
        "this user may not open the device files: compare `ls -l /dev/nvidia*` with `id`, then for example "
        "`sudo usermod -aG video $USER` and log in again",
    ),
    "OPERATING_SYSTEM": (
        MeterPermissionError,
        "a container or a scheduler hides the board: start it with `docker run --gpus all …` or `srun --gres=gpu:1 …`",
    ),
    "LIBRARY_NOT_FOUND": (MeterError, "no NVIDIA driver is installed here (libnvidia-ml.so.1 is missing)"),
    "DRIVER_NOT_LOADED": (MeterError, "load it with `sudo modprobe nvidia`"),
    "LIB_RM_VERSION_MISMATCH": (MeterError, "the driver was updated under a running kernel module: reboot"),
    "GPU_NOT_FOUND": (MeterError, "the driver runs, but this machine or container has no NVIDIA board"),
    "NOT_SUPPORTED": _ABSENT,
    "FUNCTION_NOT_FOUND": _ABSENT,
    "ARGUMENT_VERSION_MISMATCH": _ABSENT,
    "DEPRECATED": _ABSENT,
    "NO_DATA": _ABSENT,
}

#: Field value types to the member of the union that holds them.
_UNION = {
    "NVML_VALUE_TYPE_UNSIGNED_INT": "uiVal",
    "NVML_VALUE_TYPE_UNSIGNED_LONG": "ulVal",
    "NVML_VALUE_TYPE_UNSIGNED_LONG_LONG": "ullVal",
}

#: Inode of the host's process id namespace: the kernel's PROC_PID_INIT_INO.
_HOST_NAMESPACE = "pid:[4026531836]"


class Nvml:
    """The library ``pynvml``, imported when first needed, or `module` in its place. Starts and stops come in pairs."""

    def __init__(self, module: Any = None) -> None:
        self._given = module

    @property
    def module(self) -> Any:
        """The library's module."""
        if self._given is None:
            import pynvml

            self._given = pynvml
        return self._given

    def start(self) -> None:
        """Start the library; nested starts are allowed."""
        self.call("nvmlInit")

    def stop(self) -> None:
        """Undo one `start`."""
        self.call("nvmlShutdown")

    @contextmanager
    def started(self) -> Iterator[Nvml]:
        """Start the library for the length of a ``with`` block."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the library; translate its error codes to errors of this package."""
        try:
            return getattr(self.module, function)(*arguments)
        except self.module.NVMLError as error:
            raise self._translated(error.value, function) from error
        except self.module.NVMLLibraryMismatchError as error:  # this driver lacks the newest version of a function
            raise NotSupportedError(f"NVML {function}: {error}") from error

    def optional(self, function: str, *arguments: Any) -> Any:
        """Call a function that some boards lack; None if it is missing. Other errors are raised."""
        try:
            return self.call(function, *arguments)
        except NotSupportedError:
            return None

    def text(self, function: str, *arguments: Any) -> str:
        """Call a function that returns a string; older versions of the library return bytes."""
        value = self.call(function, *arguments)
        return value.decode() if isinstance(value, bytes) else value

    def watts(self, function: str, handle: Any) -> float | None:
        """Call a function that returns milliwatts; return watts, or None if it is missing."""
        milliwatts = self.optional(function, handle)
        return None if milliwatts is None else milliwatts / 1000

    def fields(self, handle: Any, names: Iterable[str]) -> list[int | None]:
        """Read several field values by name in one call; None where the board or the driver lacks one."""
        names = list(names)
        answers = self.call("nvmlDeviceGetFieldValues", handle, [getattr(self.module, name) for name in names])
        return [self._field(answer, name) for answer, name in zip(answers, names, strict=True)]

    def _field(self, answer: Any, name: str) -> int | None:
        if answer.nvmlReturn == self.module.NVML_ERROR_INVALID_ARGUMENT:  # an old driver does not know it
            return None
        if answer.nvmlReturn != self.module.NVML_SUCCESS:
            error = self._translated(answer.nvmlReturn, name)
            if isinstance(error, NotSupportedError):
                return None
            raise error
        for kind, member in _UNION.items():
            if getattr(self.module, kind) == answer.valueType:
                return getattr(answer.value, member)
        raise MeterError(f"NVML gave {name} the unknown value type {answer.valueType}; update nvidia-ml-py")

    def _translated(self, code: int, what: str) -> MeterError:
        """Return the error of this package for an error code of the library."""
        prefix = "NVML_ERROR_"
        names = (name for name in dir(self.module) if name.startswith(prefix) and getattr(self.module, name) == code)
        name = next(names, "UNKNOWN").removeprefix(prefix)
        kind, advice = _ERRORS.get(name, (MeterError, "see `nvidia-smi` and `dmesg`"))
        if name == "LIBRARY_NOT_FOUND":
            advice = next((words for file, words in INSTEAD.items() if file.exists()), advice)
        return kind(f"NVML {what}: {name} (code {code}); {advice}")

    def handle(self, board: int | str) -> Any:
        """Return the handle of a board by NVML's index (PCI order, not torch's) or UUID; refuse one in MIG mode."""
        by_uuid = isinstance(board, str)
        handle = self.call("nvmlDeviceGetHandleByUUID" if by_uuid else "nvmlDeviceGetHandleByIndex", board)
        mode = self.optional("nvmlDeviceGetMigMode", handle)
        if mode is not None and mode[0]:
            raise MeterError(f"{board if by_uuid else f'board {board}'} is in MIG mode: {MIG_REFUSED}")
        return handle

    def users(self, handle: Any) -> set[int] | None:
        """Return the ids of processes on a board as the driver lists them, with MPS; None if it cannot list them."""
        compute = self.optional("nvmlDeviceGetComputeRunningProcesses", handle)
        shared = self.optional("nvmlDeviceGetMPSComputeRunningProcesses", handle)
        return None if compute is None else {process.pid for process in (*compute, *(shared or ()))}


def in_host_namespace() -> bool:
    """Whether process ids here are the host's, so that they can be compared with the driver's."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _HOST_NAMESPACE
    except OSError:  # no /proc, or a sandbox that hides it: not comparable
        return False
