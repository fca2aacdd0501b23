"""Reasoning: answer a question after thinking, in at most a stated number of tokens."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from energylab.errors import ModelError, ParameterError, TaskError, nearest
from energylab.record import Quality
from energylab.tasks.architectures import architectures
from energylab.tasks.base import Plain, Row, Tokens, mean_quality
from energylab.tasks.text import TextGeneration

#: Chat template for models with random weights.
LOCAL_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


class ThinkingLevel(Plain):
    """One level of the thinking switch; a family uses some of these fields."""

    template: dict[str, Any] = {}  # arguments of the chat template: {enable_thinking: true}, {reasoning_effort: high}
    system: str | None = None  # a system prompt
    prefix: str = ""  # text that begins the answer: <think>
    thinks: bool = True  # whether the model thinks at this level; an answer without an end of thinking is unfinished


class Thinking(Plain):
    """``options: {thinking: …}`` of a family or a model in ``params/architectures/``: its thinking switch."""

    default: str  # the level used when the parameter ``thinking`` is not given
    levels: dict[str, ThinkingLevel] = Field(min_length=1)  # by name
    end: str | None = None  # text that the model writes between thinking and answer; None if unknown

    def level(self, name: str | None, model: str) -> tuple[str, ThinkingLevel]:
        chosen = self.default if name is None else name
        if chosen not in self.levels:
            match = nearest(chosen, self.levels)
            meant = f"; did you mean {match!r}?" if match else "."
            raise ParameterError(f"unknown thinking={chosen!r} of {model!r}{meant} Allowed: {', '.join(self.levels)}")
        return chosen, self.levels[chosen]


#: For a model without a described family: its unchanged chat template.
PLAIN = Thinking(default="template", levels={"template": ThinkingLevel()})


def find_thinking(model: str, model_type: str, params: str | None = None) -> Thinking:
    """Return the thinking switch of a model: of its own row, else of the family of its type, else `PLAIN`."""
    known = architectures(params)
    if model in known:
        stated = known[model].options.get("thinking")
    else:
        related = (row.family_options for row in known.values() if row.model_type == model_type)
        stated = next((options["thinking"] for options in related if "thinking" in options), None)
    return Thinking.model_validate(stated) if stated else PLAIN


class Reasoning(TextGeneration):
    """A chat model thinks and answers; the parameter ``thinking`` sets its family's thinking switch.

    A model with real weights ends by itself, at most after ``new_tokens`` tokens; random weights, which cannot decide
    to end, generate exactly ``new_tokens``. Thinking tokens are counted separately if the family states their end.
    """

    columns = ("text", "reference")
    references = ("reference",)
    takes = ("thinking",)

    thinking: Thinking = PLAIN
    level: str = PLAIN.default  # the one in use, after `open`
    chosen: ThinkingLevel = PLAIN.levels[PLAIN.default]

    @property
    def open_ended(self) -> bool:
        return self.parameters.model_source != "random"

    # ---- settings

    def resolved_settings(self) -> dict[str, Any]:
        return {**super().resolved_settings(), "thinking": self.parameters.thinking or self.level}

    def overridden(self) -> tuple[str, ...]:
        """Return the settings that differ from the published ones, including another thinking level."""
        other = ["thinking"] if self.parameters.thinking not in (None, self.thinking.default) else []
        return tuple(sorted([*super().overridden(), *other]))

    # ---- loading

    def find(self, request: Any, machine: Any = None) -> Any:
        prepared = super().find(request, machine)
        name = prepared.origin.repo or prepared.origin.name
        self.thinking = find_thinking(name, prepared.config.model_type, self.parameters.params)
        self.level, self.chosen = self.thinking.level(self.parameters.thinking, name)
        return prepared

    def read_processor(self) -> Any:
        tokenizer = super().read_processor()
        if self.origin.architecture is not None:
            tokenizer.chat_template = LOCAL_TEMPLATE
        if tokenizer.chat_template is None:
            raise ModelError(
                f"model {self.origin.name!r} has no chat template, which reasoning needs; use task='text_generation'"
            )
        return tokenizer

    def fit(self) -> dict[str, Any]:
        return {**super().fit(), "thinking": self.level, "open_ended": self.open_ended}

    def generation(self, phase: str, new_tokens: int | None = None) -> dict[str, Any] | None:
        """Return the arguments of ``generate`` for a phase; open-ended answers have no minimum length."""
        settings = super().generation(phase, new_tokens)
        if settings is not None and self.open_ended and phase != "prefill":
            settings["min_new_tokens"] = None
        return settings

    # ---- queries

    def texts(self, rows: Sequence[Row]) -> list[str]:
        system = [{"role": "system", "content": self.chosen.system}] if self.chosen.system is not None else []
        options = {"tokenize": False, "add_generation_prompt": True, **self.chosen.template}
        chats = [[*system, {"role": "user", "content": row["text"]}] for row in rows]
        return [self.processor.apply_chat_template(chat, **options) + self.chosen.prefix for chat in chats]

    def tokenise(self, rows: Sequence[Row], **options: Any) -> Any:
        """Tokenise prompts; the template has already added the special tokens."""
        return super().tokenise(rows, add_special_tokens=False, **options)

    def count(self, phase: str, inputs: Any, outputs: Any) -> Tokens:
        """Count tokens up to the end of each answer; refuse more than the stated number."""
        if phase != "generate" or not self.open_ended:
            return super().count(phase, inputs, outputs)
        ids = self.new_ids(inputs, outputs)
        if ids.shape[1] > self.new_tokens:
            raise TaskError(
                f"generate: the model generated {ids.shape[1]} tokens per query, more than new_tokens={self.new_tokens}"
            )
        return Tokens(input=int(inputs["attention_mask"].sum()), output=sum(len(row) for row in self._ended(ids)))

    def answers(self, inputs: Any, outputs: Any) -> list[dict[str, Any]]:
        """Return for every query the text after thinking, and the tokens of both parts."""
        return [self._split(ids) for ids in self._ended(self.new_ids(inputs, outputs))]

    def score(self, answers: Sequence[dict[str, Any]], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Share of answers whose last number is the reference."""
        meaningless = self.no_quality("exact_match", rows)
        if meaningless is not None:
            return (meaningless,)
        pairs = [(a["text"], str(row["reference"])) for a, row in zip(answers, rows, strict=True)]
        return mean_quality("exact_match", [float(last_number(text) == last_number(right)) for text, right in pairs])

    def right_answers(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        return [_answer(str(row["reference"]), None, 1) for row in rows]

    def extra(self, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Sum the tokens spent thinking and answering; None if the end of thinking is unknown."""
        thinking = [answer["thinking_tokens"] for answer in answers]
        if not thinking or None in thinking:
            return {"thinking_tokens": None}
        answering = sum(answer["answer_tokens"] for answer in answers)
        unfinished = sum(answer["unfinished"] for answer in answers)
        return {"thinking_tokens": sum(thinking), "answer_tokens": answering, "unfinished_queries": unfinished}

    def _ended(self, ids: Any) -> list[list[int]]:
        """Cut every row after its first end token, since padding follows."""
        if not self.open_ended:
            return ids.tolist()
        ends = self.model.generation_config.eos_token_id
        stop = set(ends if isinstance(ends, list) else [ends])
        rows = ids.tolist()
        lengths = [next((n + 1 for n, token in enumerate(row) if token in stop), len(row)) for row in rows]
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]

    def _split(self, ids: list[int]) -> dict[str, Any]:
        if self.thinking.end is None or not self.open_ended:
            return _answer(self.processor.decode(ids, skip_special_tokens=True), None, len(ids))
        found = self._end_of_thinking(ids)
        unfinished = found is None and self.chosen.thinks
        cut = len(ids) if unfinished else found or 0
        text = self.processor.decode(ids[cut:], skip_special_tokens=True).strip()
        return _answer(text, cut, len(ids) - cut, unfinished)

    def _end_of_thinking(self, ids: list[int]) -> int | None:
        """Return the number of tokens up to the end of thinking, however its text is split into tokens."""

        def ended(count: int) -> bool:
            return self.thinking.end in self.processor.decode(ids[:count], skip_special_tokens=False)

        return bisect_left(range(len(ids) + 1), True, key=ended) if ended(len(ids)) else None


def _answer(text: str, thinking: int | None, answering: int, unfinished: bool = False) -> dict[str, Any]:
    return {"text": text, "thinking_tokens": thinking, "answer_tokens": answering, "unfinished": unfinished}


def last_number(text: str) -> float | None:
    """Return the last number in a text, where a worked answer states its result; None if there is none."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return float(found[-1].replace(",", "")) if found else None
