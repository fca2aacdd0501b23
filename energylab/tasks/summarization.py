"""Summarization: shorten a text by an encoder-decoder, a stated number of tokens long."""

from __future__ import annotations

from collections.abc import Sequence

from energylab.record import Quality
from energylab.tasks.base import Row
from energylab.tasks.text2text import EncoderDecoder


class Summarization(EncoderDecoder):
    """A text in, the start of its summary out; quality is ROUGE-L against the reference summary."""

    columns = ("text", "summary")
    references = ("summary",)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean ROUGE-L of the answers: F measure, and precision, since answers of few tokens cannot recall much.

        References
        ----------
        C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
        """
        from rouge_score.rouge_scorer import RougeScorer

        metric = "rouge_l"
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        scorer = RougeScorer(["rougeL"], use_stemmer=True)
        scores = [scorer.score(row["summary"], a)["rougeL"] for a, row in zip(answers, rows, strict=True)]
        mean = {name: sum(getattr(score, name) for score in scores) / len(scores) for name in scores[0]._fields}
        details = {"precision": mean["precision"], "recall": mean["recall"], "new_tokens": self.new_tokens}
        return (Quality(metric=metric, value=mean["fmeasure"], queries=len(rows), details=details),)
