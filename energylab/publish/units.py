"""Figures as people read them: three significant digits, units in words, probabilities that promise no certainty."""

from __future__ import annotations

import datetime as dt
import math

CLASS_SIZES = {
    "A": "up to 20 billion parameters",
    "B": "over 20 to 66 billion parameters",
    "C": "over 66 billion parameters",
}

KIND_WORDS = {
    "measured": "measured by a hardware counter or sensor",
    "estimated": "estimated by a power model, not measured",
    "simulated": "simulated, for tests and teaching",
    "imported": "imported: somebody else’s figures",
    "not stated": "of a kind that is not stated",
}


# Not from the locale: a page is the same wherever it is made.
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def month(date: dt.date) -> str:
    """Return a date's month and year: March 2026."""
    return f"{_MONTHS[date.month - 1]} {date.year}"


def day(date: dt.date) -> str:
    """Return a date in words: 5 March 2026."""
    return f"{date.day} {month(date)}"


def decimals(value: float, digits: int = 3) -> int:
    """Return how many decimals show `value` with `digits` significant digits, none below the point's left."""
    if value <= 0:
        return 0
    return max(0, digits - 1 - math.floor(math.log10(value) + 1e-12))


def figure(value: float, like: float | None = None) -> str:
    """Format an energy with three significant digits, or with the decimals of `like`, and thousands apart."""
    return f"{value:,.{decimals(value if like is None else like)}f}"


def span(low: float, high: float, like: float) -> str:
    """Format an interval with the decimals of the figure it belongs to."""
    return f"{figure(low, like)} – {figure(high, like)}"


def percent(share: float) -> str:
    """Format a probability or share; near 0 and 1 as a limit, since neither is certain."""
    if share > 0.99:
        return ">\u00a099\u00a0%"
    if share < 0.01:
        return "<\u00a01\u00a0%"
    return f"{100 * share:.0f}\u00a0%"


def count(number: int) -> str:
    """Format a parameter count: 82 M, 1.1 B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            return f"{number / size:.3g} {letter}"
    return str(number)


def task_title(task: str) -> str:
    """Return a task's name in words: ``text_generation`` is "Text generation"."""
    words = task.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def cohort_title(task: str, model_class: str | None) -> str:
    """Return a task and its model class in words."""
    return task_title(task) if model_class is None else f"{task_title(task)}, class {model_class}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: 1 model, 2 models."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def ratio(value: float) -> str:
    """Format a ratio of energies with three significant digits: 0.0016, 1.04, 2,350."""
    return figure(value)
