"""The doctor: what it finds on scripted boards, on this machine, and how it says it."""

from __future__ import annotations

import warnings

import pynvml
import pytest
from fake_nvml import machine

from energylab import devices as energylab_devices
from energylab import doctor
from energylab.devices import cpu_facts, resolve_devices
from energylab.errors import ParameterError
from energylab.meters import METERS
from energylab.meters.estimate import EstimateMeter
from energylab.meters.nvml import NvmlMeter
from energylab.meters.rapl import RaplMeter


def scripted(boards=1, **facts):
    clock, nvml = machine(boards, **facts)
    devices = resolve_devices("cuda", boards, environ={}, nvml=nvml, cuda_count=lambda: boards)
    return nvml, devices, [NvmlMeter(device.uuid, nvml=nvml, clock=clock) for device in devices]


def test_boards_that_can_be_measured():
    nvml, devices, meters = scripted(2)
    found = doctor.report(devices, meters)
    assert [finding.kind for finding in found.meters] == ["measured", "measured"]
    assert found.meters[0].update_period_s == pytest.approx(0.1, abs=0.002)
    assert found.problems == ()
    assert found.follows[0].startswith("energy here will be measured (nvml)")
    assert "windows of 4 s or more" in found.follows[1]
    assert nvml.started == 0


def test_cotenants_are_named():
    nvml, devices, meters = scripted()
    nvml.boards[0].compute_pids = [4_000_001, 4_000_002]
    found = doctor.report(devices, meters)
    assert any("4000001, 4000002" in line and "invalid" in line for line in found.follows)


def test_a_missing_permission_is_a_problem_with_its_command():
    nvml, devices, meters = scripted()
    nvml.fail("nvmlDeviceGetTotalEnergyConsumption", pynvml.NVML_ERROR_NO_PERMISSION)
    found = doctor.report(devices, meters)
    assert "usermod" in found.problems[0]
    assert found.follows == ("energy cannot be measured here: no meter works",)


def test_an_estimate_cannot_be_official():
    found = doctor.report([cpu_facts()], [EstimateMeter()])
    assert found.follows == ("energy here will be estimated (estimate); it cannot be official",)


def test_counters_for_root_alone_name_the_command(monkeypatch):
    reason = "energy_uj may not be read; grant it: `sudo chmod a+r …`"
    monkeypatch.setattr(RaplMeter, "unavailable", classmethod(lambda cls, devices: reason))
    monkeypatch.setattr(doctor, "candidates", lambda: ("rapl", "estimate"))
    found = doctor.report([cpu_facts()])
    assert found.problems == (f"rapl: {reason}",)
    assert [(finding.name, finding.kind) for finding in found.meters] == [("rapl", None), ("estimate", "estimated")]


def test_devices_that_cannot_be_resolved_are_a_finding(monkeypatch):
    def refuse():
        raise ParameterError("CUDA_VISIBLE_DEVICES names 'MIG-1': a MIG slice cannot be measured")

    monkeypatch.setattr(doctor, "all_devices", refuse)
    monkeypatch.setattr(doctor, "candidates", lambda: ("estimate",))
    found = doctor.report()
    assert "MIG slice" in found.problems[0]
    assert [device.type for device in found.devices] == ["cpu"]


def test_a_board_that_torch_cannot_use_is_a_finding(monkeypatch):
    def fall_back():
        warnings.warn("NVIDIA H200 is installed but the session runs on the CPU", stacklevel=1)
        return (cpu_facts(),)

    monkeypatch.setattr(doctor, "all_devices", fall_back)
    monkeypatch.setattr(doctor, "candidates", lambda: ("estimate",))
    assert "NVIDIA H200 is installed" in doctor.report().problems[0]


def test_one_screen_says_it_all():
    nvml, devices, meters = scripted()
    nvml.boards[0].compute_pids = [4_000_001, 4_000_002]
    screen = doctor.render(doctor.report(devices, [*meters, RaplMeter("/absent")]))
    shown = (
        "NVIDIA H200",
        devices[0].uuid,
        "700 W",
        "580.159.03",
        "measured",
        "100 ms",
        "not here",
        "torch",
        "4000001",
    )
    assert [words for words in shown if words not in screen] == []
    assert len(screen.splitlines()) < 40
    assert max(map(len, screen.splitlines())) <= 100


def test_this_machine():
    found = doctor.report()
    assert {finding.name for finding in found.meters} == set(doctor.candidates())
    assert found.follows
    assert found.devices == energylab_devices.all_devices()
    assert found.host.python in doctor.render(found)


def test_a_containers_processor_quota_is_shown(monkeypatch):
    monkeypatch.setattr(doctor, "quota_cores", lambda: 1.5)
    screen = doctor.render(doctor.report([cpu_facts()], [EstimateMeter()]))
    assert "the container's quota: 1.5" in " ".join(screen.split())


def test_a_broken_meter_of_another_package_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "candidates", lambda: ("theirs", "estimate"))
    monkeypatch.setitem(METERS._builtin, "theirs", "no_such_package.meter:Theirs")
    theirs, estimate = doctor.report([cpu_facts()]).meters
    assert theirs.kind is None
    assert "no_such_package" in theirs.problem
    assert estimate.kind == "estimated"
