"""Image classification and object detection: the library's own answers, whatever the batch, and clear refusals."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from energylab.errors import DataError, ModelError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.detection import mean_average_precision

PARAMS = Path(__file__).parents[2] / "params"
PICTURE = (PARAMS / "samples" / "image_classification" / "01.png").read_bytes()
CLASSIFIERS = ["tiny-vit", "tiny-convnext", "tiny-resnet", "tiny-swin"]
DETECTORS = ["tiny-detr", "tiny-yolos"]


def loaded(**values):
    task = load_task(Parameters(**values))
    rows, _ = task.load_rows()
    task.load("cpu")
    return task, rows


def answers(task, rows):
    inputs = task.prepare(rows)
    return task.answers(inputs, task.run("forward", inputs))


def classifier(folder, names):
    """Load a stored classifier whose classes have these names."""
    task, _ = loaded(task="image_classification", model="tiny-vit", samples=1)
    task.model.config.id2label = dict(enumerate(names))
    task.model.config.label2id = {name: index for index, name in enumerate(names)}
    task.model.save_pretrained(folder)
    task.image_processor.save_pretrained(folder)
    return loaded(task="image_classification", model=str(folder), model_source="path", samples=10)


def params_with_rows(folder, task, rows, **files):
    """Lay out a params folder whose task has these sample rows and files."""
    sample = folder / "samples" / task
    sample.mkdir(parents=True)
    (sample / "about.yaml").write_text("licence: CC0-1.0\n")
    (sample / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, content in files.items():
        (sample / f"{name}.png").write_bytes(content)
    shutil.copytree(PARAMS / "tasks", folder / "tasks")
    return load_task(Parameters(task=task, samples=len(rows), params=str(folder)))


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_classification_answers_as_the_librarys_pipeline(model):
    task, rows = loaded(task="image_classification", model=model, samples=3)
    reference = pipeline("image-classification", model=task.model, image_processor=task.image_processor, device="cpu")
    inputs = task.prepare(rows)
    (logits,) = task.run("forward", inputs)
    for row, mine, answer in zip(rows, logits.softmax(-1), task.answers(inputs, [logits]), strict=True):
        best = reference(Image.open(io.BytesIO(row["image"])).convert("RGB"), top_k=1)[0]
        assert best == {"label": answer, "score": pytest.approx(float(mine.max()), rel=1e-4)}


@pytest.mark.parametrize("model", DETECTORS)
def test_detection_answers_as_the_librarys_pipeline(model):
    task, rows = loaded(task="object_detection", model=model, samples=2)
    reference = pipeline("object-detection", model=task.model, image_processor=task.image_processor, device="cpu")
    for row, mine in zip(rows, answers(task, rows), strict=True):
        found = reference(Image.open(io.BytesIO(row["image"])).convert("RGB"), threshold=0.0)
        found = sorted(found, key=lambda one: -one["score"])
        assert [one["label"] for one in mine] == [one["label"] for one in found]
        for one, other in zip(mine, found, strict=True):
            assert one["score"] == pytest.approx(other["score"], rel=1e-4)
            x, y, width, height = one["box"]
            corners = [other["box"][name] for name in ("xmin", "ymin", "xmax", "ymax")]
            assert np.abs(np.array([x, y, x + width, y + height]) - corners).max() <= 1.0  # the pipeline rounds down


def test_accuracy_counts_right_names(tmp_path):
    names = ["car", "school bus", "x1", "x2", "analog clock", "x3", "x4", "x5", "x6", "x7"]
    task, rows = classifier(tmp_path, names)
    given = ["School_Bus", "school bus, bus", "x1", "x2", "analog clock", *["x3"] * 5]
    quality = task.score(given, rows)[0]
    assert quality.value == pytest.approx(2 / 10)  # the bus and the clock; the first picture shows a car
    assert quality.details["labels_unknown_to_the_model"] == 8


def test_labels_the_model_has_never_seen_give_no_accuracy(tmp_path):
    task, rows = classifier(tmp_path, [f"food {number}" for number in range(10)])
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


@pytest.mark.parametrize("content", [b"", b"not a picture", PICTURE[: len(PICTURE) // 2]])
def test_a_corrupt_picture_is_refused_by_its_row(tmp_path, content):
    rows = [{"image": "a.png"}, {"image": "b.png"}]
    task = params_with_rows(tmp_path, "image_classification", rows, a=PICTURE, b=content)
    with pytest.raises(DataError, match="row 1: .*cannot be decoded"):
        task.load_rows()


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("image_classification", {"image": "absent.png"}, r"absent\.png"),
        ("object_detection", {"image": "a.png", "objects": [{"label": "car"}]}, "row 0: objects must be"),
    ],
)
def test_wrong_rows_are_found_before_anything_is_measured(name, row, message, tmp_path):
    with pytest.raises(DataError, match=message):
        params_with_rows(tmp_path, name, [row], a=PICTURE).load_rows()


@pytest.mark.parametrize("name", ["image_classification", "object_detection", "image_captioning"])
def test_a_model_of_another_task_is_refused(name):
    with pytest.raises(ModelError, match="tiny-bert"):
        load_task(Parameters(task=name, model="tiny-bert")).load("cpu")


def mapped_from(address):
    """Return the file that a part of this process's memory is mapped from."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(bound, 16) for bound in line.split()[0].split("-"))
        if begin <= address < end:
            return line
    return ""


def test_large_pictures_of_a_window_are_kept_in_a_file_not_in_memory(monkeypatch):
    """A DETR picture is 20 MB; a window of hundreds would fill the host."""
    task, rows = loaded(task="object_detection", model="tiny-detr", samples=2)
    monkeypatch.setattr("energylab.tasks.vision.LARGE_BYTES", 1000)  # the tiny model's pictures are small
    inputs = task.prepare(rows)
    kept = task.shelve(inputs)
    for before, after in zip(inputs.groups, kept.groups, strict=True):
        assert mapped_from(after.tensors["pixel_values"].data_ptr()).endswith(".pt (deleted)")
        assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors)
    assert torch.equal(task.run("forward", kept)[0]["logits"], task.run("forward", inputs)[0]["logits"])
