"""A scripted NVML: boards with a known power, a clock of their own, and error codes on demand.

It stands in for the module ``pynvml``: constants, structures and errors are the real ones, so that a wrong identifier
or a wrong unit cannot hide; functions are scripted, and one that is not scripted does not exist.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import pynvml

from energylab.clock import ManualClock
from energylab.meters.replay import SimulatedBoard

H200 = "NVIDIA H200"
CONSTANTS = tuple(name for name in dir(pynvml) if name.startswith("NVML_"))


@dataclass(eq=False)
class FakeBoard:
    """One board. Its power follows `board`, its counter ticks every `tick_s` in millijoules."""

    clock: ManualClock
    index: int = 0
    name: str = H200
    idle_w: float = 70.0
    limit_w: float = 700.0
    tick_s: float = 0.1
    refresh_s: float = 0.05  # how often the instantaneous power is renewed
    has_counter: bool = True
    has_instant: bool = True
    mig: bool | None = False  # None: the board cannot be split
    ecc: bool | None = True
    offset_mj: int = 123_456_789  # counted since the driver was loaded
    temperature_c: int = 35
    sm_clock_mhz: int = 1980
    memory_clock_mhz: int = 3201
    application_clock_mhz: int | None = 1980
    compute_pids: list[int] = field(default_factory=list)
    mps_pids: list[int] = field(default_factory=list)
    events: int = 0
    fields: dict[int, int] = field(default_factory=dict)  # field id -> unsigned 64-bit value; absent: not supported

    def __post_init__(self) -> None:
        self.board = SimulatedBoard(self.clock, self.idle_w)
        self.uuid = f"GPU-{self.index:08d}-1111-2222-3333-444444444444"

    def energy_mj(self) -> int:
        tick = math.floor(self.clock.now() / self.tick_s + 1e-9) * self.tick_s
        return self.offset_mj + math.floor(self.board.energy_j(tick) * 1000)

    def power_mw(self) -> int:
        """Power as of the sensor's last refresh, with a few milliwatts of noise that tell refreshes apart."""
        number = math.floor(self.clock.now() / self.refresh_s + 1e-9)
        return round(self.board.power_w(number * self.refresh_s) * 1000) + number % 7


def _processes(pids: list[int]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=2**30) for pid in pids]


def _mode(on: bool | None) -> list[int] | None:
    return None if on is None else [int(on), int(on)]


def _field(board: FakeBoard, identifier: int) -> pynvml.c_nvmlFieldValue_t:
    answer = pynvml.c_nvmlFieldValue_t()
    answer.fieldId, answer.nvmlReturn = identifier, pynvml.NVML_SUCCESS
    if identifier == pynvml.NVML_FI_DEV_POWER_INSTANT and board.has_instant:
        answer.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
        answer.value.uiVal = board.power_mw()
    elif identifier in board.fields:
        answer.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
        answer.value.ullVal = board.fields[identifier]
    else:
        answer.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
    return answer


#: What each function says of a board; None: not supported.
GETTERS = {
    "nvmlDeviceGetUUID": lambda board: board.uuid,
    "nvmlDeviceGetName": lambda board: board.name,
    "nvmlDeviceGetMemoryInfo": lambda board: SimpleNamespace(total=143_771 * 2**20, free=0, used=0),
    "nvmlDeviceGetEccMode": lambda board: _mode(board.ecc),
    "nvmlDeviceGetMigMode": lambda board: _mode(board.mig),
    "nvmlDeviceGetCudaComputeCapability": lambda board: (9, 0),
    "nvmlDeviceGetPersistenceMode": lambda board: 1,
    "nvmlDeviceGetEnforcedPowerLimit": lambda board: round(board.limit_w * 1000),
    "nvmlDeviceGetPowerManagementDefaultLimit": lambda board: 700_000,
    "nvmlDeviceGetApplicationsClock": lambda board, kind: board.application_clock_mhz,
    "nvmlDeviceGetDefaultApplicationsClock": lambda board, kind: 1980,
    "nvmlDeviceGetTotalEnergyConsumption": lambda board: board.energy_mj() if board.has_counter else None,
    "nvmlDeviceGetTemperature": lambda board, sensor: {pynvml.NVML_TEMPERATURE_GPU: board.temperature_c}.get(sensor),
    "nvmlDeviceGetTemperatureV": lambda board, sensor: {pynvml.NVML_TEMPERATURE_GPU: board.temperature_c}.get(sensor),
    "nvmlDeviceGetClockInfo": lambda board, kind: {
        pynvml.NVML_CLOCK_SM: board.sm_clock_mhz,
        pynvml.NVML_CLOCK_MEM: board.memory_clock_mhz,
    }[kind],
    "nvmlDeviceGetComputeRunningProcesses": lambda board: _processes(board.compute_pids),
    "nvmlDeviceGetMPSComputeRunningProcesses": lambda board: _processes(board.mps_pids),
    "nvmlDeviceGetCurrentClocksEventReasons": lambda board: board.events,
    "nvmlDeviceGetFieldValues": lambda board, identifiers: [_field(board, identifier) for identifier in identifiers],
}


class FakeNvml:
    """The library. `fail` scripts errors: a function answers with an error code from now on."""

    def __init__(self, *boards: FakeBoard, driver: str = "580.159.03") -> None:
        self.boards = list(boards)
        self.driver = driver
        self.started = 0
        self.calls: Counter[str] = Counter()
        self._failures: dict[str, tuple[int, FakeBoard | None]] = {}

    def fail(self, function: str, code: int, *, board: FakeBoard | None = None) -> None:
        """Let `function` (of one board, or of all) answer with `code`."""
        self._failures[function] = code, board

    def lose(self, board: FakeBoard) -> None:
        """Take a board off the bus: everything asked of it says that it is lost."""
        for name in (*GETTERS, "nvmlDeviceGetHandleByIndex"):
            self.fail(name, pynvml.NVML_ERROR_GPU_IS_LOST, board=board)

    def __getattr__(self, name: str):
        if name in GETTERS:
            return partial(self._of_board, name)
        if name.startswith(("NVML_", "NVMLError", "NVMLLibraryMismatchError", "nvmlClocksEventReason")):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def __dir__(self):
        return [*super().__dir__(), *CONSTANTS]

    def _of_board(self, function, board, *arguments):
        self._enter(function, board)
        answer = GETTERS[function](board, *arguments)
        if answer is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return answer

    def nvmlInit(self):
        self._enter("nvmlInit", None, needs_start=False)
        self.started += 1

    def nvmlShutdown(self):
        self._enter("nvmlShutdown")
        self.started -= 1

    def nvmlSystemGetDriverVersion(self):
        self._enter("nvmlSystemGetDriverVersion")
        return self.driver

    def nvmlDeviceGetCount(self):
        self._enter("nvmlDeviceGetCount")
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index):
        if not 0 <= index < len(self.boards):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        self._enter("nvmlDeviceGetHandleByIndex", self.boards[index])
        return self.boards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self._enter("nvmlDeviceGetHandleByUUID")
        for board in self.boards:
            if board.uuid == uuid:
                return board
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def _enter(self, function, board=None, needs_start=True):
        self.calls[function] += 1
        if needs_start and self.started < 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        code, only = self._failures.get(function, (None, None))
        if code is not None and only in (None, board):
            raise pynvml.NVMLError(code)


def machine(boards: int = 1, driver: str = "580.159.03", **facts) -> tuple[ManualClock, FakeNvml]:
    """Return a clock and a library with `boards` equal boards, each with the given facts."""
    clock = ManualClock(1000.0)
    return clock, FakeNvml(*(FakeBoard(clock, index, **facts) for index in range(boards)), driver=driver)
