"""Fill in the masked word: a task that energylab does not have, added from outside."""

from __future__ import annotations

from energylab.errors import ModelError
from energylab.record import Quality
from energylab.tasks.text import TextTask

BLANK = "___"


class FillMask(TextTask):
    """A text with one blank goes through the encoder once; the likeliest word at the blank is the answer."""

    columns = ("text", "word")
    references = ("word",)
    head_class = "AutoModelForMaskedLM"

    def fit(self):
        """Refuse a model that has no token for a blank."""
        if self.processor.mask_token is None:
            raise ModelError(f"model {self.origin.name!r} has no mask token: it was not trained to fill in words")
        return super().fit()

    def check_row(self, row):
        """Refuse a text without a blank, or with several."""
        problem = super().check_row(row)
        if problem is None and row["text"].count(BLANK) != 1:
            problem = f"text has {row['text'].count(BLANK)} blanks ({BLANK}), not one"
        return problem

    def synthesise(self, count, seed):
        """Blank out the word in the middle of each made-up text."""
        rows = super().synthesise(count, seed)
        words = [row["text"].split() for row in rows]
        middles = [len(text) // 2 for text in words]
        return [{"text": " ".join([*t[:m], BLANK, *t[m + 1 :]])} for t, m in zip(words, middles, strict=True)]

    def texts(self, rows):
        """Put the model's own mask token where the blank is."""
        return [row["text"].replace(BLANK, self.processor.mask_token) for row in rows]

    def answers(self, inputs, outputs):
        """Return the likeliest word at each blank; nothing where the blank was cut off with the end of its text."""
        likeliest = outputs.argmax(dim=-1).cpu()
        blanks = inputs["input_ids"].cpu() == self.processor.mask_token_id
        return [self.processor.decode(ids[at]).strip() for ids, at in zip(likeliest, blanks, strict=True)]

    def score(self, answers, rows):
        """Share of blanks filled in with the word that was there."""
        meaningless = self.no_quality("accuracy", rows)
        if meaningless is not None:
            return (meaningless,)
        right = [answer.lower() == row["word"].lower() for answer, row in zip(answers, rows, strict=True)]
        return (Quality(metric="accuracy", value=sum(right) / len(right), queries=len(rows)),)
