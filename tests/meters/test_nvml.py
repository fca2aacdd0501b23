"""The NVIDIA meter on a scripted library: units, sources, periods, slowdowns, other processes, errors."""

from __future__ import annotations

import os
import subprocess
import sys

import pynvml
import pytest
from fake_nvml import FakeNvml, machine

from energylab.errors import DeviceLostError, MeterError, MeterPermissionError
from energylab.meters import nvml as nvml_meter
from energylab.meters import nvml_library
from energylab.meters.nvml import NvmlMeter, Throttle, cotenants, related
from energylab.meters.nvml_library import Nvml
from energylab.record import DeviceFacts

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
POWER, THERMAL = pynvml.NVML_FI_DEV_PERF_POLICY_POWER, pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL
HW_THERMAL = pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN
HW_BRAKE = pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN


def opened(boards=1, driver="580.159.03", **facts):
    clock, nvml = machine(boards, driver, **facts)
    meter = NvmlMeter(0, nvml=nvml, clock=clock)
    meter.open()
    return clock, nvml, meter


def test_counter_is_read_in_joules():
    clock, nvml, meter = opened(idle_w=70.0)
    board = nvml.boards[0]
    assert meter.edge_power_w() == pytest.approx(70.0, abs=0.01)  # of this instant, not the average
    assert nvml.calls["nvmlDeviceGetPowerUsage"] == 0
    before = meter.read()
    assert before.energy_j == board.energy_mj() / 1000
    board.board.work(10.0, 500.0)
    after = meter.read()
    # 10 s at 500 W, quantised to a tick of 0.1 s of 70 or 500 W at each edge
    assert after.energy_j - before.energy_j == pytest.approx(5000, abs=0.1 * 500)
    assert after.time_s - before.time_s == pytest.approx(10.0)


@pytest.mark.parametrize("tick_s", [0.02, 0.25])
def test_update_period_is_measured_when_opened_and_costs_little_waiting(tick_s):
    clock, nvml, meter = opened(tick_s=tick_s)
    assert meter.update_period_s == pytest.approx(tick_s, abs=0.002)
    assert clock.now() - 1000.0 < 3.1
    assert nvml.calls[COUNTER] < 1600  # one read every 2 ms: it waits, it does not spin


def test_boards_are_found_by_uuid():
    clock, nvml = machine(3)
    meter = NvmlMeter(nvml.boards[2].uuid, nvml=nvml, clock=clock)
    with meter:
        nvml.boards[2].board.work(5.0, 300.0)
        assert meter.device == nvml.boards[2].uuid
        assert meter.read().energy_j == nvml.boards[2].energy_mj() / 1000
    assert nvml.started == 0


def test_edge_power_is_the_limit_where_the_board_does_not_tell():
    clock, nvml, meter = opened(has_instant=False, limit_w=350.0)
    assert meter.edge_power_w() == 350.0
    nvml.fail("nvmlDeviceGetFieldValues", pynvml.NVML_ERROR_UNKNOWN)
    assert meter.edge_power_w() == 350.0


def test_without_a_counter_instantaneous_power_is_integrated():
    clock, nvml, meter = opened(has_counter=False, idle_w=70.0)
    try:
        assert meter.source == "NVML_FI_DEV_POWER_INSTANT, integrated"
        assert meter.update_period_s is None
        assert meter.latency_s == pytest.approx(0.05, abs=0.003)  # the sensor's refresh
        meter._integrator.stop()  # the thread lives by the machine's clock; here every sample is taken by hand
        start = meter.read()
        for tenth in range(100):  # a ramp from 100 to 500 W
            nvml.boards[0].board.work(0.1, 102.0 + 4 * tenth)
            clock._now -= 0.01  # within the piece
            meter._integrator.sample()
            clock._now += 0.01
        stop = meter.read()
        assert stop.energy_j - start.energy_j == pytest.approx(300 * 10.0, rel=0.01)
        assert meter.edge_power_w() == pytest.approx(498.0, abs=0.1)
    finally:
        meter.close()


def test_a_starved_sampler_widens_the_bound():
    clock, nvml, meter = opened(has_counter=False)
    meter._integrator.stop()
    meter.read()
    usual_s = meter.latency_s
    clock.sleep(2.0)
    meter.read()
    assert meter.latency_s > usual_s + 1.9
    meter.close()


SILENT = {"has_counter": False, "has_instant": False}


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"tick_s": 1e9}, "did not move within 3 s: see `nvidia-smi`"),
        ({"name": "Tesla K80", **SILENT}, "neither an energy counter nor .*A newer driver may help"),
        ({"name": "Orin (nvgpu)", **SILENT}, "neither an energy counter nor .*a Jetson's power .*tegrastats"),
        ({"mig": True}, "MIG slice cannot be measured: .* belong to the whole board"),
    ],
)
def test_a_board_that_cannot_be_measured_is_refused_with_what_to_do(facts, says):
    clock, nvml = machine(**facts)
    with pytest.raises(MeterError, match=says) as caught:
        NvmlMeter(0, nvml=nvml, clock=clock).open()
    assert ("newer driver" in str(caught.value)) == (facts.get("name") == "Tesla K80")
    assert nvml.started == 0


@pytest.mark.parametrize(
    ("function", "code", "error", "says"),
    [
        (COUNTER, pynvml.NVML_ERROR_GPU_IS_LOST, DeviceLostError, "dmesg"),
        (COUNTER, pynvml.NVML_ERROR_RESET_REQUIRED, DeviceLostError, "reset it or reboot"),
        (COUNTER, pynvml.NVML_ERROR_NO_PERMISSION, MeterPermissionError, "usermod"),
        (COUNTER, pynvml.NVML_ERROR_OPERATING_SYSTEM, MeterPermissionError, "--gpus all"),
        (COUNTER, pynvml.NVML_ERROR_TIMEOUT, MeterError, "TIMEOUT"),
        ("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, MeterError, "no NVIDIA driver"),
        ("nvmlInit", pynvml.NVML_ERROR_DRIVER_NOT_LOADED, MeterError, "modprobe"),
        ("nvmlInit", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, MeterError, "reboot"),
        ("nvmlInit", pynvml.NVML_ERROR_GPU_NOT_FOUND, MeterError, "no NVIDIA board"),
    ],
)
def test_error_codes_become_our_errors_with_what_to_do(function, code, error, says):
    clock, nvml = machine()
    nvml.fail(function, code)
    with pytest.raises(MeterError, match=says) as caught:
        NvmlMeter(0, nvml=nvml, clock=clock).open()
    assert type(caught.value) is error
    assert nvml.started == 0


def test_another_makers_board_is_not_called_a_missing_driver_of_nvidia(tmp_path, monkeypatch):
    (tmp_path / "kfd").touch()
    monkeypatch.setattr(nvml_library, "INSTEAD", {tmp_path / "kfd": nvml_library.AMD})
    nvml = FakeNvml()
    nvml.fail("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    with pytest.raises(MeterError, match="the GPU here is AMD's .ROCm.") as caught:
        NvmlMeter(0, nvml=nvml).open()
    assert "no NVIDIA driver" not in str(caught.value)


def test_counters_of_a_board():
    clock, nvml, meter = opened(temperature_c=61, sm_clock_mhz=1755, memory_clock_mhz=2619)
    counters = meter.counters()
    assert (counters.temperature_c, counters.sm_clock_mhz, counters.memory_clock_mhz) == (61, 1755, 2619)
    assert (counters.power_w, counters.cotenants) == (pytest.approx(70.0, abs=0.01), ())
    nvml.fail("nvmlDeviceGetTemperature", pynvml.NVML_ERROR_DEPRECATED)  # a driver that has its successor alone
    assert meter.counters().temperature_c == 61


def test_another_process_is_a_cotenant():
    clock, nvml, meter = opened()
    nvml.boards[0].compute_pids = [4_000_001, 4_000_002]
    assert meter.counters().cotenants == (4_000_001, 4_000_002)
    nvml.boards[0].compute_pids = []
    nvml.boards[0].mps_pids = [4_000_003, 4_000_004]
    assert meter.counters().cotenants == (4_000_003, 4_000_004)


def test_a_driver_that_lists_no_processes_is_noted():
    clock, nvml = machine()
    nvml.fail("nvmlDeviceGetComputeRunningProcesses", pynvml.NVML_ERROR_NOT_SUPPORTED)
    with NvmlMeter(0, nvml=nvml, clock=clock) as meter:
        assert "co-tenants cannot be seen" in meter.facts(scored=True).notes[0]


def test_a_device_that_is_no_board_is_refused_not_left_out():
    devices = [DeviceFacts(name="NVIDIA H200", type="cuda", uuid="GPU-a"), DeviceFacts(name="MI300X", type="cuda")]
    with pytest.raises(MeterError, match="MI300X has no UUID"):
        NvmlMeter.for_devices(devices, None)


def test_power_that_stops_being_told_ends_the_integral():
    clock, nvml, meter = opened(has_counter=False)
    meter._integrator.stop()
    nvml.boards[0].has_instant = False
    with pytest.raises(MeterError, match="does not tell its instantaneous power"):
        meter.read()
    meter.close()


def test_a_board_that_may_not_be_asked_for_its_state_is_refused_when_opened():
    clock, nvml = machine(driver="550.90.07")
    nvml.fail("nvmlDeviceGetCurrentClocksEventReasons", pynvml.NVML_ERROR_NO_PERMISSION)
    with pytest.raises(MeterPermissionError, match="nvmlDeviceGetCurrentClocksEventReasons"):
        NvmlMeter(0, nvml=nvml, clock=clock).open()
    assert nvml.started == 0


def throttle(driver="580.159.03", **facts):
    clock, module = machine(driver=driver, **facts)
    nvml = Nvml(module)
    nvml.start()
    return clock, module, Throttle(nvml, module.boards[0], clock)


def test_counters_are_nanoseconds_by_field():
    assert (HW_THERMAL, HW_BRAKE) == (270, 271)  # the installed library uses the new numbers
    fields = {POWER: 2_500_000_000, THERMAL: 1_000_000, HW_THERMAL: 3_000_000_000, HW_BRAKE: 4_000_000}
    clock, module, held = throttle(fields=fields)
    assert held.seconds() == pytest.approx(
        {"power_cap_s": 2.5, "thermal_s": 0.001, "hardware_slowdown_s": 3.0, "power_brake_s": 0.004}
    )


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


@pytest.mark.parametrize(
    ("present", "host_ids", "others"),
    [
        ({10, 77, 5}, True, (5, 77)),  # on the host every other process counts
        ({10, 11}, True, ()),
        ({77}, True, (77,)),
        ({90210}, False, ()),  # in a container with untranslated ids one unknown process is this one
        ({90210, 90211}, False, (90210, 90211)),
        ({10, 90211}, False, (90211,)),  # with translated ids the others count
    ],
)
def test_other_processes_on_the_host_and_in_containers(monkeypatch, present, host_ids, others):
    monkeypatch.setattr(nvml_meter, "in_host_namespace", lambda: host_ids)
    assert cotenants(present, own={10, 11}) == others


def test_relatives_are_parents_children_and_threads():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        relatives = related()
        assert {os.getpid(), os.getppid(), child.pid} <= relatives
        assert cotenants({os.getpid(), child.pid, os.getppid()}, own=relatives) == ()
    finally:
        child.kill()
        child.wait()


def test_a_server_that_is_measured_is_no_co_tenant(monkeypatch):
    monkeypatch.setattr(nvml_meter, "in_host_namespace", lambda: True)
    clock, nvml = machine()
    nvml.boards[0].compute_pids = [4001, 4002]
    with NvmlMeter(0, nvml=nvml, clock=clock, served=lambda: {4001}) as meter:
        assert meter.counters().cotenants == (4002,)
