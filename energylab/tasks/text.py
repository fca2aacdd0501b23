"""Tasks on texts: their base class, and text generation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from energylab.errors import ModelError
from energylab.record import Quality
from energylab.tasks.base import Plain, Row, Task, TaskSettings, Tokens, all_finite, unscored
from energylab.tasks.models import moved
from energylab.tasks.synthetic import LengthSettings, draw_lengths, draw_text
from energylab.tasks.tokenizers import local_tokenizer, read_tokenizer, repair_padding, usable_padding

GENERATED = ("preprocess", "prefill", "generate")

#: Longest input in tokens if a configuration states none.
PUBLISHED_LIMIT = 512

#: Model types whose positions begin after the padding id: RoBERTa and related ones.
OFFSET_POSITIONS = {
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet", "xmod",
    "esm", "data2vec-text", "ibert", "luke", "markuplm", "lilt", "layoutlmv3", "altclip",
}  # fmt: skip


class TextSettings(TaskSettings):
    """Settings of a text task."""

    synthetic: dict[str, LengthSettings] = Field(min_length=1)  # length of synthetic text, by column


class TextTask(Task):
    """A task whose queries are texts, answered in one forward pass by a model with the task's head."""

    Settings = TextSettings
    columns = ("text",)
    head_class: ClassVar[str]  # the transformers Auto class: AutoModelForMaskedLM
    padding_side: ClassVar[str] = "right"
    max_input_tokens: int | None = None  # longer inputs are cut, after `open`

    # ---- loading

    def auto_class(self, config: Any) -> str:
        return self.head_class

    def read_processor(self) -> Any:
        if self.origin.architecture is not None:
            return local_tokenizer(self.config, self.origin.architecture.tokenizer, self.padding_side)
        tokenizer = read_tokenizer(self.origin, self.config, padding_side=self.padding_side)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        return tokenizer

    def fit(self) -> dict[str, Any]:
        self.max_input_tokens = longest_input(self.config, self.processor)
        return {"max_input_tokens": self.max_input_tokens}

    def ready(self) -> dict[str, Any]:
        pad = usable_padding(self.config, self.processor)
        if self.batch_size > 1 and pad is None:
            raise ModelError(
                f"batch_size={self.batch_size}: the tokenizer of model {self.origin.name!r} has no padding token, so "
                "texts of different lengths cannot share a batch; use batch_size=1"
            )
        if self.batch_size > 1 and self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = pad
        if hasattr(self.model, "generate") and self.model.generation_config is not None:
            repair_padding(self.model.generation_config, pad)
        return {}

    # ---- rows

    def synthesise(self, count: int, seed: int) -> list[Row]:
        import numpy as np

        rng = np.random.default_rng(seed)
        lengths = {column: draw_lengths(rng, count, lengths) for column, lengths in self.settings.synthetic.items()}
        return [{column: draw_text(rng, lengths[column][row]) for column in lengths} for row in range(count)]

    def check_row(self, row: Row) -> str | None:
        for column in self.input_columns():
            if not isinstance(row[column], str):
                return f"column {column!r} holds {type(row[column]).__name__}, not text"
            if row[column] == "" and self.is_empty(row):
                return f"column {column!r} is empty"
        return None

    # ---- queries

    def texts(self, rows: Sequence[Row]) -> list[str]:
        return [row["text"] for row in rows]

    def second_texts(self, rows: Sequence[Row]) -> list[str] | None:
        """Return the second text of each row, for models that read pairs; None otherwise."""
        return None

    def tokenise(self, rows: Sequence[Row], **options: Any) -> Any:
        """Tokenise rows, cut to the model's longest input; a single row is not padded."""
        settings = {"padding": False, "truncation": self.max_input_tokens is not None}
        settings |= {"max_length": self.max_input_tokens, **options}
        if self.phases[-1] != "forward":
            settings.setdefault("return_token_type_ids", False)
        return self.processor(self.texts(rows), self.second_texts(rows), **settings)

    def prepare(self, rows: Sequence[Row]) -> Any:
        return self.tokenise(rows, padding=len(rows) > 1, return_tensors="pt")

    def features(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        return dict(self.tokenise(rows))

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Count the tokens of every query: those given to the model, and those cut off."""
        ids = self.tokenise(rows, truncation=False, max_length=None, verbose=False)["input_ids"]
        longest = self.max_input_tokens or float("inf")
        return {
            "input_tokens": tuple(min(float(len(row)), longest) for row in ids),
            "truncated_tokens": tuple(max(len(row) - longest, 0.0) for row in ids),
        }

    # ---- after the windows

    def new_ids(self, inputs: Any, outputs: Any) -> Any:
        """Return the generated ids, without the prompt or the decoder's start token."""
        return outputs[:, 1 if self.config.is_encoder_decoder else inputs["input_ids"].shape[1] :]

    def count(self, phase: str, inputs: Any, outputs: Any) -> Tokens:
        """Count the prompt's tokens without padding, and check that exactly the stated number was generated."""
        given = int(inputs["attention_mask"].sum())
        if phase not in ("prefill", "generate"):
            return Tokens(input=given)
        queries, found = self.new_ids(inputs, outputs).shape
        self.check_new_tokens(phase, found)
        return Tokens(input=given, output=queries * found)

    def answers(self, inputs: Any, outputs: Any) -> list[Any]:
        """Return the generated text of every query; families with a head override this."""
        return self.processor.batch_decode(self.new_ids(inputs, outputs), skip_special_tokens=True)

    def finite(self, inputs: Any, outputs: Any) -> bool:
        """Whether a batch's logits are finite; for generation, those of the first new token are computed again."""
        if self.phases[-1] == "forward":
            return all_finite(outputs)
        first = {**self.generation("prefill"), "output_logits": True, "return_dict_in_generate": True}
        return all_finite(self.ask(inputs, first).logits)


class Sampling(Plain):
    """How tokens are sampled; a task without it decodes greedily."""

    temperature: float = Field(gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(50, ge=0)


class TextGenerationSettings(TextSettings):
    """Settings of a text generation task."""

    new_tokens: int = Field(ge=1)  # tokens generated per query
    cache: Literal["static"] | None = None  # cache of keys and values; None: the library's default
    sampling: Sampling | None = None  # None: greedy
    chat: bool = False  # whether the model's chat template is applied to a query


class TextGeneration(TextTask):
    """A decoder continues each text; quality is how well it predicts the texts, in bits per byte."""

    Settings = TextGenerationSettings
    padding_side = "left"
    phases = GENERATED

    def auto_class(self, config: Any) -> str:
        return "AutoModelForSeq2SeqLM" if config.is_encoder_decoder and generates(config) else "AutoModelForCausalLM"

    def resolved_settings(self) -> dict[str, Any]:
        return {**super().resolved_settings(), **self.given("cache")}

    def is_empty(self, row: Row) -> bool:
        return row.get("text") == ""

    def fit(self) -> dict[str, Any]:
        """Leave room for the tokens to generate; longer prompts are cut."""
        self.max_input_tokens = longest_input(self.config, self.processor, self.new_tokens)
        return {"max_input_tokens": self.max_input_tokens, "new_tokens": self.new_tokens}

    def texts(self, rows: Sequence[Row]) -> list[str]:
        if not self.settings.chat or self.processor.chat_template is None:
            return super().texts(rows)
        chats = ([{"role": "user", "content": row["text"]}] for row in rows)
        return [self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]

    def generation(self, phase: str, new_tokens: int | None = None) -> dict[str, Any] | None:
        """Return the arguments of ``generate`` for a phase: greedy, or sampling if the task's settings say so."""
        settings = super().generation(phase, new_tokens)
        if settings is None:
            return None
        if cache := self.given("cache")["cache"]:
            settings["cache_implementation"] = cache
        if self.settings.sampling is not None:
            settings |= {"do_sample": True, **self.settings.sampling.model_dump()}
        return settings

    def call(self, phase: str, inputs: Any) -> Any:
        import torch

        if self.settings.sampling is not None:
            torch.manual_seed(self.parameters.seed)
        return super().call(phase, inputs)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Bits per byte of the texts under the model: comparable between tokenizers, lower is better.

        References
        ----------
        L. Gao et al., "The Pile" (2020), section 3.1: bits per UTF-8 encoded byte.
        """
        meaningless = self.no_quality("bits_per_byte", rows)
        if meaningless is None and self.config.is_encoder_decoder:
            meaningless = unscored("bits_per_byte", rows, "an encoder-decoder gives no likelihood of its own input")
        if meaningless is not None:
            return (meaningless,)
        parts = [self._surprise(row) for row in rows]
        bits, size = (sum(column) for column in zip(*parts, strict=True))
        if not math.isfinite(bits) or not size:
            return (unscored("bits_per_byte", rows, "the model's outputs are not finite numbers"),)
        return (Quality(metric="bits_per_byte", value=bits / size, queries=len(rows), details={"bytes": size}),)

    def _surprise(self, row: Row) -> tuple[float, int]:
        """Return the bits of the tokens after the first one, and the bytes of their text."""
        import torch

        batch = moved(self.prepare([row]), self.device)
        ids = batch["input_ids"]
        with torch.inference_mode():
            logits = self.model(**batch).logits[0, :-1].float()
            nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        text = self.processor.decode(ids[0, 1:], skip_special_tokens=True)
        return float(nats) / math.log(2), len(text.encode())


def generates(config: Any) -> bool:
    return any(name.endswith("ForConditionalGeneration") for name in config.architectures or ())


def longest_input(config: Any, tokenizer: Any, reserved: int = 0) -> int | None:
    """Return the longest input in tokens, as in the published runner: the configuration's positions, else 512.

    `reserved` is subtracted; limits of the tokenizer are ignored. If positions begin after the padding id (where the
    runner itself would fail), the limit is lower by that number.
    """
    limit = getattr(config, "max_position_embeddings", PUBLISHED_LIMIT)
    if limit is None or limit < 0:  # XLNet has -1
        return tokenizer.model_max_length if tokenizer.model_max_length < 1_000_000 else None
    if config.model_type in OFFSET_POSITIONS and getattr(config, "position_embedding_type", "absolute") == "absolute":
        limit -= (config.pad_token_id if config.pad_token_id is not None else 1) + 1
    if limit <= reserved:
        raise ModelError(f"new_tokens={reserved}: no room for a prompt in {limit} positions; lower new_tokens")
    return limit - reserved
