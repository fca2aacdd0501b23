"""Synthetic text: sentences of words drawn by their frequency in English, with the published lengths."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field

from energylab.tasks.base import Plain

#: Tokens per word of such text, with full stops but without special tokens, and the tokens that the incomplete last
#: sentence adds on average. Measured with MiniLM's tokenizer on texts of 8 to 320 words.
TOKENS_PER_WORD = 1.076
TOKENS_AT_THE_END = 0.5

_SENTENCE_WORDS = (6, 22)


class LengthSettings(Plain):
    """Lengths of synthetic texts: log-normal, like lengths of written texts."""

    mean_tokens: float = Field(gt=0)  # mean length in tokens, as published for the task
    spread: float = Field(0.0, ge=0)  # standard deviation of the logarithm of the length
    longest_tokens: int = Field(100_000, ge=1)  # no text is longer


@lru_cache(maxsize=1)
def lexicon() -> tuple[str, ...]:
    return tuple(Path(__file__).with_name("lexicon.txt").read_text(encoding="utf-8").split())


@lru_cache(maxsize=1)
def _frequencies() -> Any:
    import numpy as np

    weights = 1.0 / (np.arange(1, len(lexicon()) + 1) + 2.7)
    return weights / weights.sum()


def draw_text(rng: Any, words: int) -> str:
    """Draw a text with this number of words, in sentences.

    References
    ----------
    Frequencies follow Mandelbrot's form of Zipf's law, 1 / (rank + 2.7), B. Mandelbrot (1953).
    """
    known = lexicon()
    drawn = [known[index] for index in rng.choice(len(known), size=words, p=_frequencies())]
    sentences = []
    while drawn:
        length = int(rng.integers(*_SENTENCE_WORDS))
        sentence, drawn = drawn[:length], drawn[length:]
        sentences.append(" ".join(sentence).capitalize() + ".")
    return " ".join(sentences)


def draw_lengths(rng: Any, count: int, settings: LengthSettings) -> list[int]:
    tokens = draw_sizes(rng, count, settings.mean_tokens, settings.spread, settings.longest_tokens)
    return [max(round((length - TOKENS_AT_THE_END) / TOKENS_PER_WORD), 1) for length in tokens]


def draw_sizes(rng: Any, count: int, mean: float, spread: float, longest: float) -> list[float]:
    """Draw sizes of `count` queries from a log-normal distribution that is cut off at `longest` and has mean `mean`.

    They are evenly spaced quantiles in random order: two seeds differ in order, not in the amount of work, and few
    queries have the same mean as many.
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.stats import norm

    shape = np.exp(spread * norm.ppf((np.arange(count) + 0.5) / count))
    if mean >= longest:
        return [float(longest)] * count
    factor = brentq(lambda f: np.minimum(f * shape, longest).mean() - mean, 0.0, 1e3 * longest)
    return [float(size) for size in rng.permutation(np.minimum(factor * shape, longest))]
