"""The NVIDIA meter on a scripted library: units, sources, periods, slowdowns, errors."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from fake_nvml import FakeNvml, machine

from energylab.errors import DeviceLostError, MeterError, MeterPermissionError
from energylab.meters import nvml_library
from energylab.meters.nvml import NvmlMeter
from energylab.meters.replay import PowerTrace
from energylab.record import DeviceFacts


def opened(boards=1, driver="580.159.03", **facts):
    clock, nvml = machine(boards, driver, **facts)
    meter = NvmlMeter(0, nvml=nvml, clock=clock)
    meter.open()
    return clock, nvml, meter


def test_creating_a_meter_touches_nothing():
    clock, nvml = machine()
    NvmlMeter(0, nvml=nvml, clock=clock)
    assert not nvml.calls


def test_counter_is_read_in_joules():
    clock, nvml, meter = opened(idle_w=70.0)
    board = nvml.boards[0]
    before = meter.read()
    assert before.energy_j == board.energy_mj() / 1000
    board.board.work(10.0, 500.0)
    after = meter.read()
    # 10 s at 500 W, quantised to a tick of 0.1 s of 70 or 500 W at each edge
    assert after.energy_j - before.energy_j == pytest.approx(5000, abs=0.1 * 500)
    assert after.time_s - before.time_s == pytest.approx(10.0)


@pytest.mark.parametrize("tick_s", [0.02, 0.1, 0.25])
def test_update_period_is_measured_when_opened_and_costs_little_waiting(tick_s):
    clock, nvml = machine(tick_s=tick_s)
    start_s = clock.now()
    meter = NvmlMeter(0, nvml=nvml, clock=clock)
    meter.open()
    assert meter.update_period_s == pytest.approx(tick_s, abs=0.002)
    assert clock.now() - start_s < 3.1
    assert nvml.calls["nvmlDeviceGetTotalEnergyConsumption"] < 1600  # one read every 2 ms: it waits, it does not spin


def test_a_counter_that_does_not_move_is_refused():
    clock, nvml = machine(tick_s=1e9)
    with pytest.raises(MeterError, match="did not move within 3 s: see `nvidia-smi`"):
        NvmlMeter(0, nvml=nvml, clock=clock).open()
    assert nvml.started == 0


def test_facts_of_the_record():
    clock, nvml, meter = opened()
    facts = meter.facts(scored=True)
    assert facts.name == "nvml"
    assert facts.kind == "measured"
    assert facts.device == nvml.boards[0].uuid
    assert facts.source == "nvmlDeviceGetTotalEnergyConsumption"
    assert facts.quantum_j == 0.001
    assert facts.gain_error == 0.05
    assert facts.read_cost_s > 0
    assert meter.power_limit_w == 700.0


def test_boards_are_found_by_uuid():
    clock, nvml = machine(3)
    meter = NvmlMeter(nvml.boards[2].uuid, nvml=nvml, clock=clock)
    with meter:
        nvml.boards[2].board.work(5.0, 300.0)
        assert meter.device == nvml.boards[2].uuid
        assert meter.read().energy_j == nvml.boards[2].energy_mj() / 1000
    assert nvml.started == 0


def test_edge_power_is_the_instantaneous_field_in_watts():
    clock, nvml, meter = opened(idle_w=70.0)
    assert meter.edge_power_w() == pytest.approx(70.0, abs=0.01)
    assert nvml.calls["nvmlDeviceGetPowerUsage"] == 0


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
        nvml.boards[0].board = PowerTrace([clock.now(), clock.now() + 10], [100.0, 500.0])
        for _ in range(200):
            clock.sleep(0.05)
            meter._integrator.sample()
        stop = meter.read()
        assert stop.energy_j - start.energy_j == pytest.approx(300 * 10.0, rel=0.01)
        assert meter.edge_power_w() == pytest.approx(500.0, abs=0.1)
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


def test_neither_counter_nor_power_is_an_error_that_says_what_to_do():
    clock, nvml = machine(has_counter=False, has_instant=False)
    with pytest.raises(MeterError, match="neither an energy counter nor .*A newer driver may help"):
        NvmlMeter(0, nvml=nvml, clock=clock).open()
    assert nvml.started == 0


def test_a_jetson_is_not_told_to_update_its_driver():
    clock, nvml = machine(name="Orin (nvgpu)", has_counter=False, has_instant=False)
    with pytest.raises(MeterError, match="neither an energy counter nor .*tegrastats") as caught:
        NvmlMeter(0, nvml=nvml, clock=clock).open()
    assert "newer driver" not in str(caught.value)


def test_a_board_in_slices_is_refused_with_the_reason():
    clock, nvml = machine(mig=True)
    with pytest.raises(MeterError, match="MIG slice cannot be measured: .* belong to the whole board"):
        NvmlMeter(0, nvml=nvml, clock=clock).open()


def test_boards_that_know_no_slices_are_fine():
    clock, nvml, meter = opened(mig=None)
    assert meter.read().energy_j > 0


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, DeviceLostError, "dmesg"),
        (pynvml.NVML_ERROR_RESET_REQUIRED, DeviceLostError, "reset it or reboot"),
        (pynvml.NVML_ERROR_NO_PERMISSION, MeterPermissionError, "usermod"),
        (pynvml.NVML_ERROR_OPERATING_SYSTEM, MeterPermissionError, "--gpus all"),
        (pynvml.NVML_ERROR_UNKNOWN, MeterError, "UNKNOWN"),
        (pynvml.NVML_ERROR_TIMEOUT, MeterError, "TIMEOUT"),
    ],
)
def test_error_codes_become_our_errors(code, error, says):
    clock, nvml, meter = opened()
    nvml.fail("nvmlDeviceGetTotalEnergyConsumption", code)
    with pytest.raises(MeterError, match=says) as caught:
        meter.read()
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "modprobe"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "reboot"),
        (pynvml.NVML_ERROR_GPU_NOT_FOUND, "no NVIDIA board"),
    ],
)
def test_a_missing_driver_says_what_is_missing(code, says):
    nvml = FakeNvml()
    nvml.fail("nvmlInit", code)
    with pytest.raises(MeterError, match=says):
        NvmlMeter(0, nvml=nvml).open()


def test_another_makers_board_is_not_called_a_missing_driver_of_nvidia(tmp_path, monkeypatch):
    (tmp_path / "kfd").touch()
    monkeypatch.setattr(nvml_library, "_INSTEAD", {tmp_path / "kfd": nvml_library._INSTEAD[Path("/dev/kfd")]})
    nvml = FakeNvml()
    nvml.fail("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    with pytest.raises(MeterError, match="the GPU here is AMD's .ROCm.") as caught:
        NvmlMeter(0, nvml=nvml).open()
    assert "no NVIDIA driver" not in str(caught.value)


def test_a_board_lost_halfway():
    clock, nvml, meter = opened(2)
    nvml.lose(nvml.boards[0])
    with pytest.raises(DeviceLostError):
        meter.read()
    with pytest.raises(DeviceLostError):
        meter.counters()
    other = NvmlMeter(1, nvml=nvml, clock=clock)
    other.open()
    assert other.read().energy_j > 0


def test_reading_a_closed_meter_is_an_error():
    clock, nvml, meter = opened()
    meter.close()
    with pytest.raises(MeterError, match="not open"):
        meter.read()


def test_counters_of_a_board():
    clock, nvml, meter = opened(temperature_c=61, sm_clock_mhz=1755, memory_clock_mhz=2619)
    counters = meter.counters()
    assert (counters.temperature_c, counters.sm_clock_mhz, counters.memory_clock_mhz) == (61, 1755, 2619)
    assert counters.power_w == pytest.approx(70.0, abs=0.01)
    assert counters.cotenants == ()


def test_older_drivers_tell_the_temperature_by_the_older_name():
    clock, nvml, meter = opened(temperature_c=48)
    nvml.fail("nvmlDeviceGetTemperatureV", pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    assert meter.counters().temperature_c == 48


def test_another_process_is_a_cotenant():
    clock, nvml, meter = opened()
    nvml.boards[0].compute_pids = [4_000_001, 4_000_002]
    assert meter.counters().cotenants == (4_000_001, 4_000_002)
    nvml.boards[0].compute_pids = []
    nvml.boards[0].mps_pids = [4_000_003, 4_000_004]
    assert meter.counters().cotenants == (4_000_003, 4_000_004)


def test_older_drivers_list_processes_by_the_older_function():
    clock, nvml, meter = opened()
    nvml.boards[0].compute_pids = [4_000_001, 4_000_002]
    nvml.fail("nvmlDeviceGetComputeRunningProcesses", pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    assert meter.counters().cotenants == (4_000_001, 4_000_002)


def test_a_driver_that_lists_no_processes_is_noted():
    clock, nvml = machine()
    for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2"):
        nvml.fail(function, pynvml.NVML_ERROR_NOT_SUPPORTED)
    with NvmlMeter(0, nvml=nvml, clock=clock) as meter:
        assert "co-tenants cannot be seen" in meter.facts(scored=True).notes[0]


def test_closing_twice_is_harmless():
    clock, nvml, meter = opened()
    meter.close()
    meter.close()
    assert nvml.started == 0


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


@pytest.mark.parametrize("function", ["nvmlDeviceGetViolationStatus", "nvmlDeviceGetCurrentClocksEventReasons"])
def test_a_board_that_may_not_be_asked_for_its_state_is_refused_when_opened(function):
    clock, nvml = machine(driver="550.90.07")
    nvml.fail(function, pynvml.NVML_ERROR_NO_PERMISSION)
    with pytest.raises(MeterPermissionError, match=function):
        NvmlMeter(0, nvml=nvml, clock=clock).open()
    assert nvml.started == 0
