"""Text tasks that some models solve by generating from a prompt: classification, question answering, summaries."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any

from pydantic import Field

from energylab.errors import ModelError
from energylab.record import Quality
from energylab.tasks import models
from energylab.tasks.base import Row, mean_quality, rouge_l, unscored
from energylab.tasks.text import GENERATED, TextSettings, TextTask, generates, longest_input

LONGEST_ANSWER_TOKENS = 15  # longest span, as the library's question answering pipeline had by default


class PromptedSettings(TextSettings):
    """Settings of a task that some models answer by generating text."""

    new_tokens: int = Field(ge=1)  # tokens that such a model generates per query
    prompts: dict[str, str] = {}  # model type -> prompt it was trained with, with column names in braces


class PromptedTask(TextTask):
    """Models of a type with a prompt generate their answer; others run one forward pass with their head."""

    Settings = PromptedSettings
    prompt: str | None = None  # template filled by a row's columns, after `open`

    @property
    def generative(self) -> bool:
        return self.phases == GENERATED

    def auto_class(self, config: Any) -> str:
        """Return the class for generating models if there is a prompt, else the class with the task's head."""
        return "AutoModelForSeq2SeqLM" if self.prompt_of(config) else self.head_class

    def prompt_of(self, config: Any) -> str | None:
        """Return the prompt for models of a type that were trained to generate answers."""
        return self.settings.prompts.get(config.model_type) if generates(config) else None

    def fit(self) -> dict[str, Any]:
        """Set prompt, phases and longest input.

        As in the published runner, two tokens are reserved for each fixed part of a prompt, whatever its length: the
        runner mistakes the number of a tokenizer's outputs (ids and mask) for the number of tokens.
        """
        self.prompt = self.prompt_of(self.config)
        self.phases = GENERATED if self.prompt else ("preprocess", "forward")
        free = 2 * sum(bool(text) for text, *_ in Formatter().parse(self.prompt or ""))
        self.max_input_tokens = longest_input(self.config, self.processor, free)
        return {"prompt": self.prompt, "max_input_tokens": self.max_input_tokens}

    def is_empty(self, row: Row) -> bool:
        """Whether the published runner drops a row; it drops none if a prompt precedes the text."""
        if not super().is_empty(row):
            return False
        if not self.settings.prompts or self.parameters.model_source == "endpoint":
            return True
        origin = models.locate(self.parameters, self.settings.architectures)
        return self.prompt_of(self.config or models.read_config(origin)) is None

    def texts(self, rows: Sequence[Row]) -> list[str]:
        return super().texts(rows) if not self.prompt else [self.prompt.format_map(row) for row in rows]

    def refuse_without_prompt(self) -> None:
        if generates(self.config) and self.prompt_of(self.config) is None:
            raise ModelError(
                f"model {self.origin.name!r} generates its answers, but task {self.settings.name!r} has no prompt for "
                f"models of type {self.config.model_type!r}: add one to prompts in the task's file, or choose a model "
                "with the task's head"
            )


class TextClassificationSettings(PromptedSettings):
    """Settings of a classification task."""

    labels: dict[int, list[str]] = Field(min_length=2)  # the data's label -> names that models give it, lower case


class TextClassification(PromptedTask):
    """Classify a text; quality is accuracy, if the model's labels are those of the data."""

    Settings = TextClassificationSettings
    columns = ("text", "label")
    references = ("label",)
    head_class = "AutoModelForSequenceClassification"

    def fit(self) -> dict[str, Any]:
        self.refuse_without_prompt()
        return super().fit()

    def answers(self, inputs: Any, outputs: Any) -> list[str]:
        if self.generative:
            return super().answers(inputs, outputs)
        names = self.model.config.id2label
        return [names[int(index)] for index in outputs.argmax(dim=-1)]

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Share of texts with the right class. A model with other classes is not scored."""
        meaningless = self.no_quality("accuracy", rows)
        if meaningless is not None:
            return (meaningless,)
        if not self.generative:
            names = [str(name) for name in self.model.config.id2label.values()]
            if not set(self.settings.labels) <= {self._label(name) for name in names}:
                why = f"the model's classes ({', '.join(names)}) are not those of the task"
                return (unscored("accuracy", rows, why),)
        found = [self._label(answer) for answer in answers]
        right = [float(int(row["label"]) == label) for row, label in zip(rows, found, strict=True)]
        return mean_quality("accuracy", right, no_class=found.count(-1))

    def right_answers(self, rows: Sequence[Row]) -> list[str]:
        return [self.settings.labels[int(row["label"])][0] for row in rows]

    def _label(self, answer: str) -> int:
        """Return the data's label for a model's answer; -1 if it names none."""
        text = answer.strip().lower()
        for label, names in self.settings.labels.items():
            if text in names or (self.generative and text.startswith(tuple(names))):
                return label
        return -1


class QuestionAnswering(PromptedTask):
    """Find the span of the context that answers a question; quality is exact match and F1 as for SQuAD."""

    columns = ("question", "context", "answers")
    references = ("answers",)
    head_class = "AutoModelForQuestionAnswering"
    optional_parts = ("pooler",)

    def fit(self) -> dict[str, Any]:
        self.refuse_without_prompt()
        return super().fit()

    def texts(self, rows: Sequence[Row]) -> list[str]:
        return super().texts(rows) if self.generative else [row["question"] for row in rows]

    def second_texts(self, rows: Sequence[Row]) -> list[str] | None:
        return None if self.generative else [row["context"] for row in rows]

    def keep(self, outputs: Any) -> Any:
        return outputs.start_logits, outputs.end_logits

    def answers(self, inputs: Any, outputs: Any) -> list[str | tuple[int, int]]:
        if self.generative:
            return super().answers(inputs, outputs)
        starts, ends = (scores.float().cpu() for scores in outputs)
        return [best_span(inputs, row, starts[row], ends[row]) for row in range(len(starts))]

    def right_answers(self, rows: Sequence[Row]) -> list[str]:
        return [(row["answers"]["text"] or [""])[0] for row in rows]

    def score(self, answers: Sequence[str | tuple[int, int]], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Exact match and F1 over words, each from 0 to 1; questions without an answer do not count.

        References
        ----------
        P. Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (2016), section 6.1.
        """
        from torchmetrics.functional.text import squad

        metrics = ("exact_match", "f1")
        answerable = [bool((row.get("answers") or {}).get("text")) for row in rows]
        meaningless = [self.no_quality(metric, rows) for metric in metrics]
        if None in meaningless and not any(answerable):
            meaningless = [unscored(metric, rows, "no question of the data has an answer") for metric in metrics]
        if None not in meaningless:
            return tuple(meaningless)
        texts = [a if isinstance(a, str) else row["context"][slice(*a)] for a, row in zip(answers, rows, strict=True)]
        each = [
            squad({"id": "0", "prediction_text": text}, {"id": "0", "answers": row["answers"]}) if counts else {}
            for text, row, counts in zip(texts, rows, answerable, strict=True)
        ]
        counted, details = answerable.count(True), {"without_an_answer": answerable.count(False)}
        found = {metric: tuple(float(one.get(metric, 0)) / 100 for one in each) for metric in metrics}
        return tuple(
            Quality(metric=metric, value=sum(scores) / counted, queries=counted, scores=scores, details=details)
            for metric, scores in found.items()
        )


def best_span(inputs: Any, row: int, start: Any, end: Any) -> tuple[int, int]:
    """Return first and last character of the span of the context with the highest sum of start and end score."""
    import torch

    context = torch.tensor([part == 1 for part in inputs.sequence_ids(row)])
    scores = start.masked_fill(~context, -torch.inf)[:, None] + end.masked_fill(~context, -torch.inf)[None, :]
    allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(LONGEST_ANSWER_TOKENS - 1)
    first, last = divmod(int(scores.masked_fill(~allowed, -torch.inf).argmax()), len(start))
    offsets = inputs.encodings[row].offsets
    return offsets[first][0], offsets[last][1]


class SummarizationSettings(PromptedSettings):
    """Settings of summarization."""

    one_pass: bool = True  # models without a prompt run one forward pass, as published; false: they generate


class Summarization(PromptedTask):
    """Summarise a text. T5 generates the start of a summary; BART and its like run one forward pass, as published.

    In that forward pass the decoder reads the whole shifted text. Quality, scored outside the windows, is ROUGE-L of
    as many generated tokens as T5 generates.
    """

    Settings = SummarizationSettings
    columns = ("text", "summary")
    references = ("summary",)
    head_class = "AutoModelForSeq2SeqLM"
    shifts_text: bool = False  # whether the decoder's input must be made here

    def fit(self) -> dict[str, Any]:
        """Set the phases: without `one_pass`, every model generates."""
        facts = super().fit()
        if not self.settings.one_pass:
            self.phases = GENERATED
        return facts

    def deviations(self) -> tuple[str, ...]:
        more = () if self.settings.one_pass else ("Every model generates; as published, BART runs one forward pass.",)
        return (*super().deviations(), *more)

    def ready(self) -> dict[str, Any]:
        """Find out whether the model makes its decoder's input from the text itself."""
        facts = super().ready()
        if not self.generative:
            try:
                self.ask(self.prepare([{"text": "a"}]), None)
            except ValueError:  # the library's error for missing decoder_input_ids
                self.shifts_text = True
        return facts

    def ask(self, tensors: Any, generation: dict[str, Any] | None) -> Any:
        """Give the decoder the shifted text if the model does not do so itself."""
        if self.shifts_text and generation is None:
            shifted = tensors["input_ids"].roll(1, dims=1)
            shifted[:, 0] = self.model.config.decoder_start_token_id
            tensors = {**tensors, "decoder_input_ids": shifted}
        return super().ask(tensors, generation)

    def keep(self, outputs: Any) -> None:
        """Keep nothing: logits over the whole vocabulary for every token of a text are large."""

    def answers(self, inputs: Any, outputs: Any) -> list[str]:
        if not self.generative:
            outputs = self.ask(inputs, self.generation("generate"))
        return super().answers(inputs, outputs)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean ROUGE-L of the answers: F measure, and precision, since answers of few tokens cannot recall much.

        References
        ----------
        C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
        """
        meaningless = self.no_quality("rouge_l", rows)
        if meaningless is not None:
            return (meaningless,)
        scores = rouge_l([[row["summary"]] for row in rows], answers)
        precision, recall, f = (list(column) for column in zip(*scores, strict=True))
        more = {"precision": sum(precision) / len(rows), "recall": sum(recall) / len(rows)}
        return mean_quality("rouge_l", f, **more, new_tokens=self.new_tokens)
