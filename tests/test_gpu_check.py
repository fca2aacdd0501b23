"""The GPU check's own arithmetic, on a scripted board; and that it says so where there is none."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_nvml import FakeBoard, FakeNvml

from energylab.clock import ManualClock
from energylab.energy import PhaseTotal
from energylab.errors import ParameterError
from energylab.meters.nvml import NvmlMeter
from energylab.record import DeviceFacts

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_check.py"


@pytest.fixture(scope="module")
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def opened(board):
    meter = NvmlMeter(0, nvml=FakeNvml(board), clock=board.clock)
    meter.open()
    return meter


class MisreadBoard(FakeBoard):
    """A board whose power sensor shows 2 % less than its counter counts."""

    def power_mw(self):
        return round(self.board.power_w(self.clock.now()) * 1000 / 1.02)


def test_without_a_board_it_says_so_and_is_content(gpu_check, monkeypatch, capsys):
    def refuse(*arguments):
        raise ParameterError("torch sees no CUDA device here")

    monkeypatch.setattr(gpu_check, "resolve_devices", refuse)
    assert gpu_check.main([]) == 0
    assert "no NVIDIA board to check: torch sees no CUDA device here" in capsys.readouterr().out


def test_update_periods_of_counter_and_sensor(gpu_check):
    clock = ManualClock(50.0)
    found = gpu_check.update_periods(opened(FakeBoard(clock, tick_s=0.1, refresh_s=0.025)), cap_s=3.0)
    assert found["counter_s"]["median"] == pytest.approx(0.1, abs=0.002)
    assert found["instant_power_s"]["median"] == pytest.approx(0.025, abs=0.002)
    assert found["counter_s"]["count"] >= 25


def test_a_counter_without_steps_has_no_period(gpu_check):
    clock = ManualClock()
    assert gpu_check.steps(lambda: (1.0, clock.now()), clock, cap_s=0.1) is None


@pytest.mark.parametrize(("kind", "difference"), [(FakeBoard, 0.0), (MisreadBoard, 0.02)])
def test_the_counter_is_compared_with_integrated_power(gpu_check, kind, difference):
    clock = ManualClock(50.0)
    board = kind(clock, idle_w=400.0)  # constant, so that it does not matter when the thread samples
    found = gpu_check.counter_against_power(opened(board), lambda: clock.sleep(30.0))
    assert found["difference"] == pytest.approx(difference, abs=0.0005)
    assert found["counter_j"] == pytest.approx(400 * found["duration_s"], rel=0.002)
    assert 30.0 <= found["duration_s"] <= 30.25


def record(energies_j, valid=True, queries=10):
    totals = [
        PhaseTotal(run=run, phase=phase, queries=queries, energy_j=part, bound_j=None, duration_s=1.0, windows=1,
                   invalid_windows=0, input_tokens=None, output_tokens=None)
        for run, parts in enumerate(energies_j)
        for phase, part in zip(("preprocess", "prefill", "generate", "decode"), parts, strict=True)
    ]  # fmt: skip
    idle = [SimpleNamespace(level=level, power_w=70.0) for level in ("no_context", "weights_resident", "after_load")]
    return SimpleNamespace(totals=lambda: totals, queries=queries, idle=idle, windows=[], valid=valid, reasons=())


def test_a_query_is_its_scored_phases_alone(gpu_check):
    assert gpu_check.run_energies_j(record([(1.0, 400.0, 999.0, 599.0)])) == [100.0]


def test_a_run_without_a_total_is_left_out(gpu_check):
    assert gpu_check.run_energies_j(record([(1.0, 4.0, 99.0, 95.0), (1.0, 4.0, None, None)])) == [10.0]


def test_spread_between_runs_and_between_sessions(gpu_check):
    sessions = [record([(0.0, 0.0, 36.0 * a, 0.0), (0.0, 0.0, 36.0 * b, 0.0)]) for a, b in ((99, 101), (109, 111))]
    found = gpu_check.spread(sessions)
    # means 100 and 110 units of 3.6 J a query: 1 Wh per 1,000 queries each
    assert found["wh_per_1000_queries"] == pytest.approx(105.0)
    assert found["run_cv"] == pytest.approx((2**0.5 / 100 + 2**0.5 / 110) / 2)
    assert found["session_cv"] == pytest.approx(50**0.5 / 105)
    assert found["idle_w"][0] == {"no_context": 70.0, "weights_resident": 70.0, "after_load": 70.0}


def test_findings_are_written_with_the_boards_name_and_without_its_identity(gpu_check, tmp_path, monkeypatch):
    clock = ManualClock(50.0)
    meter = opened(FakeBoard(clock))
    device = DeviceFacts(name="NVIDIA H200", type="cuda", index=0, uuid="GPU-secret", driver="580.159.03")
    session = gpu_check.spread([record([(0.0, 0.0, 36.0, 0.0)])])
    monkeypatch.setattr(gpu_check, "run_sessions", lambda *arguments: [record([(0.0, 0.0, 36.0, 0.0)])])
    monkeypatch.setattr(gpu_check, "spread", lambda records: session)
    monkeypatch.setattr(gpu_check, "NvmlMeter", lambda uuid: NvmlMeter(0, nvml=meter._nvml.module, clock=clock))
    monkeypatch.setattr(gpu_check, "busy", lambda seconds, on_s, off_s, device, clock: None)
    compared = {
        "counter_j": 101.0,
        "integrated_j": 100.0,
        "difference": 0.01,
        "duration_s": 30.0,
        "longest_gap_s": 0.02,
    }
    monkeypatch.setattr(gpu_check, "counter_against_power", lambda meter, work: compared)
    asked = {"model": "openai-community/gpt2", "samples": 4, "sessions": 1, "runs": 2, "window": 5.0, "load": 30.0}
    arguments = argparse.Namespace(**asked)
    text = gpu_check.write(gpu_check.check(arguments, device), tmp_path)
    assert text.name == "gpu-check-nvidia-h200.txt"
    said = text.read_text()
    for part in ("NVIDIA H200, driver 580.159.03", "difference +1.00% (goal within 1 %)", "1 Wh per 1,000 queries",
                 "counter steps every", "no_context 70.0 W", "random over real weights: 1.0000"):  # fmt: skip
        assert part in said
    kept = text.with_suffix(".json").read_text()
    assert "GPU-" not in said + kept
    assert json.loads(kept)["meter"]["source"] == "nvmlDeviceGetTotalEnergyConsumption"
