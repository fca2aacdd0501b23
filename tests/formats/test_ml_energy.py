"""ML.ENERGY's files: genuine ones of both leaderboards."""

from __future__ import annotations

import json

import pytest

import energylab
from energylab.formats import import_files

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
