"""Object detection: which things are in a picture, and where."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from energylab.record import Quality
from energylab.tasks.base import Row
from energylab.tasks.drawing import Placed
from energylab.tasks.images import ImageTask
from energylab.tasks.media import Inputs, by_group, in_order

MOST_DETECTIONS = 100  # a picture, as COCO's evaluation counts them


class ObjectDetection(ImageTask):
    """A picture goes through the detector once; every query of the decoder is a box, a class and a score.

    Pictures keep their proportions, so a batch runs in groups of equal size (see `energylab.tasks.media`).
    """

    phases = ("preprocess", "forward")
    columns = ("image", "objects")
    references = ("objects",)

    def auto_class(self, config: Any) -> str:
        """Any DETR-like detector, or YOLOS."""
        return "AutoModelForObjectDetection"

    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        """List every thing with its box."""
        return {"objects": [{"label": one.thing.coco, "box": list(one.box)} for one in placed]}

    def check_row(self, row: Row) -> str | None:
        """Refuse a corrupt picture, and references that are no objects."""
        problem = super().check_row(row)
        if problem or row.get("objects") is None:
            return problem
        for one in row["objects"]:
            if not isinstance(one, dict) or "label" not in one or len(one.get("box", ())) != 4:
                return f"objects must be a list of {{label, box: [x, y, width, height]}}, one is {one!r}"
        return None

    def forward(self, inputs: Inputs) -> list[Any]:
        """Return for each group what the detector returns: logits and boxes of every query of its decoder."""
        return by_group(self.model, inputs, self.device, self.model.dtype)

    def answers(self, inputs: Inputs, outputs: list[Any]) -> list[list[dict[str, Any]]]:
        """Return the detections of every picture, best first: label, score, box as x, y, width, height in pixels."""
        return in_order(
            inputs,
            [
                self._detections(output, [inputs.sizes[position] for position in group.positions])
                for group, output in zip(inputs.groups, outputs, strict=True)
            ],
        )

    def _detections(self, output: Any, sizes: list[tuple[int, int]]) -> list[list[dict[str, Any]]]:
        found = self.image_processor.post_process_object_detection(output, threshold=0.0, target_sizes=sizes)
        return [_best(self.model.config.id2label, one) for one in found]

    def right_answers(self, rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
        """Return every object as a detection that is sure."""
        return [
            [{"label": one["label"], "score": 1.0, "box": list(one["box"])} for one in row["objects"]] for row in rows
        ]

    def score(self, answers: Sequence[list[dict[str, Any]]], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean average precision over classes and over overlaps of 0.50 to 0.95.

        References
        ----------
        T.-Y. Lin et al., "Microsoft COCO" (2014); the evaluation is that of pycocotools.
        """
        metric = "mAP"
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        values = mean_average_precision(answers, [row["objects"] for row in rows])
        if values is None:
            why = "the references hold no object"
            return (Quality(metric=metric, value=None, queries=len(rows), meaningless=why),)
        return (Quality(metric=metric, value=values[0], queries=len(rows), details={"AP50": values[1]}),)


def mean_average_precision(
    answers: Sequence[Sequence[dict[str, Any]]], references: Sequence[Sequence[dict[str, Any]]]
) -> tuple[float, float] | None:
    """Score detections as COCO does.

    Parameters
    ----------
    answers : sequence of sequence of dict
        For each picture its detections: ``label``, ``score``, ``box`` (x, y, width, height in pixels).
    references : sequence of sequence of dict
        For each picture its objects: ``label``, ``box``.

    Returns
    -------
    (float, float) or None
        Mean average precision at overlaps 0.50 to 0.95, and at 0.50; None where there is no object at all.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = sorted({one["label"] for objects in references for one in objects})
    if not labels:
        return None
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    truth = [
        {"image_id": image, "category_id": numbers[one["label"]], "bbox": list(one["box"]), "iscrowd": 0,
         "area": one["box"][2] * one["box"][3]}
        for image, objects in enumerate(references)
        for one in objects
    ]  # fmt: skip
    found = [
        {"image_id": image, "category_id": numbers[one["label"]], "bbox": one["box"], "score": one["score"]}
        for image, objects in enumerate(answers)
        for one in objects
        if one["label"] in numbers
    ]
    if not found:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(references))],
            "categories": [{"id": number, "name": label} for label, number in numbers.items()],
            "annotations": [{"id": number, **one} for number, one in enumerate(truth, start=1)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def _best(names: dict[int, str], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn one picture's tensors into plain detections, best first."""
    order = found["scores"].argsort(descending=True)[:MOST_DETECTIONS]
    detections = []
    for index in order.tolist():
        left, top, right, bottom = found["boxes"][index].tolist()
        detections.append(
            {
                "label": names[int(found["labels"][index])],
                "score": float(found["scores"][index]),
                "box": [left, top, right - left, bottom - top],
            }
        )
    return detections
