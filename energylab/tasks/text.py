"""Tasks on texts: classification, question answering, summarization, similarity and generation."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import fmean
from string import Formatter
from typing import Any, ClassVar

from pydantic import Field

from energylab.errors import ModelError
from energylab.record import Quality
from energylab.tasks.base import Row, Sampling, Task, TaskSettings, Tokens, all_finite, longest_input, unscored
from energylab.tasks.models import moved
from energylab.tasks.synthetic import LengthSettings, Lexicon, draw_lengths
from energylab.tasks.tokenizers import local_tokenizer, repair_padding, usable_padding

ONE_PASS = ("preprocess", "forward")
IN_WORDS = ("preprocess", "prefill", "generate")


class TextSettings(TaskSettings):
    """Settings of a text task."""

    synthetic: dict[str, LengthSettings] = Field(min_length=1)  # length of synthetic text, by column


class PromptedSettings(TextSettings):
    """Settings of a task that some models answer in words."""

    new_tokens: int = Field(ge=1)  # tokens such a model generates a query
    prompts: dict[str, str] = {}  # model type -> the prompt it was trained with, column names in braces


class TextTask(Task):
    """A task whose queries are texts. A model whose type has a prompt answers in words; others in one pass."""

    Settings = TextSettings
    columns = ("text",)
    head_class: ClassVar[str]  # the transformers Auto class of models that answer in one pass: AutoModelForMaskedLM
    padding_side: ClassVar[str] = "right"
    in_words: bool = False  # whether the model at hand generates its answer, after `open`
    prompt: str | None = None  # what a row is put into, after `open`
    max_input_tokens: int | None = None  # longer inputs are cut, after `open`

    # ---- loading

    def auto_class(self, config: Any) -> str:
        """The class of generating models for one with a prompt, else the one with the task's head."""
        return "AutoModelForSeq2SeqLM" if self.prompt_of(config) else self.head_class

    def prompt_of(self, config: Any) -> str | None:
        """Return the prompt for models of a type that were trained to answer in words."""
        return getattr(self.settings, "prompts", {}).get(config.model_type) if generates(config) else None

    def read_processor(self) -> Any:
        """Read the model's own tokenizer, or make one for a random model."""
        from transformers import AutoTokenizer

        if self.origin.architecture is not None:
            return local_tokenizer(self.config, self.origin.architecture.tokenizer, self.padding_side)
        tokenizer = self.origin.read(AutoTokenizer.from_pretrained, "tokenizer", padding_side=self.padding_side)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        return tokenizer

    def fit(self) -> dict[str, Any]:
        """Settle phases, prompt and longest input."""
        self.prompt = self.prompt_of(self.config)
        self.in_words = self.prompt is not None
        self.phases = IN_WORDS if self.in_words else ONE_PASS
        self.max_input_tokens = longest_input(self.config, self.processor, prefix_tokens(self.prompt))
        return {"prompt": self.prompt, "max_input_tokens": self.max_input_tokens}

    def ready(self) -> dict[str, Any]:
        """Give a model what its batches need to find padding."""
        pad = usable_padding(self.config, self.processor)
        if self.batch_size > 1 and pad is None:
            raise ModelError(
                f"model {self.origin.name!r}: its tokenizer has no padding token within the vocabulary, so texts of "
                "different lengths cannot share a batch; use batch_size=1"
            )
        if self.batch_size > 1 and self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = pad
        if hasattr(self.model, "generate") and self.model.generation_config is not None:
            repair_padding(self.model.generation_config, pad)
        return {}

    # ---- rows

    def synthesise(self, count: int, seed: int) -> list[Row]:
        """Draw texts of the published lengths for every column that has one."""
        import numpy as np

        rng = np.random.default_rng(seed)
        lengths = {column: draw_lengths(rng, count, lengths) for column, lengths in self.settings.synthetic.items()}
        lexicon = Lexicon.load()
        return [{column: lexicon.text(rng, lengths[column][row]) for column in lengths} for row in range(count)]

    def check_row(self, row: Row) -> str | None:
        """Refuse what is no text, or an empty one that the model would be asked with as it is."""
        for column in self.inputs_of_a_row():
            if not isinstance(row[column], str):
                return f"column {column!r} holds {type(row[column]).__name__}, not text"
            if row[column] == "" and self.is_empty(row):
                return f"column {column!r} is empty"
        return None

    def is_empty(self, row: Row) -> bool:
        """Whether the published runner leaves a row out; it leaves none out where a prompt precedes the text."""
        return super().is_empty(row) and not self._prompted()

    def _prompted(self) -> bool:
        from energylab.tasks import models

        if not getattr(self.settings, "prompts", {}) or self.parameters.model_source == "endpoint":
            return False
        config = self.config or models.read_config(models.locate(self.request("cpu")))
        return self.prompt_of(config) is not None

    # ---- queries

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return the text that each row is tokenised from."""
        return [row["text"] if not self.prompt else self.prompt.format_map(row) for row in rows]

    def second_texts(self, rows: Sequence[Row]) -> list[str] | None:
        return None

    def tokenise(self, rows: Sequence[Row], **options: Any) -> Any:
        """Tokenise rows, cut to what the model takes in; one row is never padded."""
        settings = {"padding": False, "truncation": self.max_input_tokens is not None}
        settings |= {"max_length": self.max_input_tokens, **options}
        if self.phases[-1] != "forward":
            settings.setdefault("return_token_type_ids", False)
        return self.processor(self.texts(rows), self.second_texts(rows), **settings)

    def prepare(self, rows: Sequence[Row]) -> Any:
        """Tokenise rows to one batch on the CPU, padded where there are several."""
        return self.tokenise(rows, padding=len(rows) > 1, return_tensors="pt")

    def features(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        """Tokenise a whole set at once, each row of its own length."""
        return dict(self.tokenise(rows))

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Count the tokens of every query: those the model is given, and those cut off for want of room."""
        ids = self.tokenise(rows, truncation=False, max_length=None, verbose=False)["input_ids"]
        longest = self.max_input_tokens or float("inf")
        return {
            "input_tokens": tuple(min(float(len(row)), longest) for row in ids),
            "truncated_tokens": tuple(max(len(row) - longest, 0.0) for row in ids),
        }

    # ---- after the windows

    def new_ids(self, inputs: Any, outputs: Any) -> Any:
        """Return the generated ids alone: without the prompt, or without the decoder's start token."""
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
        """Return the generated text of every query; families that answer in one pass read their heads."""
        return self.processor.batch_decode(self.new_ids(inputs, outputs), skip_special_tokens=True)

    def finite(self, inputs: Any, outputs: Any) -> bool:
        """Whether a batch's logits are finite; those of generated tokens are computed once more, for the first one."""
        if self.phases[-1] == "forward":
            return all_finite(outputs)
        first = {**self.generation("prefill"), "output_logits": True, "return_dict_in_generate": True}
        return all_finite(self.ask(inputs, first).logits)


class TextClassificationSettings(PromptedSettings):
    """Settings of a classification task."""

    labels: dict[int, list[str]] = Field(min_length=2)  # the data's label -> names that models give it, lower case


class TextClassification(TextTask):
    """A text in, a label out; quality is accuracy over the labels the model and the data share."""

    Settings = TextClassificationSettings
    columns = ("text", "label")
    references = ("label",)
    head_class = "AutoModelForSequenceClassification"

    def fit(self) -> dict[str, Any]:
        """Settle the phases; a model that answers in words needs a prompt."""
        refuse_without_prompt(self)
        return super().fit()

    def answers(self, inputs: Any, outputs: Any) -> list[str]:
        """Return the name of the chosen class, as the model names it."""
        if self.in_words:
            return super().answers(inputs, outputs)
        names = self.model.config.id2label
        return [names[int(index)] for index in outputs.argmax(dim=-1)]

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Share of texts whose class is the data's. A model with other classes altogether is not scored."""
        meaningless = self.no_quality("accuracy", rows)
        if meaningless is not None:
            return (meaningless,)
        if not self.in_words and not self._shares_labels():
            names = ", ".join(map(str, self.model.config.id2label.values()))
            return (unscored("accuracy", rows, f"the model's classes ({names}) are not those of the task"),)
        found = [self._label(answer) for answer in answers]
        right = tuple(float(int(row["label"]) == label) for row, label in zip(rows, found, strict=True))
        details = {"no_class": found.count(-1)}
        return (Quality(metric="accuracy", value=fmean(right), queries=len(rows), scores=right, details=details),)

    def right_answers(self, rows: Sequence[Row]) -> list[str]:
        return [self.settings.labels[int(row["label"])][0] for row in rows]

    def _shares_labels(self) -> bool:
        found = {self._label(str(name)) for name in self.model.config.id2label.values()}
        return set(self.settings.labels) <= found

    def _label(self, answer: str) -> int:
        """Return the data's label for a model's answer; -1 for one that names none of them."""
        text = answer.strip().lower()
        for label, names in self.settings.labels.items():
            if text in names or (self.in_words and any(text.startswith(name) for name in names)):
                return label
        return -1


LONGEST_ANSWER_TOKENS = 15  # as the library's own question answering did by default


class QuestionAnswering(TextTask):
    """Question and context in, the span with the highest score out; quality is exact match and F1 as for SQuAD."""

    Settings = PromptedSettings
    columns = ("question", "context", "answers")
    references = ("answers",)
    head_class = "AutoModelForQuestionAnswering"
    may_miss = ("pooler",)

    def fit(self) -> dict[str, Any]:
        """Settle the phases; a model that answers in words needs a prompt."""
        refuse_without_prompt(self)
        return super().fit()

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return the questions, or whole prompts for a model that answers in words."""
        return super().texts(rows) if self.in_words else [row["question"] for row in rows]

    def second_texts(self, rows: Sequence[Row]) -> list[str] | None:
        return None if self.in_words else [row["context"] for row in rows]

    def keep(self, outputs: Any) -> Any:
        """Keep the scores of starts and ends."""
        return outputs.start_logits, outputs.end_logits

    def answers(self, inputs: Any, outputs: Any) -> list[str | tuple[int, int]]:
        """Return the answer in words, or the first and last character of the best span (end excluded)."""
        if self.in_words:
            return super().answers(inputs, outputs)
        starts, ends = (scores.float().cpu() for scores in outputs)
        return [best_span(inputs, row, starts[row], ends[row]) for row in range(len(starts))]

    def right_answers(self, rows: Sequence[Row]) -> list[str]:
        """Return the first answer that is accepted; nothing where there is none."""
        return [(row["answers"]["text"] or [""])[0] for row in rows]

    def score(self, answers: Sequence[str | tuple[int, int]], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Exact match and F1 over words, each from 0 to 1.

        References
        ----------
        P. Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (2016), section 6.1.
        """
        from torchmetrics.functional.text import squad

        metrics = ("exact_match", "f1")
        meaningless = [self.no_quality(metric, rows) for metric in metrics]
        if None not in meaningless:
            return tuple(meaningless)
        answerable = [number for number, row in enumerate(rows) if row["answers"]["text"]]
        if not answerable:
            return tuple(unscored(metric, rows, "no question of the data has an answer") for metric in metrics)
        texts = [a if isinstance(a, str) else rows[n]["context"][slice(*a)] for n, a in enumerate(answers)]
        found = [{"id": str(n), "prediction_text": texts[n]} for n in answerable]
        right = [{"id": str(n), "answers": rows[n]["answers"]} for n in answerable]
        each = {
            number: {metric: float(value) / 100 for metric, value in squad([one], [other]).items()}
            for number, one, other in zip(answerable, found, right, strict=True)
        }
        details = {"without_an_answer": len(rows) - len(answerable)}
        return tuple(
            Quality(
                metric=metric,
                value=fmean(scores[metric] for scores in each.values()),
                queries=len(answerable),
                scores=tuple(each.get(number, {}).get(metric, 0.0) for number in range(len(rows))),
                details=details,
            )
            for metric in metrics
        )


class SummarizationSettings(PromptedSettings):
    """Settings of summarization."""

    one_pass: bool = True  # models without a prompt run once over the text, as published; false: they generate


class Summarization(TextTask):
    """A text in. T5 generates the start of a summary; BART and relatives run once over the text, as published.

    The published runner asks such a model for one forward pass, in which the decoder reads the whole shifted text.
    Quality, scored outside the windows, is ROUGE-L of as many generated tokens as T5 is asked for.
    """

    Settings = SummarizationSettings
    columns = ("text", "summary")
    references = ("summary",)
    head_class = "AutoModelForSeq2SeqLM"
    shifts_text: bool = False  # whether the decoder's input must be made here

    def fit(self) -> dict[str, Any]:
        """Settle the phases; where the task says so every model generates."""
        settled = super().fit()
        if not self.settings.one_pass:
            self.in_words, self.phases = True, IN_WORDS
        return settled

    def deviations(self) -> tuple[str, ...]:
        """Generation without a prompt is not the published work."""
        more = () if self.settings.one_pass else ("Every model generates; BART and relatives were asked for one pass.",)
        return (*super().deviations(), *more)

    def ready(self) -> dict[str, Any]:
        """Find out whether the model makes its decoder's input from the text itself."""
        settled = super().ready()
        if self.in_words:
            return settled
        try:
            self.ask(self.prepare([{"text": "a"}]), None)
        except ValueError:  # what the library raises for want of decoder_input_ids
            self.shifts_text = True
        return settled

    def ask(self, tensors: Any, generation: dict[str, Any] | None) -> Any:
        """Give the decoder the shifted text where the model does not do so itself."""
        if self.shifts_text and generation is None:
            ids = tensors["input_ids"]
            shifted = ids.roll(1, dims=1)
            shifted[:, 0] = self.model.config.decoder_start_token_id
            tensors = {**tensors, "decoder_input_ids": shifted}
        return super().ask(tensors, generation)

    def keep(self, outputs: Any) -> None:
        """Keep nothing: logits over the whole vocabulary for every token of a text are large."""

    def answers(self, inputs: Any, outputs: Any) -> list[str]:
        """Return the start of every summary; after a forward pass it is generated here, outside the windows."""
        if not self.in_words:
            outputs = self.ask(inputs, self.generation("generate"))
        return super().answers(inputs, outputs)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean ROUGE-L of the answers: F measure, and precision, since answers of few tokens cannot recall much.

        References
        ----------
        C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
        """
        from rouge_score.rouge_scorer import RougeScorer

        meaningless = self.no_quality("rouge_l", rows)
        if meaningless is not None:
            return (meaningless,)
        scorer = RougeScorer(["rougeL"], use_stemmer=True)
        scores = [scorer.score(row["summary"], a)["rougeL"] for a, row in zip(answers, rows, strict=True)]
        mean = {name: sum(getattr(score, name) for score in scores) / len(scores) for name in scores[0]._fields}
        details = {"precision": mean["precision"], "recall": mean["recall"], "new_tokens": self.new_tokens}
        each = tuple(score.fmeasure for score in scores)
        return (Quality(metric="rouge_l", value=mean["fmeasure"], queries=len(rows), scores=each, details=details),)


#: Poolings, and what sentence-transformers calls them: as a mode, and, in older files, as a switch.
POOLINGS = {
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "cls": ("cls", "pooling_mode_cls_token"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
}

#: Parts of a sentence-transformers model whose embeddings are computed here; with another one there is no quality.
MODULES = ("Transformer", "Pooling", "Normalize")


class SentenceSimilarity(TextTask):
    """Both sentences of a pair go through the encoder as one sequence, without pooling, as published.

    Quality is scored outside the windows: each sentence alone, pooled as the checkpoint says (the mean where it says
    nothing), compared by the cosine.
    """

    columns = ("sentence1", "sentence2", "score")
    references = ("score",)
    head_class = "AutoModel"
    may_miss = ("pooler",)

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return the first sentences."""
        return [row["sentence1"] for row in rows]

    def second_texts(self, rows: Sequence[Row]) -> list[str]:
        return [row["sentence2"] for row in rows]

    def keep(self, outputs: Any) -> Any:
        """Keep the first number of every sequence, by which a state that is not finite is seen."""
        return outputs[0][:, 0, :1]

    def answers(self, inputs: Any, outputs: Any) -> list[None]:
        """Return nothing: the measured work gives no embedding, `score` computes them."""
        return [None] * len(outputs)

    def score(self, answers: Sequence[float | None], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Rank correlation (Spearman) of the cosines with the references."""
        from scipy.stats import spearmanr

        meaningless = self.no_quality("spearman", rows)
        if meaningless is not None:
            return (meaningless,)
        if None in answers:
            how, problem = read_pooling(self.origin)
            if problem:
                return (unscored("spearman", rows, problem),)
            answers = [self.cosine(row, how) for row in rows]
        if len(set(answers)) < 2:
            return (unscored("spearman", rows, "fewer than two different answers cannot be ranked"),)
        value = float(spearmanr(answers, [row["score"] for row in rows]).statistic)
        return (Quality(metric="spearman", value=value, queries=len(rows)),)

    def cosine(self, row: Row, how: str) -> float:
        """Embed both sentences of a pair, each alone, and compare them."""
        import torch

        vectors = []
        for sentence in (row["sentence1"], row["sentence2"]):
            batch = self.processor([sentence], truncation=True, max_length=self.max_input_tokens, return_tensors="pt")
            with torch.inference_mode():
                states = self.model(**moved(batch, self.device))[0].float().cpu()
            vectors.append(pool(states, batch["attention_mask"], how))
        return float(torch.nn.functional.cosine_similarity(*vectors))


class TextGenerationSettings(TextSettings):
    """Settings of a text generation task."""

    new_tokens: int = Field(ge=1)  # tokens generated for a query
    sampling: Sampling | None = None  # None: greedy
    chat: bool = False  # whether a query is put into the model's chat template


class TextGeneration(TextTask):
    """A decoder continues each text; quality is how well it predicts the texts themselves, in bits a byte."""

    Settings = TextGenerationSettings
    padding_side = "left"
    may_cache = True
    phases = IN_WORDS
    in_words = True

    def auto_class(self, config: Any) -> str:
        """A causal language model, or an encoder-decoder that generates."""
        return "AutoModelForSeq2SeqLM" if config.is_encoder_decoder and generates(config) else "AutoModelForCausalLM"

    def is_empty(self, row: Row) -> bool:
        """Whether the published runner leaves a row out before it counts; every one that is empty."""
        return row.get("text") == ""

    def fit(self) -> dict[str, Any]:
        """Leave room for the tokens to generate, and truncate longer prompts."""
        self.max_input_tokens = longest_input(self.config, self.processor, self.new_tokens)
        return {"max_input_tokens": self.max_input_tokens, "new_tokens": self.new_tokens}

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return the texts; as a chat's first message where the task says so."""
        if not self.settings.chat or self.processor.chat_template is None:
            return super().texts(rows)
        chats = ([{"role": "user", "content": row["text"]}] for row in rows)
        return [self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]

    def generation(self, phase: str, new_tokens: int | None = None) -> dict[str, Any] | None:
        """Return what a phase tells ``generate``: greedy, or drawn where the task says so."""
        settings = super().generation(phase, new_tokens)
        if settings is None or self.settings.sampling is None:
            return settings
        return {**settings, "do_sample": True, **self.settings.sampling.model_dump()}

    def call(self, phase: str, inputs: Any) -> Any:
        """Generate; what is drawn is drawn anew from the seed."""
        import torch

        if self.settings.sampling is not None:
            torch.manual_seed(self.parameters.seed)
        return super().call(phase, inputs)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Bits a byte of the texts under the model: comparable between tokenizers, lower is better.

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
            return (unscored("bits_per_byte", rows, "the model's outputs are no finite numbers"),)
        return (Quality(metric="bits_per_byte", value=bits / size, queries=len(rows), details={"bytes": size}),)

    def _surprise(self, row: Row) -> tuple[float, int]:
        """Return bits of the tokens after the first one, and the bytes of the text they stand for."""
        import torch

        batch = moved(self.prepare([row]), self.device)
        ids = batch["input_ids"]
        with torch.inference_mode():
            logits = self.model(**batch).logits[0, :-1].float()
            nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        text = self.processor.decode(ids[0, 1:], skip_special_tokens=True)
        return float(nats) / math.log(2), len(text.encode())


# ---- functions


def generates(config: Any) -> bool:
    """Tell whether a checkpoint was trained to answer in words: its class generates from a condition."""
    return any(name.endswith("ForConditionalGeneration") for name in config.architectures or ())


def refuse_without_prompt(task: TextTask) -> None:
    """Refuse a generating checkpoint whose type the task's file has no prompt for."""
    if generates(task.config) and task.prompt_of(task.config) is None:
        raise ModelError(
            f"model {task.origin.name!r} answers in words, and task {task.settings.name!r} has no prompt for models of "
            f"type {task.config.model_type!r}: add it to prompts in the task's file, or choose a model with a head"
        )


def prefix_tokens(prompt: str | None) -> int:
    """Return what the published runner leaves free for a prompt: 2 for each of its fixed parts, whatever their length.

    It takes the number of a tokenizer's outputs (ids and mask) for the number of tokens.
    """
    return 2 * sum(bool(text) for text, *_ in Formatter().parse(prompt or ""))


def best_span(inputs: Any, row: int, start: Any, end: Any) -> tuple[int, int]:
    """Return first and last character of the span of the context whose start and end score highest together."""
    import torch

    context = torch.tensor([part == 1 for part in inputs.sequence_ids(row)])
    scores = start.masked_fill(~context, -torch.inf)[:, None] + end.masked_fill(~context, -torch.inf)[None, :]
    allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(LONGEST_ANSWER_TOKENS - 1)
    first, last = divmod(int(scores.masked_fill(~allowed, -torch.inf).argmax()), len(start))
    offsets = inputs.encodings[row].offsets
    return offsets[first][0], offsets[last][1]


def pool(states: Any, mask: Any, how: str) -> Any:
    """Reduce token states, shape (sentences, tokens, width), to one vector a sentence: mean, first or last token."""
    import torch

    if how == "cls":
        return states[:, 0]
    if how == "last":
        positions = torch.arange(mask.shape[1]) * mask
        return states[torch.arange(len(states)), positions.argmax(dim=1)]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def read_pooling(origin: Any) -> tuple[str, str | None]:
    """Return how a checkpoint pools its token states, and why its embeddings cannot be had, if so."""
    if origin.architecture is not None:
        return origin.architecture.options.get("pooling", "mean"), None
    parts = _read_json(origin.folder / "modules.json") or []
    more = [one["type"] for one in parts if one["type"].rpartition(".")[2] not in MODULES]
    if more:
        return "mean", f"the model's embeddings need parts that are not loaded: {', '.join(more)}"
    values = _read_json(origin.folder / "1_Pooling" / "config.json")
    if values is None:
        return "mean", None
    chosen = [
        how for how, (mode, switch) in POOLINGS.items() if values.get("pooling_mode") == mode or values.get(switch)
    ]
    return (chosen[0], None) if len(chosen) == 1 else ("mean", f"pooling {values} is not one of {', '.join(POOLINGS)}")


def _read_json(file: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
