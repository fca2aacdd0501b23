"""A first draft of filling in masked words, with four mistakes that would each spoil the measurement."""

from __future__ import annotations

from energylab.record import Quality
from energylab.tasks.text import TextTask

BLANK = "___"


class FirstDraft(TextTask):
    """It gives answers, and still its energy would be wrong."""

    columns = ("text", "word")
    references = ("word",)
    head_class = "AutoModelForMaskedLM"

    def check_row(self, row):
        """Let every row through (mistake 1): None means that nothing is wrong."""

    def texts(self, rows):
        """Put the model's own mask token where the blank is."""
        return [row["text"].replace(BLANK, self.processor.mask_token) for row in rows]

    def synthesise(self, count, seed):
        """Put a blank at the end of each made-up text."""
        return [{"text": f"{row['text']} {BLANK}"} for row in super().synthesise(count, seed)]

    def call(self, phase, inputs):
        """Run the model with its gradients (mistake 2), and without the mask that hides the padding (mistake 3)."""
        return self.model(input_ids=inputs["input_ids"].to(self.device)).logits

    def answers(self, inputs, outputs):
        """Return the likeliest word at each blank."""
        likeliest = outputs.argmax(dim=-1).cpu()
        blanks = inputs["input_ids"].cpu() == self.processor.mask_token_id
        return [self.processor.decode(ids[at]).strip() for ids, at in zip(likeliest, blanks, strict=True)]

    def score(self, answers, rows):
        """Count the answers, not the right ones (mistake 4)."""
        return (Quality(metric="accuracy", value=len(answers) / len(rows), queries=len(rows)),)
