"""Slowdowns: nanoseconds to seconds, identifiers by driver, and the stand-in where there is no counter."""

from __future__ import annotations

import pynvml
import pytest
from fake_nvml import machine

from energylab.errors import DeviceLostError
from energylab.meters.nvml_library import Nvml
from energylab.meters.throttle import Throttle, driver_version

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
    clock, module, board = throttle(fields=fields)
    assert board.seconds() == pytest.approx(
        {"power_cap_s": 2.5, "thermal_s": 0.001, "hardware_slowdown_s": 3.0, "power_brake_s": 0.004}
    )


def test_violation_status_stands_in_where_the_fields_are_missing():
    violations = {pynvml.NVML_PERF_POLICY_POWER: 7_000_000_000, pynvml.NVML_PERF_POLICY_THERMAL: 0}
    clock, module, board = throttle(driver="470.57.02", violations_ns=violations)
    assert board.seconds()["power_cap_s"] == pytest.approx(7.0)
    assert board.seconds()["thermal_s"] == 0.0


def test_a_board_that_says_nothing_gives_none_not_zero():
    clock, module, board = throttle(driver="470.57.02")
    module.fail("nvmlDeviceGetCurrentClocksEventReasons", pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert set(board.seconds().values()) == {None}


@pytest.mark.parametrize("driver", ["575.57.08", "580.65.06"])
def test_drivers_before_the_renumbering_are_not_asked_for_the_new_numbers(driver):
    """To them 269 to 271 are settings of power smoothing: a rate in mW/s would pass for hours of slowdown."""
    clock, module, board = throttle(driver=driver, fields={HW_THERMAL: 10**15, HW_BRAKE: 10**15})
    assert board.seconds()["hardware_slowdown_s"] == 0.0
    assert board.seconds()["power_brake_s"] == 0.0


def test_the_installed_library_uses_the_new_numbers():
    assert (HW_THERMAL, HW_BRAKE) == (270, 271)


def test_the_state_in_force_at_the_end_stands_for_the_interval():
    clock, module, board = throttle(driver="550.90.07")
    board.seconds()
    clock.sleep(10.0)
    module.boards[0].events = pynvml.nvmlClocksEventReasonHwThermalSlowdown
    assert board.seconds()["hardware_slowdown_s"] == pytest.approx(10.0)
    assert board.seconds()["power_brake_s"] == 0.0
    module.boards[0].events = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonGpuIdle
    clock.sleep(5.0)
    assert board.seconds()["hardware_slowdown_s"] == pytest.approx(10.0)


def test_a_lost_board_is_not_a_board_without_counters():
    clock, module, board = throttle()
    module.lose(module.boards[0])
    with pytest.raises(DeviceLostError):
        board.seconds()


def test_driver_version_is_read_as_numbers():
    clock, module, board = throttle(driver="580.65.06")
    assert driver_version(board.nvml) == (580, 65, 6)
    assert (580, 65, 6) < (580, 82) < (580, 159, 3)
