"""Image captioning: say in words what a picture shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from energylab.record import Quality
from energylab.tasks import models
from energylab.tasks.base import Row
from energylab.tasks.drawing import Placed
from energylab.tasks.images import ImageSettings, ImageTask, load_image_processor
from energylab.tasks.media_generation import MediaGenerationMixin
from energylab.tasks.tokenizers import local_tokenizer


class ImageCaptioningSettings(ImageSettings):
    """Settings of image captioning."""

    new_tokens: int = Field(ge=1)  # tokens generated for a query


class ImageCaptioning(MediaGenerationMixin, ImageTask):
    """A decoder describes the picture, given nothing but the picture."""

    Settings = ImageCaptioningSettings
    phases = ("preprocess", "prefill", "generate")
    columns = ("image", "caption")
    references = ("caption",)

    def auto_class(self, config: Any) -> str:
        """Any model that turns a picture into text."""
        return "AutoModelForImageTextToText"

    def load_processor(self, loaded: models.Loaded) -> Any:
        """Load image processor and tokenizer; the tokenizer is the one that decodes answers."""
        from transformers import AutoTokenizer

        self.image_processor = load_image_processor(loaded)
        if loaded.origin.architecture is not None:
            return local_tokenizer(
                getattr(loaded.config, "text_config", loaded.config), loaded.origin.architecture.tokenizer
            )
        return loaded.origin.read(AutoTokenizer.from_pretrained, "tokenizer")

    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        """Caption a picture with what was drawn."""
        return {"caption": caption}

    def blank(self) -> Row:
        """Return a grey picture."""
        from PIL import Image

        file = io.BytesIO()
        Image.new("RGB", (64, 64), "gray").save(file, format="PNG")
        return {"image": file.getvalue()}

    def right_answers(self, rows: Sequence[Row]) -> list[str]:
        """Return the first caption of every picture."""
        return [_captions(row)[0] for row in rows]

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean ROUGE-L F1 against the caption, or the nearest of several.

        References
        ----------
        C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
        """
        metric = "rouge_l"
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"], use_stemmer=True)
        values = [
            scorer.score_multi(_captions(row), answer)["rougeL"].fmeasure
            for answer, row in zip(answers, rows, strict=True)
        ]
        details = {"answers": "free to stop, at most new_tokens"}
        return (Quality(metric=metric, value=sum(values) / len(values), queries=len(rows), details=details),)


def _captions(row: Row) -> list[str]:
    return [row["caption"]] if isinstance(row["caption"], str) else list(row["caption"])
