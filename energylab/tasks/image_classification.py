"""Image classification: the one class of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from energylab.record import Quality
from energylab.tasks.base import Row
from energylab.tasks.drawing import Placed
from energylab.tasks.images import ImageTask
from energylab.tasks.media import Inputs, by_group, in_order


class ImageClassification(ImageTask):
    """A picture goes through the network once; the class with the largest logit is the answer."""

    phases = ("preprocess", "forward")
    columns = ("image", "label")
    references = ("label",)

    def auto_class(self, config: Any) -> str:
        """Any network with an image classification head."""
        return "AutoModelForImageClassification"

    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        """Label a picture with its first thing."""
        return {"label": placed[0].thing.imagenet}

    def forward(self, inputs: Inputs) -> list[Any]:
        """Return for each group the logits, shape (queries, classes)."""
        outputs = by_group(self.model, inputs, self.device, self.model.dtype)
        return [output.logits for output in outputs]

    def answers(self, inputs: Inputs, outputs: list[Any]) -> list[str]:
        """Return the name of the most likely class of every picture."""
        names = self.model.config.id2label
        return in_order(inputs, [[names[index] for index in logits.argmax(-1).tolist()] for logits in outputs])

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Share of pictures whose class is right.

        A class is right when it shares a name with the reference: ImageNet's classes are lists of synonyms.
        """
        metric = "accuracy"
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        known = set().union(*(_names(label) for label in self.model.config.id2label.values()))
        references = [_names(row["label"]) for row in rows]
        unknown = sum(not (reference & known) for reference in references)
        if unknown == len(rows):
            why = "none of the data's labels is a class of the model"
            return (Quality(metric=metric, value=None, queries=len(rows), meaningless=why),)
        right = sum(bool(_names(answer) & names) for answer, names in zip(answers, references, strict=True))
        details = {"labels_unknown_to_the_model": unknown}
        return (Quality(metric=metric, value=right / len(rows), queries=len(rows), details=details),)


def _names(label: Any) -> set[str]:
    """Return the synonyms a label lists, for comparison."""
    return {name.strip().casefold().replace("_", " ") for name in str(label).split(",")}
