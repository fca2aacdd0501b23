"""Synthetic text: words by their frequency in English, in sentences, with the published distribution of lengths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

#: Tokens a word of such text becomes, full stops included and special tokens left out; and how many more the sentence
#: cut short at the end of a text adds on average. Measured with MiniLM's tokenizer on texts of 8 to 320 words.
TOKENS_PER_WORD = 1.076
TOKENS_AT_THE_END = 0.5

_SENTENCE_WORDS = (6, 22)


class LengthSettings(BaseModel):
    """Lengths of synthetic texts: log-normal, as lengths of written texts are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean_tokens: float = Field(gt=0)  # mean length in tokens, as published for the task
    spread: float = Field(0.0, ge=0)  # standard deviation of the logarithm of the length
    longest_tokens: int = Field(100_000, ge=1)  # no text is longer


@dataclass(frozen=True)
class Lexicon:
    """Common English words, most frequent first, drawn with Zipf's frequencies."""

    words: tuple[str, ...]

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> Lexicon:
        """Read the packaged list."""
        file = Path(__file__).with_name("lexicon.txt")
        return Lexicon(tuple(file.read_text(encoding="utf-8").split()))

    def text(self, rng: Any, words: int) -> str:
        """Draw a text of `words` words, in sentences.

        References
        ----------
        Frequencies follow Mandelbrot's form of Zipf's law, 1 / (rank + 2.7), B. Mandelbrot (1953).
        """
        drawn = [
            self.words[index] for index in rng.choice(len(self.words), size=words, p=_frequencies(len(self.words)))
        ]
        sentences = []
        while drawn:
            length = int(rng.integers(*_SENTENCE_WORDS))
            sentence, drawn = drawn[:length], drawn[length:]
            sentences.append(" ".join(sentence).capitalize() + ".")
        return " ".join(sentences)


@lru_cache(maxsize=4)
def _frequencies(count: int) -> Any:
    import numpy as np

    weights = 1.0 / (np.arange(1, count + 1) + 2.7)
    return weights / weights.sum()


def draw_lengths(rng: Any, count: int, settings: LengthSettings) -> list[int]:
    """Draw the lengths, in words, of `count` texts."""
    tokens = draw_sizes(rng, count, settings.mean_tokens, settings.spread, settings.longest_tokens)
    return [max(round((length - TOKENS_AT_THE_END) / TOKENS_PER_WORD), 1) for length in tokens]


def draw_sizes(rng: Any, count: int, mean: float, spread: float, longest: float) -> list[float]:
    """Draw sizes of `count` queries from a log-normal distribution that is cut off.

    They are the evenly spaced quantiles of the distribution in random order, scaled to the stated mean: two seeds
    differ in order, not in the amount of work, and few queries have the same mean as many.
    """
    import numpy as np
    from scipy.stats import norm

    quantiles = np.exp(spread * norm.ppf((np.arange(count) + 0.5) / count))
    return [float(size) for size in rng.permutation(_scaled(quantiles, mean, longest))]


def _scaled(shape: Any, mean: float, longest: float) -> Any:
    """Scale `shape` so that its mean, after the cut at `longest`, is `mean`."""
    import numpy as np
    from scipy.optimize import brentq

    if mean >= longest:
        return np.full_like(shape, longest)
    factor = brentq(lambda f: np.minimum(f * shape, longest).mean() - mean, 0.0, 1e3 * longest)
    return np.minimum(factor * shape, longest)
