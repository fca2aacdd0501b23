"""Text generation: continue a text by a stated number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from energylab.record import Quality
from energylab.tasks import models
from energylab.tasks.base import Row
from energylab.tasks.generation import GenerationMixin, room_for
from energylab.tasks.text import TextSettings, TextTask, longest_input


class TextGenerationSettings(TextSettings):
    """Settings of a text generation task."""

    new_tokens: int = Field(ge=1)  # tokens generated for a query


class TextGeneration(GenerationMixin, TextTask):
    """A decoder continues each text; quality is how well it predicts the texts themselves, in bits a byte."""

    Settings = TextGenerationSettings
    phases = ("preprocess", "prefill", "generate")
    columns = ("text",)
    padding_side = "left"
    may_cache = True

    def auto_class(self, config: Any) -> str:
        """Any causal language model."""
        return "AutoModelForCausalLM"

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Leave room for the tokens to generate, and truncate longer prompts."""
        said = super().ready(loaded)
        longest = longest_input(loaded.config, self.processor, self.new_tokens)
        self.max_input_tokens = room_for(longest, loaded.origin.name)
        return {**said, "max_input_tokens": self.max_input_tokens}

    def preprocess(self, rows: Sequence[Row]) -> Any:
        """Tokenise, padded on the left so that new tokens follow the text."""
        return self.tokenise(rows, return_token_type_ids=False)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Bits a byte of the texts under the model: comparable between tokenizers, lower is better.

        References
        ----------
        L. Gao et al., "The Pile" (2020), section 3.1: bits per UTF-8 encoded byte.
        """
        metric = "bits_per_byte"
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        parts = [self._surprise(row) for row in rows]
        bits, size = (sum(column) for column in zip(*parts, strict=True))
        return (Quality(metric=metric, value=bits / size, queries=len(rows), details={"bytes": size}),)

    def _surprise(self, row: Row) -> tuple[float, int]:
        """Return bits of the tokens after the first one, and the bytes of the text they stand for."""
        import math

        import torch

        batch = self.preprocess([row]).to(self.device)
        ids = batch["input_ids"]
        with torch.inference_mode():
            logits = self.model(**batch).logits[0, :-1].float()
            nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        text = self.processor.decode(ids[0, 1:], skip_special_tokens=True)
        return float(nats) / math.log(2), len(text.encode())
