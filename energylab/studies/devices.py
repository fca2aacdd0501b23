"""The devices that a study may use, and the environment that assigns them to a job."""

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
    """Return the devices for jobs, in the form of ``CUDA_VISIBLE_DEVICES``, or ``["cpu"]``.

    `spec` is ``auto`` (every visible NVIDIA GPU, else the CPU), ``cpu``, or GPU indices or UUIDs separated by commas.
    The CPU is one device, since the energy of two simultaneous jobs could not be separated.
    """
    if spec == "auto":
        return _visible_gpus() or [CPU]
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names or len(set(names)) != len(names) or (CPU in names and len(names) > 1):
        raise StudyError(f"devices {spec!r}: give 'auto', 'cpu', or GPU indices or UUIDs, each once: 0,1")
    return names


def check_present(spec: str, nvml: Nvml | None = None) -> None:
    """Refuse devices that this machine does not have; a job with a missing GPU would run on the CPU."""
    names = available(spec)
    boards = _boards(nvml)
    for name in names:
        here = any(name == str(board.index) or board.uuid.startswith(name) for board in boards)
        if name != CPU and spec != "auto" and not here:
            listed = ", ".join(["cpu", *(f"{board.index} ({board.name}, {board.uuid})" for board in boards)])
            raise StudyError(f"device {name!r} does not exist here; existing: {listed}. Give one of them, or auto")


def environment(devices: tuple[str, ...]) -> dict[str, str]:
    """Return the environment variables that make only these devices visible to a job."""
    shown = "" if devices == (CPU,) else ",".join(devices)
    return {"CUDA_VISIBLE_DEVICES": shown, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _visible_gpus(nvml: Nvml | None = None) -> list[str]:
    """Return the UUIDs of the boards that jobs can use."""
    return [board.uuid for board in visible_boards(_boards(nvml), os.environ)]


def _boards(nvml: Nvml | None) -> tuple[Board, ...]:
    """Return the boards of this machine that jobs can use."""
    if not torch_has_cuda():
        return ()  # jobs would fall back to the CPU
    nvml = nvml or Nvml()
    try:
        with nvml.started():
            return list_boards(nvml)
    except MeterError:
        return ()  # no driver, hence no NVIDIA GPU


def torch_has_cuda() -> bool:
    """Whether the installed torch is built for CUDA; checked without importing it."""
    found = importlib.util.find_spec("torch")
    version = Path(found.origin).with_name("version.py")
    return runpy.run_path(str(version)).get("cuda") is not None
