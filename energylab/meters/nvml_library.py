"""NVML behind one door: starting it, calling it, and its error codes in the words of this package.

Nothing else in energylab imports ``pynvml``, so that the mapping of error codes exists once and a test can
put a scripted module in the library's place.

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
    """This board or this driver does not have what was asked for."""


#: Error codes by meaning. Names rather than numbers: the numbers come from the library itself.
_LOST = ("GPU_IS_LOST", "RESET_REQUIRED")
_DENIED = ("NO_PERMISSION", "OPERATING_SYSTEM")
_ABSENT = ("NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH", "DEPRECATED", "NO_DATA")

_GRANT = {
    "NO_PERMISSION": "this user may not open the device files: compare `ls -l /dev/nvidia*` with `id`, then "
    "for example `sudo usermod -aG video $USER` and log in again",
    "OPERATING_SYSTEM": "a container or a scheduler hides the board: start it with `docker run --gpus all …` "
    "or `srun --gres=gpu:1 …`",
}
#: What a Jetson needs: its library, where it has one, tells neither energy nor power.
JETSON = (
    "a Jetson's power is not told by the NVIDIA library; read its own sensors (INA3221, as `tegrastats` does) by a "
    "meter of your own: see docs/extend.md"
)
AMD = (
    "the GPU here is AMD's (ROCm), whose energy no meter of this package reads; write one of your own "
    "(see docs/extend.md) or use device=cpu"
)
#: Files that tell why there is no NVIDIA library: another maker's driver, or a Jetson.
_INSTEAD = {
    Path("/dev/kfd"): AMD,
    Path("/etc/nv_tegra_release"): JETSON,
}
_NEXT = {
    "LIBRARY_NOT_FOUND": "no NVIDIA driver is installed here (libnvidia-ml.so.1 is missing)",
    "DRIVER_NOT_LOADED": "load it with `sudo modprobe nvidia`",
    "LIB_RM_VERSION_MISMATCH": "the driver was updated under a running kernel module: reboot",
    "GPU_NOT_FOUND": "the driver runs, but this machine or container has no NVIDIA board",
}
#: Field value types to the member of the union that holds them.
_UNION = {
    "NVML_VALUE_TYPE_DOUBLE": "dVal",
    "NVML_VALUE_TYPE_UNSIGNED_INT": "uiVal",
    "NVML_VALUE_TYPE_UNSIGNED_LONG": "ulVal",
    "NVML_VALUE_TYPE_UNSIGNED_LONG_LONG": "ullVal",
    "NVML_VALUE_TYPE_SIGNED_LONG_LONG": "sllVal",
    "NVML_VALUE_TYPE_SIGNED_INT": "siVal",
    "NVML_VALUE_TYPE_UNSIGNED_SHORT": "usVal",
}


MIG_REFUSED = (
    "a MIG slice cannot be measured: the energy counter and the power sensor belong to the whole board, "
    "which cannot tell whose joules they were. Use a whole board: ask for one without MIG, or as its "
    "administrator run `sudo nvidia-smi -i INDEX -mig 0`"
)


#: Inode of the host's process id namespace: the kernel's PROC_PID_INIT_INO.
_HOST_NAMESPACE = "pid:[4026531836]"


class Nvml:
    """The library, started and stopped in pairs: ``pynvml``, imported when first needed, or what stands in for it."""

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
        """Start the library; the driver counts starts, so nested starts are fine."""
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

    def constant(self, name: str) -> Any:
        """Return a constant or a function of the library; one it does not know is not supported."""
        value = getattr(self.module, name, None)
        if value is None:
            raise NotSupportedError(
                f"the installed nvidia-ml-py has no {name}; upgrade it: `pip install -U nvidia-ml-py`"
            )
        return value

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the library; its error codes become errors of this package."""
        target = self.constant(function)
        try:
            return target(*arguments)
        except self.module.NVMLError as error:
            raise self._translated(error.value, function) from error
        except self.module.NVMLLibraryMismatchError as error:  # its word for "this driver lacks the newest version"
            raise NotSupportedError(f"NVML {function}: {error}") from error

    def optional(self, function: str, *arguments: Any) -> Any:
        """Call a function that not every board has; None where it is absent. Other errors are raised."""
        try:
            return self.call(function, *arguments)
        except NotSupportedError:
            return None

    def fields(self, handle: Any, names: Iterable[str]) -> list[int | float | None]:
        """Read several field values in one call, by name; None where the board or the library does not have one."""
        known = {name: getattr(self.module, name, None) for name in names}
        asked = [name for name, identifier in known.items() if identifier is not None]
        answers = self.call("nvmlDeviceGetFieldValues", handle, [known[name] for name in asked]) if asked else []
        values = {name: self._field(answer, name) for name, answer in zip(asked, answers, strict=True)}
        return [values.get(name) for name in known]

    def _field(self, answer: Any, name: str) -> int | float | None:
        if answer.nvmlReturn != self.module.NVML_SUCCESS:
            error = self._translated(answer.nvmlReturn, name)
            # An old driver answers "invalid argument" to an identifier it has not heard of.
            if isinstance(error, NotSupportedError) or answer.nvmlReturn == self.module.NVML_ERROR_INVALID_ARGUMENT:
                return None
            raise error
        for kind, member in _UNION.items():
            if getattr(self.module, kind, None) == answer.valueType:
                return getattr(answer.value, member)
        raise MeterError(f"NVML gave {name} the value type {answer.valueType}, which this program does not know")

    def _translated(self, code: int, what: str) -> MeterError:
        """Turn an error code into the error this package raises: the one place where the codes are known."""
        name = self._name(code)
        failed = f"NVML {what}: {name} (code {code})"
        if name in _LOST:
            return DeviceLostError(
                f"{failed}; the board stopped answering: see `dmesg | grep -i xid`, then reset it or reboot"
            )
        if name in _DENIED:
            return MeterPermissionError(f"{failed}; {_GRANT[name]}")
        if name in _ABSENT:
            return NotSupportedError(f"{failed}; this board or driver does not have it")
        instead = [advice for file, advice in _INSTEAD.items() if name == "LIBRARY_NOT_FOUND" and file.exists()]
        return MeterError(f"{failed}; {[*instead, _NEXT.get(name, 'see `nvidia-smi` and `dmesg`')][0]}")

    def _name(self, code: int) -> str:
        prefix = "NVML_ERROR_"
        for name in dir(self.module):
            if name.startswith(prefix) and getattr(self.module, name) == code:
                return name.removeprefix(prefix)
        return "UNKNOWN"


def text(value: str | bytes) -> str:
    """Return a string of the library as text: older versions of it give bytes."""
    return value.decode() if isinstance(value, bytes) else value


def in_mig_mode(nvml: Nvml, handle: Any) -> bool:
    """Tell whether a board is split into slices now; boards that cannot be split are not."""
    mode = nvml.optional("nvmlDeviceGetMigMode", handle)
    return mode is not None and bool(mode[0])


def board_users(nvml: Nvml, handle: Any) -> set[int] | None:
    """Return the processes on a board, of MPS too, as the driver numbers them; None where it lists none."""
    compute = _listed(nvml, handle, "nvmlDeviceGetComputeRunningProcesses")
    shared = _listed(nvml, handle, "nvmlDeviceGetMPSComputeRunningProcesses")
    return None if compute is None else compute | (shared or set())


def _listed(nvml: Nvml, handle: Any, function: str) -> set[int] | None:
    for version in ("", "_v2"):  # the newest; drivers before 510 have the second alone
        listed = nvml.optional(function + version, handle)
        if listed is not None:
            return {process.pid for process in listed}
    return None


def in_host_namespace() -> bool:
    """Tell whether process ids here are the host's, so that the driver's can be compared with them."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _HOST_NAMESPACE
    except OSError:  # no /proc, or a sandbox that hides it: not comparable
        return False
