"""Which devices a session runs on: CUDA_VISIBLE_DEVICES in all its forms, gpus, MIG, facts of a board."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
from fake_nvml import FakeBoard, FakeNvml, machine

from energylab import devices as machine_devices
from energylab.clock import ManualClock
from energylab.devices import (
    CONTAINER_VARIABLES,
    Board,
    check_torch_agrees,
    git_state,
    host_facts,
    in_container,
    package_versions,
    resolve_devices,
    server_devices,
    torch_name,
    visible_boards,
)
from energylab.errors import MeterError, ParameterError, UnknownNameError
from energylab.record import DeviceFacts

BOARDS = tuple(Board(i, f"GPU-{letter * 8}-0000", "NVIDIA H200") for i, letter in enumerate("abcd"))


def seen(value, boards=BOARDS, **environ):
    return [board.index for board in visible_boards(boards, {"CUDA_VISIBLE_DEVICES": value, **environ})]


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        ("0", [0]),
        ("2,1", [2, 1]),
        (" 3 , 0", [3, 0]),
        ("", []),
        ("-1", []),
        ("0,2,-1,1", [0, 2]),  # NVIDIA's own example
        ("GPU-cccccccc-0000", [2]),
        ("GPU-cccccccc-0000,GPU-aaaaaaaa-0000", [2, 0]),
        ("GPU-b", [1]),
        ("GPU-BBBBBBBB", [1]),
    ],
)
def test_visible_devices_by_index_and_by_uuid(value, indices):
    assert seen(value) == indices
    assert visible_boards(BOARDS, {}) == BOARDS  # without the variable every one is visible


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("7", "'7' names no board of this machine; boards here: 0 = GPU-aaaaaaaa-0000"),
        ("GPU-", "'GPU-' names several boards"),
        ("GPU-eeee", "names no board"),
        ("1,GPU-bbbb", "names a board twice"),
        ("MIG-3b2a", "MIG slice cannot be measured: .* belong to the whole board"),
    ],
)
def test_entries_that_cannot_be_followed_are_refused(value, says):
    with pytest.raises(ParameterError, match=says):
        seen(value)


def test_boards_of_different_kinds_need_an_order_or_uuids():
    """CUDA numbers the fastest first, NVML by slot: an index would measure another board than it computes on."""
    mixed = (Board(0, "GPU-slow", "Tesla T4"), Board(1, "GPU-fast", "NVIDIA H200"))
    with pytest.raises(ParameterError, match="set CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        seen("0", mixed)
    with pytest.raises(ParameterError, match="PCI_BUS_ID"):
        visible_boards(mixed, {})
    assert seen("0", mixed, CUDA_DEVICE_ORDER="PCI_BUS_ID") == [0]
    assert seen("GPU-fast", mixed) == [1]


def resolve(device="auto", gpus=1, boards=4, visible=None, **facts):
    clock, nvml = machine(boards, **facts)
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    count = len(visible.split(",")) if visible else boards
    return nvml, resolve_devices(device, gpus, environ=environ, nvml=nvml, cuda_count=lambda: count)


def driverless():
    nvml = FakeNvml()
    nvml.fail("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    return nvml


@pytest.mark.parametrize(
    ("device", "gpus", "visible", "indices", "slots"),
    [
        ("cuda", 2, None, [0, 1], [0, 1]),
        ("cuda:1", 2, None, [1, 2], [1, 2]),
        ("auto", 1, "3,1", [0], [3]),
        ("cuda:1", 1, "3,1", [1], [1]),
        ("auto", 2, "GPU-00000002,GPU-00000000", [0, 1], [2, 0]),
    ],
)
def test_devices_carry_torchs_index_and_the_boards_identity(device, gpus, visible, indices, slots):
    nvml, devices = resolve(device, gpus, visible=visible)
    assert [found.index for found in devices] == indices
    assert [found.uuid for found in devices] == [nvml.boards[slot].uuid for slot in slots]
    assert [torch_name(found) for found in devices] == [f"cuda:{index}" for index in indices]
    assert nvml.started == 0


def test_facts_of_a_board():
    nvml, (device,) = resolve(limit_w=650.0, application_clock_mhz=1410, ecc=False)
    assert (device.name, device.driver, device.ecc) == ("NVIDIA H200", "580.159.03", False)
    assert (device.power_limit_w, device.power_limit_default_w) == (650.0, 700.0)
    assert device.clock_policy == "application clock 1410 MHz (default 1980 MHz)"
    assert (device.memory_bytes, device.settings["compute_capability"]) == (143_771 * 2**20, "9.0")
    nvml, (device,) = resolve(ecc=None, application_clock_mhz=None, mig=None)  # what it does not tell is None
    assert (device.ecc, device.clock_policy) == (None, None)


def test_a_board_in_slices_is_refused():
    with pytest.raises(MeterError, match="is in MIG mode: a MIG slice cannot be measured"):
        resolve(mig=True)


def test_boards_a_scheduler_hides_are_not_counted():
    clock, nvml = machine(2)
    nvml.fail("nvmlDeviceGetHandleByIndex", pynvml.NVML_ERROR_NO_PERMISSION, board=nvml.boards[0])
    (device,) = resolve_devices("auto", 1, environ={}, nvml=nvml, cuda_count=lambda: 1)
    assert device.uuid == nvml.boards[1].uuid


def test_the_processor_is_the_device_where_torch_has_none():
    (device,) = resolve_devices("auto", 1, environ={}, nvml=driverless(), cuda_count=lambda: 0)
    assert (device.type, torch_name(device)) == ("cpu", "cpu")
    assert device.name
    assert device.memory_bytes > 0
    assert device.settings["usable_cores"] > 0


def test_a_board_that_torch_cannot_use_is_not_passed_over_in_silence():
    nvml = FakeNvml(FakeBoard(ManualClock()))
    with pytest.warns(UserWarning, match="the session runs on the CPU, not on NVIDIA H200"):
        resolve_devices("auto", 1, environ={}, nvml=nvml, cuda_count=lambda: 0)


@pytest.mark.parametrize(
    ("device", "gpus", "boards", "torchs", "message"),
    [
        ("cuda", 1, 0, 0, "device='cuda', but torch .* CUDA"),
        ("cpu", 2, 0, 0, "gpus=2 needs CUDA devices"),
        ("auto", 2, 0, 0, "gpus=2 needs CUDA devices"),
        ("gpu", 1, 0, 0, "did you mean 'cpu'"),
        ("cuda:x", 1, 0, 0, "unknown device 'cuda:x'; did you mean"),
        ("cuda", 3, 2, 2, "gpus=3 needs 3 visible CUDA devices, but torch finds 2"),
        ("cuda:2", 1, 2, 2, "needs 3 visible"),
        ("cuda:1", 1, 1, 2, "torch counts more CUDA devices than the driver shows"),
    ],
)
def test_impossible_requests(device, gpus, boards, torchs, message):
    nvml = machine(boards)[1] if boards else driverless()
    with pytest.raises((ParameterError, UnknownNameError), match=message):
        resolve_devices(device, gpus, environ={}, nvml=nvml, cuda_count=lambda: torchs)


def test_torch_must_compute_on_the_board_the_meter_watches(monkeypatch):
    import torch

    device = DeviceFacts(name="NVIDIA H200", type="cuda", index=0, uuid="GPU-aaaa-1111")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="AAAA-1111"))
    check_torch_agrees([device])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="bbbb-2222"))
    with pytest.raises(MeterError, match="cuda:0 is board GPU-bbbb-2222, but the meter measures GPU-aaaa-1111"):
        check_torch_agrees([device])


class OneServer:
    """A server of two processes."""

    def tree(self):
        return {4001, 4002}


def test_a_served_model_is_measured_on_the_boards_its_server_uses():
    _, nvml = machine(boards=3)
    nvml.boards[1].compute_pids = [4002]
    nvml.boards[2].compute_pids = [77]
    (found,) = server_devices(OneServer(), nvml=nvml)
    assert found.uuid == nvml.boards[1].uuid
    nvml.boards[0].mig = True  # another board in slices is no concern of this one
    assert server_devices(OneServer(), nvml=nvml) == (found,)
    nvml.boards[2].compute_pids = [4001, 77]
    assert [board.index for board in server_devices(OneServer(), gpus=2, nvml=nvml)] == [1, 2]
    with pytest.raises(ParameterError, match=r"the server uses 2 board\(s\)"):
        server_devices(OneServer(), nvml=nvml)


def test_a_server_without_a_board_computes_on_the_processor(monkeypatch):
    _, nvml = machine(boards=1)
    assert server_devices(OneServer(), nvml=nvml)[0].type == "cpu"
    nvml.boards[0].compute_pids = [77]
    monkeypatch.setattr(machine_devices, "in_host_namespace", lambda: True)
    assert server_devices(OneServer(), nvml=nvml)[0].type == "cpu"
    monkeypatch.setattr(machine_devices, "in_host_namespace", lambda: False)
    with pytest.raises(ParameterError, match="set device=cuda:N"):
        server_devices(OneServer(), nvml=nvml)
    assert server_devices(OneServer(), "cuda:0", nvml=nvml)[0].uuid == nvml.boards[0].uuid
    assert server_devices(OneServer(), "cpu", nvml=nvml)[0].type == "cpu"
    nvml.fail("nvmlInit", pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    assert server_devices(OneServer(), nvml=nvml)[0].type == "cpu"
    with pytest.raises(MeterError):
        server_devices(OneServer(), "cuda", nvml=nvml)


def test_torchs_amd_boards_are_called_what_they_are(monkeypatch):
    import torch

    monkeypatch.setattr(torch.version, "hip", "6.4")
    with pytest.raises(ParameterError, match=r"built for AMD GPUs.*use device=cpu"):
        resolve_devices("cuda", 1, environ={}, nvml=FakeNvml(), cuda_count=lambda: 1)
    with pytest.warns(UserWarning, match="the session runs on the CPU, not on .* AMD GPUs"):
        (device,) = resolve_devices("auto", 1, environ={}, nvml=FakeNvml(), cuda_count=lambda: 1)
    assert device.type == "cpu"


def test_host_facts_of_this_machine():
    facts = host_facts()
    assert facts.processor
    assert 1 <= facts.cores <= os.cpu_count()
    assert facts.memory_bytes > 2**28
    assert facts.packages["torch"] == version("torch")
    assert package_versions(["no-such-package", "pydantic"]) == {"pydantic": version("pydantic")}


def test_containers_are_known_by_their_marks(tmp_path, monkeypatch):
    for name in CONTAINER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert in_container(tmp_path) is None
    (tmp_path / "proc/1").mkdir(parents=True)
    group = tmp_path / "proc/1/cgroup"
    group.write_text("0::/init.scope\n")
    assert in_container(tmp_path) is False
    group.write_text("12:cpu:/kubepods/besteffort/pod42\n")
    assert in_container(tmp_path) is True
    group.write_text("0::/\n")
    monkeypatch.setenv("APPTAINER_NAME", "image.sif")
    assert in_container(tmp_path) is True


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_and_dirt_of_the_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("a = 1\n")
    assert git_state(program) == (None, None)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "program.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(program) == (commit, False)
    (tmp_path / "record.json").write_text("{}")  # results beside the program do not make it dirty
    assert git_state(program) == (commit, False)
    program.write_text("a = 2\n")
    assert git_state(program) == (commit, True)


def test_import_is_light_and_probes_nothing():
    code = (
        "import subprocess, sys\n"
        "def refuse(*a, **k): raise SystemExit('probed: %r' % (a,))\n"
        "subprocess.run = subprocess.Popen = refuse\n"
        "import energylab, energylab.devices, energylab.meters\n"
        "heavy = 'torch transformers diffusers pandas matplotlib scipy pynvml psutil codecarbon'.split()\n"
        "assert not set(heavy) & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
