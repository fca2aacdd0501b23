"""What every task that decodes shares: exactly so many tokens, greedily, whatever the checkpoint prefers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from energylab.errors import ModelError, TaskError
from energylab.tasks import models
from energylab.tasks.base import Row, Tokens
from energylab.tasks.models import moved


class GenerationMixin:
    """Phases ``prefill`` and ``generate`` for a `ModelTask` whose model has transformers' ``generate``.

    Prefill is one forward pass over the prompt that gives the first token: the library's ``generate`` with one new
    token. Generate gives exactly ``new_tokens`` tokens (``min_new_tokens = max_new_tokens``), greedily, with the
    checkpoint's own sampling and penalties set aside. Decode is their difference.
    """

    decoding: tuple[Any, Any] | None = None  # generation settings of prefill and generate

    @property
    def new_tokens(self) -> int:
        """Tokens to generate a query: the parameter, or the task's published value."""
        return self.parameters.new_tokens or self.settings.new_tokens

    @property
    def cache(self) -> str | None:
        """How keys and values are kept: ``static``, in memory of fixed size, or as they grow."""
        return self.parameters.cache or self.settings.cache

    def resolved_settings(self) -> dict[str, Any]:
        """Return every setting that takes part, as used."""
        return {**super().resolved_settings(), "new_tokens": self.new_tokens, "cache": self.cache}

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Replace the checkpoint's generation settings by the protocol's."""
        said = super().ready(loaded)
        kept = loaded.model.generation_config
        self.decoding = self.decoding_settings(kept, 1), self.decoding_settings(kept, self.new_tokens)
        loaded.model.generation_config = self.decoding_settings(kept, self.new_tokens)
        return {**said, "decoding": "greedy", "new_tokens": self.new_tokens}

    def decoding_settings(self, checkpoint: Any, new_tokens: int) -> Any:
        """Return the settings for exactly `new_tokens` tokens; a family adds what its models cannot do without."""
        return greedy(checkpoint, new_tokens, self.processor, self.cache)

    def rehearse(self, rows: Sequence[Row]) -> None:
        """With a cache of fixed size, decode the longest prompts once: memory and compiled code then fit them all."""
        if self.cache is None:
            return
        lengths = self.covariates(rows)["input_tokens"]
        longest = sorted(range(len(rows)), key=lambda row: -lengths[row])[: self.batch_size]
        inputs = self.preprocess([rows[row] for row in longest])
        for _ in range(2):  # the second call runs what the first one has compiled
            self.generate(inputs)
        self.synchronize()

    def prefill(self, inputs: Any) -> Any:
        """Run the prompt and give the first token; shape (queries, prompt + 1)."""
        return self._decode(inputs, self.decoding[0])

    def generate(self, inputs: Any) -> Any:
        """Give exactly `new_tokens` tokens a query; shape (queries, prompt + new_tokens)."""
        return self._decode(inputs, self.decoding[1])

    def _decode(self, inputs: Any, settings: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self.model.generate(**moved(inputs, self.device), generation_config=settings)

    def new_ids(self, inputs: Any, outputs: Any) -> Any:
        """Return the generated ids alone: without the prompt, or without the decoder's start token."""
        start = 1 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return outputs[:, start:]

    def count(self, phase: str, inputs: Any, outputs: Any) -> Tokens:
        """Count the prompt's tokens without padding, and check that exactly the stated number was generated."""
        given = int(inputs["attention_mask"].sum())
        if phase not in ("prefill", "generate"):
            return Tokens(input=given)
        queries, found = self.new_ids(inputs, outputs).shape
        self.check_new_tokens(phase, found)
        return Tokens(input=given, output=queries * found)

    def check_new_tokens(self, phase: str, found: int) -> None:
        """Refuse any number of new tokens a query but the stated one.

        Raises
        ------
        TaskError
            If `found` is not one for ``prefill``, `new_tokens` for ``generate``.
        """
        stated = 1 if phase == "prefill" else self.new_tokens
        if found != stated:
            raise TaskError(f"{phase}: the model generated {found} token(s) a query, {stated} were asked for")

    def answers(self, inputs: Any, outputs: Any) -> list[str]:
        """Return the generated text of every query."""
        return self.processor.batch_decode(self.new_ids(inputs, outputs), skip_special_tokens=True)


def greedy(checkpoint: Any, new_tokens: int, tokenizer: Any, cache: str | None = None) -> Any:
    """Return generation settings for exactly `new_tokens` greedy tokens.

    Parameters
    ----------
    checkpoint : transformers.GenerationConfig
        The model's own settings, of which only the special ids are kept.
    new_tokens : int
        Tokens to generate.
    tokenizer : transformers.PreTrainedTokenizerBase
        Gives the padding id where the checkpoint has none.
    cache : str, optional
        ``static``: keys and values of fixed size. On a GPU the library then compiles the decoding step by itself,
        to CUDA graphs; on a processor it only keeps shapes fixed, unless ``compile`` is asked for too.

    Returns
    -------
    transformers.GenerationConfig
        One beam, no sampling, no penalty.
    """
    from transformers import GenerationConfig

    eos = checkpoint.eos_token_id if checkpoint.eos_token_id is not None else tokenizer.eos_token_id
    pad = checkpoint.pad_token_id if checkpoint.pad_token_id is not None else tokenizer.pad_token_id
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        cache_implementation=cache,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        bos_token_id=checkpoint.bos_token_id,
        eos_token_id=eos,
        pad_token_id=pad,
        decoder_start_token_id=checkpoint.decoder_start_token_id,
        forced_bos_token_id=checkpoint.forced_bos_token_id,
        forced_eos_token_id=checkpoint.forced_eos_token_id,
    )


def room_for(longest: int | None, name: str) -> int | None:
    """Refuse a model whose positions cannot hold a prompt beside the tokens to generate.

    Raises
    ------
    ModelError
        If fewer than one token of the prompt would fit.
    """
    if longest is not None and longest < 1:
        raise ModelError(f"model {name!r}: no room for a prompt beside the tokens to generate; lower new_tokens")
    return longest
