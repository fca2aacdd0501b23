"""Object detection: one pass of a detector per picture, scored as COCO does."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from energylab.record import DataFacts, Quality
from energylab.tasks.base import Row, unscored
from energylab.tasks.drawing import Placed
from energylab.tasks.media import Group, Inputs
from energylab.tasks.vision import ImageSettings, ImageTask

MOST_DETECTIONS = 100  # per picture, as in COCO's evaluation


class DetectionSettings(ImageSettings):
    """Settings of object detection."""

    pad_to_largest: bool = False  # whether every picture is padded to the set's largest


class ObjectDetection(ImageTask):
    """Run the detector once per picture; every object query of the decoder gives a box, a class and a score."""

    Settings = DetectionSettings
    columns = ("image", "objects")
    references = ("objects",)
    head_class = "AutoModelForObjectDetection"

    rows: Sequence[Row] = ()  # the whole set, if its largest picture decides the shape of all

    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        return {"objects": [{"label": one.drawable.coco, "box": list(one.box)} for one in placed]}

    def check_row(self, row: Row) -> str | None:
        problem = super().check_row(row)
        if problem or row.get("objects") is None:
            return problem
        for one in row["objects"]:
            if not isinstance(one, dict) or "label" not in one or len(one.get("box", ())) != 4:
                return f"objects must be a list of {{label, box: [x, y, width, height]}}, but one is {one!r}"
        return None

    def load_rows(self) -> tuple[list[Row], DataFacts]:
        rows, facts = super().load_rows()
        self.rows = rows if self.settings.pad_to_largest else []
        return rows, facts

    @cached_property
    def largest(self) -> tuple[int, int]:
        """Height and width that hold every picture of the set, as the image processor makes them."""
        prepared = (super(ObjectDetection, self).prepare([row]) for row in self.rows)
        shapes = [inputs.groups[0].tensors["pixel_values"].shape for inputs in prepared]
        return max(shape[-2] for shape in shapes), max(shape[-1] for shape in shapes)

    def prepare(self, rows: Sequence[Row]) -> Inputs:
        inputs = super().prepare(rows)
        return padded(inputs, *self.largest) if self.rows else inputs

    def keep(self, outputs: Any) -> dict[str, Any]:
        return {"logits": outputs.logits, "pred_boxes": outputs.pred_boxes}

    def answers(self, inputs: Inputs, outputs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        found = []
        for group, output in zip(inputs.groups, outputs, strict=True):
            sizes = [inputs.sizes[position] for position in group.positions]
            boxes = self.image_processor.post_process_object_detection(
                SimpleNamespace(**output), threshold=0.0, target_sizes=sizes
            )
            found.append([_best(self.model.config.id2label, one) for one in boxes])
        return inputs.in_order(found)

    def right_answers(self, rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
        """Return every reference object as a detection with score 1."""
        return [[{**one, "score": 1.0} for one in row["objects"]] for row in rows]

    def score(self, answers: Sequence[list[dict[str, Any]]], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean average precision over classes and over overlaps of 0.50 to 0.95.

        References
        ----------
        T.-Y. Lin et al., "Microsoft COCO" (2014); the evaluation is that of pycocotools.
        """
        meaningless = self.no_quality("mAP", rows)
        if meaningless is not None:
            return (meaningless,)
        values = mean_average_precision(answers, [row["objects"] for row in rows])
        if values is None:
            return (unscored("mAP", rows, "the references contain no objects"),)
        return (Quality(metric="mAP", value=values[0], queries=len(rows), details={"AP50": values[1]}),)


def padded(inputs: Inputs, height: int, width: int) -> Inputs:
    import torch

    def larger(tensor: Any) -> Any:
        return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]))

    alike = [{name: larger(tensor) for name, tensor in group.tensors.items()} for group in inputs.groups]
    positions = tuple(position for group in inputs.groups for position in group.positions)
    return Inputs(
        (Group(positions, {name: torch.cat([one[name] for one in alike]) for name in alike[0]}),), inputs.sizes
    )


def mean_average_precision(
    answers: Sequence[Sequence[dict[str, Any]]], references: Sequence[Sequence[dict[str, Any]]]
) -> tuple[float, float] | None:
    """Score detections as COCO does; labels without a reference do not count. None without any reference."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = sorted({one["label"] for objects in references for one in objects})
    if not labels:
        return None
    numbers = {label: number for number, label in enumerate(labels, start=1)}

    def listed(pictures: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
        known = [(image, one) for image, objects in enumerate(pictures) for one in objects if one["label"] in numbers]
        return [
            {"image_id": n, "category_id": numbers[one["label"]], "bbox": list(one["box"]), **one} for n, one in known
        ]

    found = listed(answers)
    if not found:
        return 0.0, 0.0
    truth = [
        {"id": number, "iscrowd": 0, "area": one["box"][2] * one["box"][3], **one}
        for number, one in enumerate(listed(references), start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
        coco = COCO()
        images, categories = [{"id": n} for n in range(len(references))], [{"id": n} for n in numbers.values()]
        coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": truth}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def _best(names: dict[int, str], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn one picture's tensors into plain detections, best first."""
    detections = []
    for index in found["scores"].argsort(descending=True)[:MOST_DETECTIONS].tolist():
        left, top, right, bottom = found["boxes"][index].tolist()
        score, box = float(found["scores"][index]), [left, top, right - left, bottom - top]
        detections.append({"label": names[int(found["labels"][index])], "score": score, "box": box})
    return detections
