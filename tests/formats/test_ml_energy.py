"""ML.ENERGY's files: genuine ones of both leaderboards, and raw results."""

from __future__ import annotations

import json

import pytest

import energylab
from energylab.errors import FormatError
from energylab.formats import Asked, import_files

WH_PER_1000 = 1000 / 3600


@pytest.mark.parametrize(
    ("name", "field", "phase", "task"),
    [
        ("gpqa", "energy_per_request_joules", "generate", "gpqa"),
        ("text-to-image", "energy_per_image_joules", "call", "image_generation"),
        ("text-to-video", "energy_per_video_joules", "call", "text_to_video"),
        ("google__gemma-3-12b-it__image-chat", "energy_per_request_joules", "generate", "image_chat"),
    ],
)
def test_leaderboard_of_today(name, field, phase, task, samples, tmp_path):
    path = samples / f"ml_energy/{name}.json"
    found = import_files([path], tmp_path)
    content = json.loads(path.read_text())
    for each, row in zip(found, content["configurations"], strict=True):
        record = each.record
        assert each.rated.with_wh == pytest.approx(row[field] * WH_PER_1000, rel=1e-12)
        assert record.windows[0].phase == phase
        assert record.task.name == task
        assert record.model.name == row.get("model_id", content.get("model_id"))
        assert [device.name for device in record.devices] == [row["gpu_model"]] * row["num_gpus"]
        assert record.model.parameters == round(
            1e9 * row.get("total_params_billions", content.get("total_params_billions"))
        )
        assert record.extra["import"]["unit_proof"] == f"field name {field}"
    assert len(energylab.read(tmp_path)) == len(content["configurations"])
    assert energylab.read(tmp_path).cohort.nunique() > 1  # another batch or board is another cohort


def served(**changes):
    """Build a served model's result by the figures of the benchmark's own documentation."""
    return {"model_id": "Qwen/Qwen3-8B", "gpu_model": "H100", "num_gpus": 1, "max_num_seqs": 128, "num_prompts": 1024,
            "completed": 1024, "duration": 135.2, "steady_state_duration": 97.6, "steady_state_energy": 54631.48,
            "steady_state_energy_per_token": 0.093545, "total_output_tokens": 661234, **changes}  # fmt: skip


def test_results_of_a_served_model(write, tmp_path):
    [found] = import_files([write("results.json", served())], tmp_path / "out", Asked(task="lm_arena_chat"))
    assert found.record.queries == 1024
    assert found.rated.with_wh == pytest.approx(0.093545 * 661234 / 1024 * WH_PER_1000, rel=1e-12)
    assert "possible power (560 W)" in found.record.extra["import"]["unit_proof"]
    assert found.record.windows[0].output_tokens == 661234


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steady_state_energy": 0.0}, "--unit, one of"),
        ({"steady_state_energy": 15.18}, "--unit, one of"),  # Wh or kJ: too near for power to tell
    ],
)
def test_results_whose_unit_shows_nowhere(changes, says, write, tmp_path):
    with pytest.raises(FormatError, match=says):
        import_files([write("results.json", served(**changes))], tmp_path / "out", Asked(task="chat"))


@pytest.mark.parametrize(
    ("lost", "reason", "energy_j"),
    [(None, "no_value", None), (0.0, "zero_reading", 800.0), (-1.0, "negative_energy", 799.0)],
)
def test_a_gpu_without_a_figure_does_not_hide_among_others(write, tmp_path, lost, reason, energy_j):
    """One of two GPUs whose meter failed in one iteration: half of its energy would be gone, and nobody told."""
    iterations = [{"time": 2.0, "gpu_energy": {"0": 800.0, "1": 700.0}} for _ in range(3)]
    iterations[1]["gpu_energy"]["1"] = lost
    content = {"model_id": "black-forest-labs/FLUX.1-dev", "batch_size": 4, "num_iterations": 3, "total_images": 12,
               "total_time": 6.0, "total_energy": 4500.0, "iteration_energy_measurements": iterations}  # fmt: skip
    [found] = import_files([write("results.json", content)], tmp_path / "out", Asked(task="image_generation"))
    window = found.record.windows[1]
    assert (window.valid, window.reasons, window.energy_j) == (False, (reason,), energy_j)
    assert not found.record.valid
    assert found.rated.without_wh == pytest.approx(1500.0 / 4 * WH_PER_1000)


def test_results_of_a_diffusion_model(write, tmp_path):
    iterations = [{"time": 2.0, "gpu_energy": {"0": 800.0 + n, "1": 700.0}} for n in range(3)]
    content = {"model_id": "black-forest-labs/FLUX.1-dev", "batch_size": 4, "num_iterations": 3, "height": 1024,
               "total_images": 12, "total_time": 6.0, "total_energy": 4503.0,
               "iteration_energy_measurements": iterations}  # fmt: skip
    [found] = import_files([write("results.json", content)], tmp_path / "out", Asked(task="image_generation"))
    assert found.record.queries == 4
    assert [w.energy_j for w in found.record.windows] == [1500.0, 1501.0, 1502.0]
    assert found.rated.with_wh == pytest.approx(1501.0 / 4 * WH_PER_1000)
    assert len(found.record.devices) == 2
