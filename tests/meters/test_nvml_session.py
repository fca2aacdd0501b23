"""Whole sessions of the protocol on scripted NVIDIA boards: their sum, and what their state does to windows."""

from __future__ import annotations

import pynvml
import pytest
from fake_nvml import machine

from energylab.energy import phase_totals
from energylab.meters.nvml import NvmlMeter
from energylab.parameters import Parameters
from energylab.protocol.session import run_session
from energylab.protocol.settings import Settings
from energylab.protocol.workload import FunctionWorkload

SETTINGS = Settings.of(Parameters(runs=2, window_s=10.0, idle_s=2.0, warm_up_min_s=2.0, warm_up_max_s=30.0))
QUERY_S = 0.137


def session(nvml, clock, powers_w, during=lambda number: None, settings=SETTINGS, scored=None):
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
    return run_session(lambda: FunctionWorkload(query, range(8)), meters, settings, clock=clock)


def test_the_energy_of_two_boards_is_their_sum():
    clock, nvml = machine(2, idle_w=70.0)
    found = session(nvml, clock, [500.0, 300.0])
    assert found.valid, found.reasons
    for total in phase_totals(found.windows):
        assert total.energy_j == pytest.approx(8 * QUERY_S * 800.0, rel=0.02)
        assert abs(total.energy_j - 8 * QUERY_S * 800.0) <= total.bound_j
    assert found.idle[0].power_w == pytest.approx(140.0, rel=0.01)
    assert {meter.device for meter in found.meters} == {board.uuid for board in nvml.boards}
    assert nvml.started == 0


def test_a_board_without_a_counter_gives_the_same_energy_by_its_power():
    clock, nvml = machine(1, has_counter=False, refresh_s=0.01, idle_w=400.0)  # constant: any sampling is exact
    meter = NvmlMeter(0, nvml=nvml, clock=clock)
    # The thread samples by the machine's clock, which this session does not follow: samples are taken by hand.
    found = session(nvml, clock, [400.0], during=lambda _: meter._integrator.sample(), scored=[meter])
    assert found.meters[0].source == "NVML_FI_DEV_POWER_INSTANT, integrated"
    assert found.valid, found.reasons
    for total in phase_totals(found.windows):
        assert total.energy_j == pytest.approx(8 * QUERY_S * 400.0, rel=1e-3)
        assert total.bound_j < 0.05 * total.energy_j


def test_a_cotenant_spoils_the_windows_it_was_there_for():
    clock, nvml = machine(1)
    arrivals = {300: [4_000_001, 4_000_002], 380: []}

    def during(number):
        if number in arrivals:
            nvml.boards[0].compute_pids = arrivals[number]

    found = session(nvml, clock, [400.0], during)
    assert found.valid
    spoiled = [window for window in found.windows if not window.valid]
    assert spoiled
    assert {window.reasons for window in spoiled} == {("co_tenant",)}
    assert spoiled[0].states[0].cotenants == (4_000_001, 4_000_002)


def test_heat_spoils_a_window_and_the_power_cap_does_not():
    power, thermal = pynvml.NVML_FI_DEV_PERF_POLICY_POWER, pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL
    clock, nvml = machine(1, fields={power: 0, thermal: 0})

    def during(number):
        nvml.boards[0].fields[power] += round(QUERY_S * 1e9)
        if 200 <= number < 220:
            nvml.boards[0].fields[thermal] += round(QUERY_S * 1e9)

    found = session(nvml, clock, [690.0], during)
    spoiled = [window for window in found.windows if not window.valid]
    assert {window.reasons for window in spoiled} == {("thermal_slowdown",)}
    assert all(window.states[0].power_cap_fraction > 0.9 for window in found.windows)


def test_a_board_lost_halfway_ends_in_a_failure_not_in_a_number():
    clock, nvml = machine(2)

    def during(number):
        if number == 300:
            nvml.lose(nvml.boards[1])

    found = session(nvml, clock, [400.0, 400.0], during)
    assert not found.valid
    assert "device_lost" in found.reasons[0]
    assert all(total.energy_j is None for total in phase_totals(found.windows) if not total.valid)
    assert found.windows[-1].energy_j is None
