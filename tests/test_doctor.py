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
from energylab.meters.nvml import NvmlMeter
from energylab.meters.rapl import RaplMeter


def scripted(boards=1, **facts):
    clock, nvml = machine(boards, **facts)
    devices = resolve_devices("cuda", boards, environ={}, nvml=nvml, cuda_count=lambda: boards)
    return nvml, devices, [NvmlMeter(device.uuid, nvml=nvml, clock=clock) for device in devices]


@pytest.fixture
def only(monkeypatch):
    """Let the doctor try these meters alone."""
    return lambda *names: monkeypatch.setattr(doctor, "candidates", lambda: names)


def test_boards_that_can_be_measured():
    nvml, devices, meters = scripted(2)
    found = doctor.report(devices, meters)
    assert [finding.facts.kind for finding in found.meters] == ["measured", "measured"]
    assert found.meters[0].facts.update_period_s == pytest.approx(0.1, abs=0.002)
    assert found.problems == ()
    assert found.follows[0].startswith("energy here will be measured (nvml)")
    assert "windows of 4 s or more" in found.follows[1]
    assert nvml.started == 0


def test_a_missing_permission_is_a_problem_with_its_command(monkeypatch, only):
    nvml, devices, meters = scripted()
    nvml.fail("nvmlDeviceGetTotalEnergyConsumption", pynvml.NVML_ERROR_NO_PERMISSION)
    found = doctor.report(devices, meters)
    assert "usermod" in found.problems[0]
    assert found.follows == ("energy cannot be measured here: no meter works",)
    reason = "energy_uj may not be read; grant it: `sudo chmod a+r …`"
    monkeypatch.setattr(RaplMeter, "unavailable", classmethod(lambda cls, devices: reason))
    only("rapl", "estimate")
    found = doctor.report([cpu_facts()])
    assert found.problems == (f"rapl: {reason}",)
    assert [(finding.name, finding.facts is None) for finding in found.meters] == [("rapl", True), ("estimate", False)]
    assert found.follows == ("energy here will be estimated (estimate), so it cannot be official",)


def test_devices_that_cannot_be_resolved_or_used_are_a_finding(monkeypatch, only):
    def refuse():
        raise ParameterError("CUDA_VISIBLE_DEVICES names 'MIG-1': a MIG slice cannot be measured")

    def fall_back():
        warnings.warn("the session runs on the CPU, not on NVIDIA H200", stacklevel=1)
        return (cpu_facts(),)

    only("estimate")
    for resolve, says in ((refuse, "MIG slice"), (fall_back, "not on NVIDIA H200")):
        monkeypatch.setattr(doctor, "all_devices", resolve)
        found = doctor.report()
        assert says in found.problems[0]
        assert [device.type for device in found.devices] == ["cpu"]


def test_one_screen_says_it_all(monkeypatch):
    monkeypatch.setattr(doctor, "quota_cores", lambda: 1.5)
    nvml, devices, meters = scripted()
    nvml.boards[0].compute_pids = [4_000_001, 4_000_002]
    screen = doctor.render(doctor.report(devices, [*meters, RaplMeter("/absent")]))
    shown = ("NVIDIA H200", devices[0].uuid, "700 W", "580.159.03", "measured", "100 ms", "unavailable", "torch")
    told = ("4000001, 4000002): windows are invalid", "the container's quota: 1.5")
    assert [words for words in (*shown, *told) if words not in " ".join(screen.split())] == []
    assert len(screen.splitlines()) < 40
    assert max(map(len, screen.splitlines())) <= 100


def test_this_machine():
    found = doctor.report()
    assert {finding.name for finding in found.meters} == set(doctor.candidates())
    assert found.follows
    assert found.devices == energylab_devices.all_devices()
    assert found.host.python in doctor.render(found)


def test_a_broken_meter_of_another_package_is_a_finding(monkeypatch, only):
    only("theirs", "estimate")
    monkeypatch.setitem(METERS._builtin, "theirs", "no_such_package.meter:Theirs")
    theirs, estimate = doctor.report([cpu_facts()]).meters
    assert theirs.facts is None
    assert "no_such_package" in theirs.problem
    assert estimate.facts.kind == "estimated"
