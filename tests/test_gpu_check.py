"""The GPU check from its first part to its last, on a scripted board that runs by the real clock, with tiny models."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from fake_nvml import FakeBoard, FakeNvml

from energylab.clock import Clock, ManualClock
from energylab.devices import board_facts, list_boards
from energylab.errors import ParameterError
from energylab.meters.nvml import NvmlMeter
from energylab.meters.nvml_library import Nvml

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_check.py"


@pytest.fixture
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class MisreadBoard(FakeBoard):
    """A board whose power sensor shows 2 % less than its counter counts."""

    def power_mw(self):
        return round(self.board.power_w(self.clock.now()) * 1000 / 1.02)


def test_without_a_board_it_says_so_and_is_content(gpu_check, monkeypatch, capsys):
    def refuse(*arguments):
        raise ParameterError("torch finds no CUDA device")

    monkeypatch.setattr(gpu_check, "resolve_devices", refuse)
    assert gpu_check.main([]) == 0
    assert "no NVIDIA board to check: torch finds no CUDA device" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "difference"), [(FakeBoard, 0.0), (MisreadBoard, 0.02)])
def test_periods_and_the_counter_against_integrated_power(gpu_check, kind, difference):
    clock = ManualClock(50.0)
    board = kind(clock, tick_s=0.1, refresh_s=0.025, idle_w=400.0)
    with NvmlMeter(0, nvml=FakeNvml(board), clock=clock) as meter:
        found = gpu_check.counter_against_power(meter, lambda: clock.sleep(30.0))
        assert found["difference"] == pytest.approx(difference, abs=0.0005)
        assert found["counter_j"] == pytest.approx(400 * found["duration_s"], rel=0.002)
        counter = gpu_check.steps(meter.read, clock, cap_s=3.0)
        assert counter["median_s"] == pytest.approx(0.1, abs=0.002)
    assert gpu_check.steps(lambda: gpu_check.Reading(1.0, clock.now()), clock, cap_s=0.1) == {
        "reason": "no step was seen"
    }


def test_the_spread_between_sessions_and_the_cost_of_a_process(gpu_check, tmp_path):
    found = [{"part": f"session {n}", "name": "in a new process", "wh_per_1000_queries": 9.0 + n} for n in range(3)]
    found.append({"part": "session 0", "name": "whole process", "process_s": 30.0})
    found.append({"part": "isolation", "name": "in a warm process", "wh_per_1000_queries": 8.0, "wall_s": 12.0})
    gpu_check.between_sessions(found, gpu_check.adder(tmp_path / "f.jsonl"))
    sessions, process = map(json.loads, (tmp_path / "f.jsonl").read_text().splitlines())
    assert sessions["session_cv"] == pytest.approx(0.1)
    assert (process["seconds"], process["energy_ratio"]) == (18.0, 1.25)


def test_what_fails_is_a_finding_with_its_reason_and_the_rest_goes_on(gpu_check, tmp_path, monkeypatch, capsys):
    def fail(**_):
        raise ValueError("a library's own error")

    monkeypatch.setattr(gpu_check.energylab, "measure", fail)
    gpu_check.work("sweep", gpu_check.adder(tmp_path / "f.jsonl"))
    found = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [one["reason"] for one in found] == ["ValueError: a library's own error"] * len(gpu_check.SWEEP)
    assert "sweep: base: reason ValueError: a library's own error" in capsys.readouterr().out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a process that ends with an error says so, too
    assert "ended with 1" in gpu_check.start("meter", tmp_path / "f.jsonl", 300.0)
    assert len((tmp_path / "f.jsonl").read_text().splitlines()) == len(gpu_check.SWEEP)


@pytest.mark.slow
def test_every_part_leaves_its_findings_or_a_reason(gpu_check, tmp_path, monkeypatch, capsys):
    board = FakeBoard(Clock(), tick_s=0.002, refresh_s=0.002)
    nvml = FakeNvml(board)
    monkeypatch.setattr(gpu_check, "meters", lambda: [NvmlMeter(0, nvml=nvml)])
    with Nvml(nvml).started() as library:
        facts = board_facts(library, list_boards(library)[0], 0)
    monkeypatch.setattr(gpu_check, "resolve_devices", lambda *_: (facts,))
    quick = {"samples": 2, "window_s": 0.05, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.1}
    quick["device"] = "cpu"
    monkeypatch.setitem(gpu_check.__dict__, "QUICK", {**gpu_check.QUICK, **quick})
    monkeypatch.setattr(gpu_check, "ONE", {"task": "text_generation", "model": "tiny-llama", "new_tokens": 2})
    tiny = (("image_classification", "tiny-vit"), ("text_generation", "no-such-model"))
    monkeypatch.setattr(gpu_check, "ARCHITECTURES", tiny)
    monkeypatch.setattr(gpu_check, "SWEEP", ({}, {"batch_size": 2}))
    monkeypatch.setattr(gpu_check, "busy", lambda *_: None)
    monkeypatch.setattr(gpu_check.of_meter, "__defaults__", (0.1,))

    def start(part, file, left_s):
        assert left_s > 0
        gpu_check.main(["--part", part, "--file", str(file)])
        return "stopped after 1 s, its share of the time" if part == "sweep" else None

    monkeypatch.setattr(gpu_check, "start", start)
    assert gpu_check.main(["--output", str(tmp_path)]) == 1  # one part was stopped
    text = (tmp_path / "gpu-check-nvidia-h200.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    assert "GPU-" not in text  # whose board it is stays private
    assert {one["part"] for one in found} == {"board", "summary", *gpu_check.PARTS}
    named = {(one["part"], one["name"]): one for one in found}
    for protocol in ("steady", "published-2025-02"):
        one = named["protocols", f"image_classification, tiny-vit, {protocol}"]
        assert one["wh_per_1000_queries"] > 0, one
        assert (one["energy_kind"], one["published_wh"]) == ("measured", "not published")
        assert one["protocol"].startswith(protocol)
    assert "no-such-model" in named["protocols", "text_generation, no-such-model, steady"]["reason"]
    assert set(named["session 0", "in a new process"]["idle_w"]) == {"no_context", "weights_resident", "after_load"}
    assert named["sweep", "batch_size=2"]["wh_per_1000_queries"] > 0
    assert named["summary", "between sessions"]["session_cv"] > 0
    assert "sweep: whole process" in capsys.readouterr().out
