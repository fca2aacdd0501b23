"""Binary text classification: a head on an encoder or decoder, or an encoder-decoder that names the class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from energylab.record import Quality
from energylab.tasks.base import Row
from energylab.tasks.text2text import HeadOrWords, PromptedSettings


class TextClassificationSettings(PromptedSettings):
    """Settings of a classification task.

    Attributes
    ----------
    labels : dict of int to list of str
        The data's label to the names that models give it, lower case.
    """

    labels: dict[int, list[str]] = Field(min_length=2)


class TextClassification(HeadOrWords):
    """A text in, a label out; quality is accuracy over the labels the model and the data share."""

    Settings = TextClassificationSettings
    columns = ("text", "label")
    references = ("label",)
    head_class = "AutoModelForSequenceClassification"

    def answers(self, inputs: Any, outputs: Any) -> list[str]:
        """Return the name of the chosen class, as the model names it."""
        if self.in_words:
            return super().answers(inputs, outputs)
        names = self.model.config.id2label
        return [names[int(index)] for index in outputs.logits.argmax(dim=-1)]

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Share of texts whose class is the data's. A model with other classes altogether is not scored."""
        from sklearn.metrics import accuracy_score

        metric = "accuracy"
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        if not self.in_words and not self._shares_labels():
            names = ", ".join(map(str, self.model.config.id2label.values()))
            why = f"the model's classes ({names}) are not those of the task"
            return (Quality(metric=metric, value=None, queries=len(rows), meaningless=why),)
        found = [self._label(answer) for answer in answers]
        value = float(accuracy_score([int(row["label"]) for row in rows], found))
        return (Quality(metric=metric, value=value, queries=len(rows), details={"no_class": found.count(-1)}),)

    def right_answers(self, rows: Sequence[Row]) -> list[str]:
        """Return a name of every text's class."""
        return [self.settings.labels[int(row["label"])][0] for row in rows]

    def _shares_labels(self) -> bool:
        found = {self._label(str(name)) for name in self.model.config.id2label.values()}
        return set(self.settings.labels) <= found

    def _label(self, answer: str) -> int:
        """Return the data's label for a model's answer; -1 for one that names none of them."""
        said = answer.strip().lower()
        for label, names in self.settings.labels.items():
            if said in names or (self.in_words and any(said.startswith(name) for name in names)):
                return label
        return -1
