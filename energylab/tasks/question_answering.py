"""Extractive question answering: point at the answer inside a context, or say it in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from energylab.record import Quality
from energylab.tasks.base import Row
from energylab.tasks.text2text import HeadOrWords

LONGEST_ANSWER_TOKENS = 15  # as the library's own question answering did by default


class QuestionAnswering(HeadOrWords):
    """Question and context in, the span with the highest score out; quality is exact match and F1 as for SQuAD.

    A context too long for the model is cut at its end. (The whole published data set has 10.9 tokens a query, which
    is the length of the questions alone; synthetic contexts have the length of SQuAD's.)
    """

    columns = ("question", "context", "answers")
    references = ("answers",)
    head_class = "AutoModelForQuestionAnswering"
    may_miss = ("pooler",)

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return the questions, or whole prompts for a model that answers in words."""
        return super().texts(rows) if self.in_words else [row["question"] for row in rows]

    def second_texts(self, rows: Sequence[Row]) -> list[str] | None:
        """Return the contexts."""
        return None if self.in_words else [row["context"] for row in rows]

    def preprocess(self, rows: Sequence[Row]) -> Any:
        """Tokenise questions with their contexts; only a context is ever cut."""
        if self.in_words or self.max_input_tokens is None:
            return self.tokenise(rows)
        return self.tokenise(rows, truncation="only_second")

    def answers(self, inputs: Any, outputs: Any) -> list[str | tuple[int, int]]:
        """Return the answer in words, or the first and last character of the best span (end excluded)."""
        if self.in_words:
            return super().answers(inputs, outputs)
        starts, ends = outputs.start_logits.float().cpu(), outputs.end_logits.float().cpu()
        return [_characters(inputs, row, *best_span(inputs, row, starts[row], ends[row])) for row in range(len(starts))]

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

        meaningless = [self.no_quality(metric, rows) for metric in ("exact_match", "f1")]
        if None not in meaningless:
            return tuple(meaningless)
        answerable = [number for number, row in enumerate(rows) if row["answers"]["text"]]
        if not answerable:
            why = "no question of the data has an answer"
            return tuple(
                Quality(metric=m, value=None, queries=len(rows), meaningless=why) for m in ("exact_match", "f1")
            )
        texts = [
            answer if isinstance(answer, str) else rows[n]["context"][slice(*answer)]
            for n, answer in enumerate(answers)
        ]
        said = [{"id": str(n), "prediction_text": texts[n]} for n in answerable]
        right = [{"id": str(n), "answers": rows[n]["answers"]} for n in answerable]
        scores = squad(said, right)
        details = {"without_an_answer": len(rows) - len(answerable)}
        return tuple(
            Quality(metric=metric, value=float(scores[metric]) / 100, queries=len(answerable), details=details)
            for metric in ("exact_match", "f1")
        )


def best_span(inputs: Any, row: int, start: Any, end: Any) -> tuple[int, int]:
    """Return first and last token of the span of the context whose start and end score highest together.

    Parameters
    ----------
    inputs : transformers.BatchEncoding
        Made by a fast tokenizer.
    row : int
        Row of the batch.
    start, end : torch.Tensor
        Logits, shape (tokens,).

    Returns
    -------
    (int, int)
        Positions of tokens, the last one included.
    """
    import torch

    context = torch.tensor([part == 1 for part in inputs.sequence_ids(row)])
    scores = start.masked_fill(~context, -torch.inf)[:, None] + end.masked_fill(~context, -torch.inf)[None, :]
    allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(LONGEST_ANSWER_TOKENS - 1)
    best = int(scores.masked_fill(~allowed, -torch.inf).argmax())
    return best // len(start), best % len(start)


def _characters(inputs: Any, row: int, first: int, last: int) -> tuple[int, int]:
    offsets = inputs.encodings[row].offsets
    return offsets[first][0], offsets[last][1]
