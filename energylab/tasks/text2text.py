"""Tasks that two kinds of model answer: an encoder with a head in one pass, or an encoder-decoder in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from energylab.errors import ModelError
from energylab.tasks import models
from energylab.tasks.base import Row, Tokens
from energylab.tasks.family import ModelTask
from energylab.tasks.generation import GenerationMixin
from energylab.tasks.text import HeadMixin, TextSettings, TextTask, longest_input

ONE_PASS = ("preprocess", "forward")
IN_WORDS = ("preprocess", "prefill", "generate")


class PromptedSettings(TextSettings):
    """Settings of a task that encoder-decoders answer in words.

    Attributes
    ----------
    new_tokens : int
        Tokens such a model generates a query.
    prompts : dict of str to str
        Model type to the prompt it was trained with, column names in braces.
    """

    new_tokens: int = Field(ge=1)
    prompts: dict[str, str] = {}


class EncoderDecoder(GenerationMixin, TextTask):
    """A task answered in words by an encoder-decoder, with the prompt its kind was trained with."""

    Settings = PromptedSettings
    phases = IN_WORDS
    prompt: str | None = None

    def auto_class(self, config: Any) -> str:
        """Any encoder-decoder."""
        return "AutoModelForSeq2SeqLM"

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Choose the prompt and the longest input."""
        said = super().ready(loaded)
        self.prompt = self.settings.prompts.get(loaded.config.model_type)
        self.max_input_tokens = longest_input(loaded.config, self.processor)
        return {**said, "prompt": self.prompt, "max_input_tokens": self.max_input_tokens}

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return each row put into the prompt; the bare text for a model that has none."""
        if self.prompt is None:
            return super().texts(rows)
        return [self.prompt.format_map(row) for row in rows]


class HeadOrWords(HeadMixin, EncoderDecoder):
    """A task for which a checkpoint either carries a head (phase ``forward``) or answers in words.

    Which of the two follows from the checkpoint: one trained to generate (T5 and its kin) is asked in words, as
    published; the phases are settled when the model is loaded.
    """

    in_words: bool = False

    def auto_class(self, config: Any) -> str:
        """The class of generating models for a checkpoint that generates, else the one with the head."""
        return "AutoModelForSeq2SeqLM" if generates(config) else self.head_class

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Settle the phases."""
        self.in_words = generates(loaded.config)
        self.phases = IN_WORDS if self.in_words else ONE_PASS
        if self.in_words:
            return self._with_prompt(loaded, super().ready(loaded))
        return {**ModelTask.ready(self, loaded), **self.fit_head(loaded)}

    def _with_prompt(self, loaded: models.Loaded, said: dict[str, Any]) -> dict[str, Any]:
        if self.prompt is None:
            raise ModelError(
                f"model {loaded.origin.name!r} answers in words, and task {self.settings.name!r} has no prompt for "
                f"models of type {loaded.config.model_type!r}: add it to prompts in the task's file, or choose a "
                "model with a head"
            )
        return said

    def count(self, phase: str, inputs: Any, outputs: Any) -> Tokens:
        """Count the tokens of one batch."""
        return super().count(phase, inputs, outputs) if self.in_words else TextTask.count(self, phase, inputs, outputs)


def generates(config: Any) -> bool:
    """Tell whether a checkpoint was trained to answer in words: its class generates from a condition."""
    return any(name.endswith("ForConditionalGeneration") for name in config.architectures or ())
