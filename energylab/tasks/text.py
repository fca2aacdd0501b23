"""What the text families share: tokenizers, synthetic texts, and counts of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from energylab.tasks import models
from energylab.tasks.base import Row, TaskSettings, Tokens
from energylab.tasks.family import ModelTask
from energylab.tasks.models import moved
from energylab.tasks.synthetic import LengthSettings, Lexicon, draw_lengths
from energylab.tasks.tokenizers import local_tokenizer


class TextSettings(TaskSettings):
    """Settings of a text task.

    Attributes
    ----------
    synthetic : dict of str to LengthSettings
        Length of synthetic text, by column.
    """

    synthetic: dict[str, LengthSettings] = Field(min_length=1)


class TextTask(ModelTask):
    """A task whose queries are texts."""

    Settings = TextSettings
    padding_side: ClassVar[str] = "right"
    max_input_tokens: int | None = None

    def load_processor(self, loaded: models.Loaded) -> Any:
        """Read the model's own tokenizer, or make one for a random model."""
        from transformers import AutoTokenizer

        architecture = loaded.origin.architecture
        if architecture is not None:
            return local_tokenizer(loaded.config, architecture.tokenizer, self.padding_side)
        tokenizer = loaded.origin.read(AutoTokenizer.from_pretrained, "tokenizer", padding_side=self.padding_side)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        return tokenizer

    def synthesise(self, count: int, seed: int) -> list[Row]:
        """Draw texts of the published lengths for every column that has one."""
        import numpy as np

        rng = np.random.default_rng(seed)
        lengths = {column: draw_lengths(rng, count, lengths) for column, lengths in self.settings.synthetic.items()}
        lexicon = Lexicon.load()
        return [{column: lexicon.text(rng, lengths[column][row]) for column in lengths} for row in range(count)]

    def check_row(self, row: Row) -> str | None:
        """Refuse a text that is missing, empty or no text."""
        for column in self.columns:
            if column in self.references:
                continue
            if not isinstance(row[column], str):
                return f"column {column!r} holds {type(row[column]).__name__}, not text"
            if not row[column].strip():
                return f"column {column!r} is empty"
        return None

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return the text that each row is tokenised from."""
        return [row["text"] for row in rows]

    def second_texts(self, rows: Sequence[Row]) -> list[str] | None:
        """Return the second text of every row, where the model takes in pairs."""
        return None

    def tokenise(self, rows: Sequence[Row], **options: Any) -> Any:
        """Tokenise rows to one padded batch on the CPU, cut to what the model can take in."""
        settings = {"padding": True, "truncation": self.max_input_tokens is not None, "return_tensors": "pt"}
        settings |= {"max_length": self.max_input_tokens, **options}
        return self.processor(self.texts(rows), self.second_texts(rows), **settings)

    def preprocess(self, rows: Sequence[Row]) -> Any:
        """Turn rows into one padded batch of token ids on the CPU."""
        return self.tokenise(rows)

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Count the tokens of every query: those the model is given, and those cut off for want of room."""
        options = {"padding": False, "truncation": False, "return_tensors": None, "max_length": None, "verbose": False}
        whole = [float(len(ids)) for ids in self.tokenise(rows, **options)["input_ids"]]
        longest = self.max_input_tokens or float("inf")
        return {
            "input_tokens": tuple(min(length, longest) for length in whole),
            "truncated_tokens": tuple(max(length - longest, 0.0) for length in whole),
        }

    def count(self, phase: str, inputs: Any, outputs: Any) -> Tokens:
        """Count the tokens that are not padding."""
        return Tokens(input=int(inputs["attention_mask"].sum()))


class HeadMixin:
    """Phase ``forward`` for a text task whose model carries a head: one pass gives the answer.

    Attributes
    ----------
    head_class : str
        The transformers Auto class of models with the task's head: ``AutoModelForMaskedLM``.
    """

    head_class: ClassVar[str]

    def fit_head(self, loaded: models.Loaded) -> dict[str, Any]:
        """Find the longest input, and give a decoder with a head the padding id by which it finds the last token."""
        self.max_input_tokens = longest_input(loaded.config, self.processor)
        if loaded.model.config.pad_token_id is None:
            loaded.model.config.pad_token_id = self.processor.pad_token_id
        return {"max_input_tokens": self.max_input_tokens}

    def forward(self, inputs: Any) -> Any:
        """Run the model and its head on one batch."""
        import torch

        with torch.inference_mode():
            return self.model(**moved(inputs, self.device))


class OnePass(HeadMixin, TextTask):
    """A text task that a model with a head answers in one pass: name `head_class`, and say how to read and score it."""

    phases = ("preprocess", "forward")

    def auto_class(self, config: Any) -> str:
        """The class of models with the task's head, whatever the configuration."""
        return self.head_class

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Take the longest input from the model."""
        return {**super().ready(loaded), **self.fit_head(loaded)}


def longest_input(config: Any, tokenizer: Any, reserved: int = 0) -> int | None:
    """Return how many tokens a model can take in, leaving room for `reserved` more; None where nothing limits it.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        The model's configuration.
    tokenizer : transformers.PreTrainedTokenizerBase
        Its tokenizer.
    reserved : int
        Tokens the model will generate in the same positions.
    """
    text = config.get_text_config(decoder=False)
    names = ("max_position_embeddings", "max_encoder_position_embeddings", "n_positions")
    limits = [getattr(text, name) for name in names if isinstance(getattr(text, name, None), int)]
    if text.model_type in ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet"):
        limits = [limit - text.pad_token_id - 1 for limit in limits]  # positions start after the padding's
    if tokenizer.model_max_length < 1_000_000:
        limits.append(tokenizer.model_max_length)
    return min(limits) - reserved if limits else None
