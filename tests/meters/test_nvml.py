"""The NVIDIA meter on a scripted library: units, sources, periods, slowdowns, other processes, errors, sessions."""

from __future__ import annotations

import os
import subprocess
import sys

import pynvml
import pytest
from fake_nvml import FakeNvml, machine

from energylab.energy import phase_totals
from energylab.errors import DeviceLostError, MeterError, MeterPermissionError
from energylab.meters import nvml as nvml_meter
from energylab.meters import nvml_library
from energylab.meters.nvml import NvmlMeter, Throttle, cotenants, related
from energylab.meters.nvml_library import Nvml
from energylab.parameters import Parameters
from energylab.protocol.session import run_session
from energylab.protocol.settings import Settings
from energylab.protocol.workload import FunctionWorkload
from energylab.record import DeviceFacts

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
EVENTS = "nvmlDeviceGetCurrentClocksEventReasons"
POWER, THERMAL = pynvml.NVML_FI_DEV_PERF_POLICY_POWER, pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL
HW_THERMAL = pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN
HW_BRAKE = pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN
INTEGRATED = "NVML_FI_DEV_POWER_INSTANT, integrated"


@pytest.fixture
def opened():
    """Open a meter on the last of some equal boards; a sampler's thread, by the machine's clock, is stopped."""
    meters = []

    def made(boards=1, driver="580.159.03", served=None, **facts):
        clock, nvml = machine(boards, driver, **facts)
        meter = NvmlMeter(nvml.boards[-1].uuid, nvml=nvml, clock=clock, served=served)
        meter.open()
        meters.append((meter, nvml))
        if meter._integrator is not None:
            meter._integrator.stop()  # every sample is taken by hand
        return clock, nvml, meter

    yield made
    for meter, nvml in meters:
        meter.close()
        assert nvml.started == 0


def test_the_counter_of_a_board_found_by_uuid_is_read_in_joules(opened):
    clock, nvml, meter = opened(boards=3, idle_w=70.0)
    board = nvml.boards[2]
    assert meter.device == board.uuid
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
def test_update_period_is_measured_when_opened_and_costs_little_waiting(opened, tick_s):
    clock, nvml, meter = opened(tick_s=tick_s)
    assert meter.update_period_s == pytest.approx(tick_s, abs=0.002)
    assert clock.now() - 1000.0 < 3.1
    assert nvml.calls[COUNTER] < 1600  # one read every 2 ms: it waits, it does not spin


def test_edge_power_is_the_limit_where_the_board_does_not_tell(opened):
    clock, nvml, meter = opened(has_instant=False, limit_w=350.0)
    assert meter.edge_power_w() == 350.0
    nvml.fail("nvmlDeviceGetFieldValues", pynvml.NVML_ERROR_UNKNOWN)
    assert meter.edge_power_w() == 350.0


def test_without_a_counter_instantaneous_power_is_integrated(opened):
    clock, nvml, meter = opened(has_counter=False, idle_w=70.0)
    assert (meter.source, meter.update_period_s) == (INTEGRATED, None)
    assert meter.latency_s == pytest.approx(0.05, abs=0.003)  # the sensor's refresh
    start = meter.read()
    for tenth in range(100):  # a ramp from 100 to 500 W
        nvml.boards[0].board.work(0.1, 102.0 + 4 * tenth)
        clock._now -= 0.01  # within the piece
        meter._integrator.sample()
        clock._now += 0.01
    usual_s = meter.latency_s
    assert meter.read().energy_j - start.energy_j == pytest.approx(300 * 10.0, rel=0.01)
    assert meter.edge_power_w() == pytest.approx(498.0, abs=0.1)
    clock.sleep(2.0)
    meter.read()
    assert meter.latency_s > usual_s + 1.9  # a starved sampler widens the bound
    nvml.boards[0].has_instant = False
    with pytest.raises(MeterError, match="does not report its instantaneous power"):
        meter.read()


NOT_SUPPORTED, DENIED = pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION
SILENT = {"has_counter": False, "has_instant": False}


@pytest.mark.parametrize(
    ("facts", "failing", "error", "message"),
    [
        ({"tick_s": 1e9}, (), MeterError, "did not move within 3 s: see `nvidia-smi`"),
        ({"name": "Tesla K80", **SILENT}, (), MeterError, "neither an energy counter nor .*try a newer driver"),
        (
            {"name": "Orin (nvgpu)", **SILENT},
            (),
            MeterError,
            r"instantaneous power field \(\w+\): .*no power on a Jetson.*tegrastats",
        ),
        ({"mig": True}, (), MeterError, "MIG slice cannot be measured: .* belong to the whole board"),
        ({}, (COUNTER, pynvml.NVML_ERROR_GPU_IS_LOST), DeviceLostError, "dmesg"),
        ({}, (COUNTER, pynvml.NVML_ERROR_RESET_REQUIRED), DeviceLostError, "reset it or reboot"),
        ({}, (COUNTER, DENIED), MeterPermissionError, "usermod"),
        ({}, (COUNTER, pynvml.NVML_ERROR_OPERATING_SYSTEM), MeterPermissionError, "--gpus all"),
        ({}, (COUNTER, pynvml.NVML_ERROR_TIMEOUT), MeterError, "TIMEOUT"),
        ({}, ("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND), MeterError, "no NVIDIA driver"),
        ({}, ("nvmlInit", pynvml.NVML_ERROR_DRIVER_NOT_LOADED), MeterError, "modprobe"),
        ({}, ("nvmlInit", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH), MeterError, "reboot"),
        ({}, ("nvmlInit", pynvml.NVML_ERROR_GPU_NOT_FOUND), MeterError, "no NVIDIA board"),
        ({"driver": "550.90.07"}, (EVENTS, DENIED), MeterPermissionError, EVENTS),
    ],
)
def test_what_cannot_be_measured_is_refused_when_opened_with_what_to_do(facts, failing, error, message):
    clock, nvml = machine(**facts)
    if failing:
        nvml.fail(*failing)
    with pytest.raises(MeterError, match=message) as caught:
        NvmlMeter(0, nvml=nvml, clock=clock).open()
    assert isinstance(caught.value, error)
    assert error is not MeterError or not isinstance(caught.value, DeviceLostError | MeterPermissionError)
    assert nvml.started == 0


def test_another_makers_board_is_not_called_a_missing_driver_of_nvidia(tmp_path, monkeypatch):
    (tmp_path / "kfd").touch()
    monkeypatch.setattr(nvml_library, "INSTEAD", {tmp_path / "kfd": nvml_library.AMD})
    nvml = FakeNvml()
    nvml.fail("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    with pytest.raises(MeterError, match="an AMD GPU .ROCm.") as caught:
        NvmlMeter(0, nvml=nvml).open()
    assert "no NVIDIA driver" not in str(caught.value)


def test_a_device_that_is_no_board_is_refused_not_left_out():
    devices = [DeviceFacts(name="NVIDIA H200", type="cuda", uuid="GPU-a"), DeviceFacts(name="MI300X", type="cuda")]
    with pytest.raises(MeterError, match="MI300X has no UUID"):
        NvmlMeter.for_devices(devices, None)


def test_counters_of_a_board(opened):
    clock, nvml, meter = opened(temperature_c=61, sm_clock_mhz=1755, memory_clock_mhz=2619)
    counters = meter.counters()
    assert (counters.temperature_c, counters.sm_clock_mhz, counters.memory_clock_mhz) == (61, 1755, 2619)
    assert (counters.power_w, counters.cotenants) == (pytest.approx(70.0, abs=0.01), ())
    nvml.fail("nvmlDeviceGetTemperature", pynvml.NVML_ERROR_DEPRECATED)  # a driver that has its successor alone
    assert meter.counters().temperature_c == 61


# ---- slowdowns


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
    module.fail(EVENTS, NOT_SUPPORTED)
    assert set(held.seconds().values()) == {None}


@pytest.mark.parametrize("driver", ["575.57.08", "580.65.06"])
def test_drivers_before_the_renumbering_are_not_asked_for_the_new_numbers(driver):
    """To them 269 to 271 are settings of power smoothing: a rate in mW/s would pass for hours of slowdown."""
    clock, module, held = throttle(driver=driver, fields={HW_THERMAL: 10**15, HW_BRAKE: 10**15})
    assert (held.seconds()["hardware_slowdown_s"], held.seconds()["power_brake_s"]) == (0.0, 0.0)


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


# ---- other processes


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


def test_users_of_a_board_are_co_tenants_but_for_a_server_that_is_measured(opened, monkeypatch):
    monkeypatch.setattr(nvml_meter, "in_host_namespace", lambda: True)
    clock, nvml, meter = opened(served=lambda: {4_000_001})
    nvml.boards[0].compute_pids, nvml.boards[0].mps_pids = [4_000_001, 4_000_002], [4_000_003]
    assert meter.counters().cotenants == (4_000_002, 4_000_003)


def test_a_driver_that_lists_no_processes_is_noted():
    clock, nvml = machine()
    nvml.fail("nvmlDeviceGetComputeRunningProcesses", NOT_SUPPORTED)
    with NvmlMeter(0, nvml=nvml, clock=clock) as meter:
        assert "other processes on the board are not detected" in meter.facts(scored=True).notes[0]


# ---- whole sessions of the protocol

SETTINGS = Settings.of(Parameters(runs=2, window_s=10.0, idle_s=2.0, warm_up_min_s=2.0, warm_up_max_s=30.0))
QUERY_S = 0.137


def session(nvml, clock, powers_w, during=lambda number: None, scored=None):
    """Run a session whose queries draw `powers_w` on the boards; `during` is called with each query's number."""
    calls = []

    def query(_):
        during(len(calls))
        calls.append(0)
        start_s = clock.now()
        for board, power_w in zip(nvml.boards, powers_w, strict=True):
            clock._now = start_s  # boards work side by side, and SimulatedBoard.work moves the one clock
            board.board.work(QUERY_S, power_w)

    meters = scored or [NvmlMeter(board.uuid, nvml=nvml, clock=clock) for board in nvml.boards]
    found = run_session(lambda: FunctionWorkload(query, range(8)), meters, SETTINGS, clock=clock)
    assert nvml.started == 0
    return found


def test_the_energy_of_two_boards_is_their_sum():
    clock, nvml = machine(2, idle_w=70.0)
    found = session(nvml, clock, [500.0, 300.0])
    assert found.valid, found.reasons
    for total in phase_totals(found.windows):
        assert total.energy_j == pytest.approx(8 * QUERY_S * 800.0, rel=0.02)
        assert abs(total.energy_j - 8 * QUERY_S * 800.0) <= total.bound_j
    assert found.idle[0].power_w == pytest.approx(140.0, rel=0.01)
    assert {meter.device for meter in found.meters} == {board.uuid for board in nvml.boards}


def test_a_board_without_a_counter_gives_the_same_energy_by_its_power():
    clock, nvml = machine(1, has_counter=False, refresh_s=0.01, idle_w=400.0)  # constant: any sampling is exact
    meter = NvmlMeter(0, nvml=nvml, clock=clock)
    # The thread samples by the machine's clock, which this session does not follow: samples are taken by hand.
    found = session(nvml, clock, [400.0], during=lambda _: meter._integrator.sample(), scored=[meter])
    assert found.meters[0].source == INTEGRATED
    assert found.valid, found.reasons
    for total in phase_totals(found.windows):
        assert total.energy_j == pytest.approx(8 * QUERY_S * 400.0, rel=1e-3)
        assert total.bound_j < 0.05 * total.energy_j


def test_a_cotenant_and_heat_spoil_the_windows_they_were_there_for_and_the_power_cap_does_not():
    clock, nvml = machine(1, fields={POWER: 0, THERMAL: 0})
    board = nvml.boards[0]

    def during(number):
        board.compute_pids = [4_000_001, 4_000_002] if 300 <= number < 380 else []
        board.fields[POWER] += round(QUERY_S * 1e9)
        board.fields[THERMAL] += round(QUERY_S * 1e9) if 200 <= number < 220 else 0

    found = session(nvml, clock, [690.0], during)
    spoiled = [window for window in found.windows if not window.valid]
    assert {reason for window in spoiled for reason in window.reasons} == {"thermal_slowdown", "co_tenant"}
    assert spoiled[-1].states[0].cotenants == (4_000_001, 4_000_002)
    assert all(window.states[0].power_cap_fraction > 0.9 for window in found.windows)


def test_a_board_lost_halfway_ends_in_a_failure_not_in_a_number():
    clock, nvml = machine(2)
    found = session(nvml, clock, [400.0, 400.0], lambda number: number == 300 and nvml.lose(nvml.boards[1]))
    assert not found.valid
    assert "device_lost" in found.reasons[0]
    assert all(total.energy_j is None for total in phase_totals(found.windows) if not total.valid)
    assert found.windows[-1].energy_j is None
