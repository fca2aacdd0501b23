"""ML.ENERGY's files: genuine ones of both leaderboards."""

from __future__ import annotations

import json

import pytest

import energylab


@pytest.mark.parametrize(
    ("name", "field", "phase", "task"),
    [
        ("gpqa", "energy_per_request_joules", "generate", "gpqa"),
        ("text-to-image", "energy_per_image_joules", "call", "image_generation"),
        ("text-to-video", "energy_per_video_joules", "call", "text_to_video"),
        ("google__gemma-3-12b-it__image-chat", "energy_per_request_joules", "generate", "image_chat"),
    ],
)
def test_leaderboard_of_today(name, field, phase, task, samples, imported, tmp_path):
    content = json.loads((samples / f"ml_energy/{name}.json").read_text())
    found = imported(f"ml_energy/{name}.json")
    for each, row in zip(found, ({**content, **row} for row in content["configurations"]), strict=True):
        record = each.record
        assert each.rated.with_wh == pytest.approx(row[field] / 3.6, rel=1e-12)
        assert (record.windows[0].phase, record.task.name, record.model.name) == (phase, task, row["model_id"])
        assert [device.name for device in record.devices] == [row["gpu_model"]] * row["num_gpus"]
        assert record.model.parameters == round(1e9 * row["total_params_billions"])
        assert record.extra["import"]["unit_proof"] == f"field name {field}"
    table = energylab.read(tmp_path / "out")
    assert len(table) == len(found)
    assert table.cohort.nunique() > 1  # another batch or board is another cohort
