"""Image classification and object detection: scores of worked cases, and pictures kept out of memory."""

from pathlib import Path

import pytest
import torch
from task_builders import answers, loaded, saved

from energylab.errors import ModelError
from energylab.tasks.detection import mean_average_precision


def classifier(folder, names):
    """Load a stored classifier whose classes have these names."""
    task, _ = loaded("image_classification", "tiny-vit", samples=1)
    task.model.config.id2label = dict(enumerate(names))
    task.model.config.label2id = {name: index for index, name in enumerate(names)}
    task.processor = None
    return loaded("image_classification", saved(task, folder), samples=10)


def test_accuracy_counts_right_names_and_needs_some_that_the_model_knows(tmp_path):
    names = ["car", "school bus", "x1", "x2", "analog clock", "x3", "x4", "x5", "x6", "x7"]
    task, rows = classifier(tmp_path / "known", names)
    given = ["School_Bus", "school bus, bus", "x1", "x2", "analog clock", *["x3"] * 5]
    quality = task.score(given, rows)[0]
    assert quality.value == pytest.approx(2 / 10)  # the bus and the clock; the first picture shows a car
    assert quality.details["labels_unknown_to_the_model"] == 8
    task, rows = classifier(tmp_path / "unknown", [f"food {number}" for number in range(10)])
    assert "none of the data's labels" in task.score(answers(task, rows), rows)[0].meaningless


def boxes(*entries):
    return [
        {"label": label, "box": list(box), **({"score": score[0]} if score else {})} for label, box, *score in entries
    ]


def test_mean_average_precision_of_worked_cases():
    truth = [boxes(("car", (10, 10, 100, 80)), ("cup", (200, 200, 40, 40))), boxes(("car", (0, 0, 50, 50)))]
    perfect = [
        boxes(("car", (10, 10, 100, 80), 0.9), ("cup", (200, 200, 40, 40), 0.8)),
        boxes(("car", (0, 0, 50, 50), 0.7)),
    ]
    assert mean_average_precision(perfect, truth) == pytest.approx((1.0, 1.0))
    # one of two cars found: precision 1 up to recall 1/2, so 51 of COCO's 101 points; the cup is found
    assert mean_average_precision([perfect[0], []], truth)[1] == pytest.approx((51 / 101 + 1) / 2)
    # shifted by a tenth of its width: overlap 9/11 = 0.818, right at 7 of the 10 thresholds
    one = [boxes(("car", (0, 0, 100, 100)))]
    shifted = [boxes(("car", (10, 0, 100, 100), 0.9))]
    assert mean_average_precision(shifted, one) == pytest.approx((0.7, 1.0))
    assert mean_average_precision([[]], one) == (0.0, 0.0)
    assert mean_average_precision([[]], [[]]) is None
    assert mean_average_precision([boxes(("dog", (0, 0, 100, 100), 0.9))], one) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["image_classification", "object_detection", "image_captioning"])
def test_a_model_of_another_task_is_refused(name):
    with pytest.raises(ModelError, match="tiny-bert"):
        loaded(name, "tiny-bert")


def mapped_from(address):
    """Return the file that a part of this process's memory is mapped from."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(bound, 16) for bound in line.split()[0].split("-"))
        if begin <= address < end:
            return line
    return ""


def test_large_pictures_of_a_window_are_kept_in_a_file_not_in_memory(monkeypatch):
    """A DETR picture is 20 MB; a window of hundreds would fill the host."""
    task, rows = loaded("object_detection", "tiny-detr", samples=2)
    monkeypatch.setattr("energylab.tasks.vision.LARGE_BYTES", 1000)  # the tiny model's pictures are small
    inputs = task.prepare(rows)
    kept = task.shelve(inputs)
    for before, after in zip(inputs.groups, kept.groups, strict=True):
        assert mapped_from(after.tensors["pixel_values"].data_ptr()).endswith(".pt (deleted)")
        assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors)
    assert torch.equal(task.run("forward", kept)[0]["logits"], task.run("forward", inputs)[0]["logits"])
