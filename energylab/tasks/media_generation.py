"""Text from pictures or sound: prefill and generate for models whose prompt is no text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from energylab.errors import ModelError
from energylab.record import DataFacts
from energylab.tasks import models
from energylab.tasks.base import Row, Tokens
from energylab.tasks.generation import GenerationMixin
from energylab.tasks.media import Inputs, by_group, in_order


class MediaGenerationMixin(GenerationMixin):
    """Phases ``prefill`` and ``generate`` over `Inputs`, exactly so many tokens each.

    Forced past its own end a model goes on talking, which would spoil every score. So where the answers are scored,
    each query is generated once more outside the windows, greedily as before but free to stop; up to the stop both
    are the same tokens.

    Attributes
    ----------
    prompt_length : int
        Tokens at the head of the model's output that were given, not generated; measured when the model is loaded.
    scored : bool
        Whether the rows carry references, after `load_rows`.
    """

    prompt_length: int = 0
    scored: bool = False
    free: Any = None  # generation settings that let the model stop

    @abstractmethod
    def blank(self) -> Row:
        """Return a query with nothing in it, for one trial when the model is loaded."""

    def load_rows(self) -> tuple[list[Row], DataFacts]:
        """Load the queries, and note whether they can be scored."""
        rows, facts = super().load_rows()
        self.scored = all(row.get(column) is not None for column in self.references for row in rows)
        return rows, facts

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Set decoding up, and see with one blank query how many given tokens an output begins with."""
        kept = loaded.model.generation_config
        self.free = self.decoding_settings(kept, self.new_tokens)
        self.free.min_new_tokens = 0  # None would mean: as the model's own settings say
        said = super().ready(loaded)
        try:
            self.prompt_length = self.prefill(self.preprocess([self.blank()]))[0].shape[1] - 1
        except models.LIBRARY_ERRORS as error:
            raise ModelError(f"model {loaded.origin.name!r} cannot answer a query without a text: {error}") from error
        return said

    def _decode(self, inputs: Inputs, settings: Any) -> list[Any]:
        """Return for each group the ids, shape (queries, prompt_length + new tokens)."""
        call = partial(self.model.generate, generation_config=settings)
        with models.quiet():  # Whisper remarks on its own settings at every call
            return by_group(call, inputs, self.device, self.model.dtype)

    def count(self, phase: str, inputs: Inputs, outputs: Any) -> Tokens:
        """Check that exactly the stated number of tokens was generated; the prompt has no tokens to count."""
        if phase not in ("prefill", "generate"):
            return Tokens()
        for ids in outputs:
            self.check_new_tokens(phase, ids.shape[1] - self.prompt_length)
        return Tokens(output=inputs.queries * (1 if phase == "prefill" else self.new_tokens))

    def answers(self, inputs: Inputs, outputs: list[Any]) -> list[str]:
        """Return the text of every query, up to where the model itself would stop if the answers are scored."""
        if self.scored and self.facts.real_weights and self.parameters.data_source != "synthetic":
            outputs = self._decode(inputs, self.free)
        return in_order(inputs, [self._texts(ids[:, self.prompt_length :]) for ids in outputs])

    def _texts(self, ids: Any) -> Sequence[str]:
        return [text.strip() for text in self.processor.batch_decode(ids, skip_special_tokens=True)]
