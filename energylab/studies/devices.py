"""Which devices a study may use, and how a job is given its own."""

from __future__ import annotations

import importlib.util
import os
import runpy
from pathlib import Path

from energylab.devices import Board, list_boards, visible_boards
from energylab.errors import MeterError, StudyError
from energylab.meters.nvml_library import Nvml

CPU = "cpu"


def available(spec: str = "auto") -> list[str]:
    """Return the devices that jobs are handed out to, as ``CUDA_VISIBLE_DEVICES`` takes them, or ``["cpu"]``.

    `spec` is ``auto`` (every NVIDIA GPU that this process may see, else the CPU), ``cpu``, or GPU indices or UUIDs
    separated by commas. The CPU is one device: two jobs on it at once would be in each other's energy.
    """
    if spec == "auto":
        return _visible_gpus() or [CPU]
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names or len(set(names)) != len(names) or (CPU in names and len(names) > 1):
        raise StudyError(f"devices {spec!r}: name 'auto', 'cpu', or GPU indices or UUIDs, each once: 0,1")
    return names


def check_present(spec: str, nvml: Nvml | None = None) -> None:
    """Refuse devices that this machine does not have: a job that is shown a GPU that is not there runs on the CPU."""
    names = available(spec)
    boards = _boards(nvml)
    for name in names:
        here = any(name == str(board.index) or board.uuid.startswith(name) for board in boards)
        if name != CPU and spec != "auto" and not here:
            listed = ", ".join(["cpu", *(f"{board.index} ({board.name}, {board.uuid})" for board in boards)])
            raise StudyError(f"device {name!r} is not here; here are: {listed}. Name one of them, or auto")


def environment(devices: tuple[str, ...]) -> dict[str, str]:
    """Return the variables that show a job its own devices and no others."""
    shown = "" if devices == (CPU,) else ",".join(devices)
    return {"CUDA_VISIBLE_DEVICES": shown, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _visible_gpus(nvml: Nvml | None = None) -> list[str]:
    """Return the UUIDs of the boards that jobs can compute on."""
    return [board.uuid for board in visible_boards(_boards(nvml), os.environ)]


def _boards(nvml: Nvml | None) -> tuple[Board, ...]:
    """Return the boards of this machine that jobs can compute on."""
    if not torch_has_cuda():
        return ()  # a job would fall back to the CPU, beside another that did
    nvml = nvml or Nvml()
    try:
        with nvml.started():
            return list_boards(nvml)
    except MeterError:
        return ()  # no driver: this machine has no NVIDIA GPU to hand out


def torch_has_cuda() -> bool:
    """Say whether the installed torch is built for CUDA, without importing it."""
    found = importlib.util.find_spec("torch")
    version = Path(found.origin).with_name("version.py")
    return runpy.run_path(str(version)).get("cuda") is not None
