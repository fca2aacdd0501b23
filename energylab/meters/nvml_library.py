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
from typing import Any

from energylab.errors import DeviceLostError, MeterError, MeterPermissionError


class NotSupportedError(MeterError):
    """This board or this driver does not have what was asked for."""


#: Error codes by meaning. Names rather than numbers: the numbers come from the library itself.
_LOST = ("GPU_IS_LOST", "RESET_REQUIRED")
_DENIED = ("NO_PERMISSION", "OPERATING_SYSTEM")
_ABSENT = ("NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH", "DEPRECATED", "NO_DATA")
_NO_DRIVER = ("LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "GPU_NOT_FOUND")

_GRANT = {
    "NO_PERMISSION": "this user may not open the device files: compare `ls -l /dev/nvidia*` with `id`, then "
    "for example `sudo usermod -aG video $USER` and log in again",
    "OPERATING_SYSTEM": "a container or a scheduler hides the board: start it with `docker run --gpus all …` "
    "or `srun --gres=gpu:1 …`",
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


class Nvml:
    """The library, started and stopped in pairs.

    Parameters
    ----------
    module : module, optional
        ``pynvml``, or an object with its functions, constants and ``NVMLError``; imported when first needed.
    """

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
        """Start the library; the driver counts starts, so nested starts are fine.

        Raises
        ------
        MeterError
            If there is no driver to talk to.
        """
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

    def constant(self, name: str) -> int:
        """Return a constant of the library.

        Raises
        ------
        NotSupportedError
            If the installed nvidia-ml-py does not know it.
        """
        value = getattr(self.module, name, None)
        if value is None:
            raise NotSupportedError(
                f"the installed nvidia-ml-py has no {name}; upgrade it: `pip install -U nvidia-ml-py`"
            )
        return value

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the library.

        Raises
        ------
        DeviceLostError, MeterPermissionError, NotSupportedError, MeterError
            By the meaning of NVML's error code.
        """
        target = getattr(self.module, function, None)
        if target is None:
            raise NotSupportedError(
                f"the installed nvidia-ml-py has no {function}; upgrade it: `pip install -U nvidia-ml-py`"
            )
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
        """Read several field values in one call, by the name of their identifier.

        Returns
        -------
        list
            One value a name, None where the board or the installed library does not have the field.
        """
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
        said = f"NVML {what}: {name} (code {code})"
        if name in _LOST:
            return DeviceLostError(
                f"{said}; the board stopped answering: see `dmesg | grep -i xid`, then reset it or reboot"
            )
        if name in _DENIED:
            return MeterPermissionError(f"{said}; {_GRANT[name]}")
        if name in _ABSENT:
            return NotSupportedError(f"{said}; this board or driver does not have it")
        if name in _NO_DRIVER:
            return MeterError(f"{said}; {_NEXT[name]}")
        return MeterError(f"{said}; see `nvidia-smi` and `dmesg`")

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
