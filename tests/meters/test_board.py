"""What a board says of itself: who else is on it, and how long it was slowed, by driver and in its stand-in."""

from __future__ import annotations

import os
import subprocess
import sys

import pynvml
import pytest
from fake_nvml import machine

from energylab.errors import DeviceLostError
from energylab.meters import nvml as board
from energylab.meters.nvml import Tenants, Throttle, cotenants, driver_version, related
from energylab.meters.nvml_library import Nvml

POWER, THERMAL = pynvml.NVML_FI_DEV_PERF_POLICY_POWER, pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL
HW_THERMAL = pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN
HW_BRAKE = pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN


def throttle(driver="580.159.03", **facts):
    clock, module = machine(driver=driver, **facts)
    nvml = Nvml(module)
    nvml.start()
    return clock, module, Throttle(nvml, module.boards[0], clock)


def test_counters_are_nanoseconds_by_field():
    fields = {POWER: 2_500_000_000, THERMAL: 1_000_000, HW_THERMAL: 3_000_000_000, HW_BRAKE: 4_000_000}
    clock, module, held = throttle(fields=fields)
    assert held.seconds() == pytest.approx(
        {"power_cap_s": 2.5, "thermal_s": 0.001, "hardware_slowdown_s": 3.0, "power_brake_s": 0.004}
    )


def test_violation_status_stands_in_where_the_fields_are_missing():
    violations = {pynvml.NVML_PERF_POLICY_POWER: 7_000_000_000, pynvml.NVML_PERF_POLICY_THERMAL: 0}
    clock, module, held = throttle(driver="470.57.02", violations_ns=violations)
    assert held.seconds()["power_cap_s"] == pytest.approx(7.0)
    assert held.seconds()["thermal_s"] == 0.0


def test_a_board_that_says_nothing_gives_none_not_zero():
    clock, module, held = throttle(driver="470.57.02")
    module.fail("nvmlDeviceGetCurrentClocksEventReasons", pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert set(held.seconds().values()) == {None}


@pytest.mark.parametrize("driver", ["575.57.08", "580.65.06"])
def test_drivers_before_the_renumbering_are_not_asked_for_the_new_numbers(driver):
    """To them 269 to 271 are settings of power smoothing: a rate in mW/s would pass for hours of slowdown."""
    clock, module, held = throttle(driver=driver, fields={HW_THERMAL: 10**15, HW_BRAKE: 10**15})
    assert held.seconds()["hardware_slowdown_s"] == 0.0
    assert held.seconds()["power_brake_s"] == 0.0


def test_the_installed_library_uses_the_new_numbers():
    assert (HW_THERMAL, HW_BRAKE) == (270, 271)


def test_the_state_in_force_at_the_end_stands_for_the_interval():
    clock, module, held = throttle(driver="550.90.07")
    held.seconds()
    clock.sleep(10.0)
    module.boards[0].events = pynvml.nvmlClocksEventReasonHwThermalSlowdown
    assert held.seconds()["hardware_slowdown_s"] == pytest.approx(10.0)
    assert held.seconds()["power_brake_s"] == 0.0
    module.boards[0].events = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonGpuIdle
    clock.sleep(5.0)
    assert held.seconds()["hardware_slowdown_s"] == pytest.approx(10.0)


def test_a_lost_board_is_not_a_board_without_counters():
    clock, module, held = throttle()
    module.lose(module.boards[0])
    with pytest.raises(DeviceLostError):
        held.seconds()


def test_driver_version_is_read_as_numbers():
    clock, module, held = throttle(driver="580.65.06")
    assert driver_version(held.nvml) == (580, 65, 6)
    assert (580, 65, 6) < (580, 82) < (580, 159, 3)


def test_nobody():
    assert cotenants([], own={10}) == ()


def test_on_the_host_every_other_process_counts():
    assert cotenants([10, 77, 5], own={10, 11}, host_ids=True) == (5, 77)
    assert cotenants([10, 11], own={10, 11}, host_ids=True) == ()
    assert cotenants([77], own={10}, host_ids=True) == (77,)


def test_in_a_container_with_untranslated_ids_one_unknown_process_is_this_one():
    assert cotenants([90210], own={10}, host_ids=False) == ()
    assert cotenants([90210, 90211], own={10}, host_ids=False) == (90210, 90211)


def test_in_a_container_with_translated_ids_the_others_count():
    assert cotenants([10, 90211], own={10}, host_ids=False) == (90211,)


def test_relatives_are_parents_children_and_threads():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        relatives = related()
        assert {os.getpid(), os.getppid(), child.pid} <= relatives
        assert cotenants([os.getpid(), child.pid, os.getppid()]) == ()
    finally:
        child.kill()
        child.wait()


def test_relatives_are_looked_up_when_the_processes_change_and_only_then(monkeypatch):
    asked = []
    monkeypatch.setattr(board, "cotenants", lambda pids, own: asked.append(pids) or tuple(sorted(pids)))
    tenants = Tenants()
    assert tenants.others([]) == ()
    assert tenants.others([os.getpid()]) == ()
    assert asked == []
    assert tenants.others([7, 8]) == (7, 8)
    assert tenants.others([8, 7]) == (7, 8)
    assert asked == [{7, 8}]
    assert tenants.others([7]) == (7,)
    assert len(asked) == 2


def test_a_server_that_is_measured_is_no_co_tenant(monkeypatch):
    monkeypatch.setattr(board, "in_host_namespace", lambda: True)
    assert Tenants().others([4001, 4002]) == (4001, 4002)
    assert Tenants(served=lambda: {4001}).others([4001, 4002]) == (4002,)
