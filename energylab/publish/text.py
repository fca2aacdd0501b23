"""Text of pages: make untrusted names safe to print, and round figures."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
import unicodedata

_JOINERS = "\u200c\u200d"  # emoji sequences and several scripts need them
_FORMULA = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: full width

CLASS_SIZES = {
    "A": "up to 20 billion parameters",
    "B": "over 20 to 66 billion parameters",
    "C": "over 66 billion parameters",
}

KIND_WORDS = {
    "measured": "measured by a hardware counter or sensor",
    "estimated": "estimated by a power model, not measured",
    "simulated": "simulated, for tests and teaching",
    "imported": "imported, not measured here",
    "not stated": "of a kind that is not stated",
}


def visible(text: str, kept: str = "\n\t") -> str:
    """Return `text` with invisible, reordering and breaking characters written as ``⟨U+202E⟩``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(mark):04X}⟩" if mark not in kept and _hides(mark) else mark for mark in text)


def _hides(mark: str) -> bool:
    code = ord(mark)
    non_character = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return mark not in _JOINERS and (non_character or unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def one_line(text: str) -> str:
    """Return `text` like `visible`, also with newlines and tabs written out."""
    return visible(text, kept="")


def slug(name: str) -> str:
    """Return a file name for `name`: up to 40 plain characters of it and eight hex digits of its sha256."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "model"
    return f"{readable}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def anchor(text: str) -> str:
    """Return the id of an element for `text`: the text itself if it is plain, else its slug."""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,59}", text) else slug(text)


def data(fact: str) -> str:
    """Return kind and name of a cohort's data, without repeating a kind that begins the name."""
    return re.sub(r"^(\w+) (?=\1\b)", "", fact)


def csv_text(text: str) -> str:
    """Return `text` with a leading apostrophe if a spreadsheet could read it as a formula (OWASP)."""
    safe = one_line(text)
    return f"'{safe}" if safe.lstrip().startswith(_FORMULA) else safe


def markdown_text(text: str) -> str:
    """Return `text` as one line that Markdown prints literally, without markup, HTML or links."""
    plain = re.sub(r"([\\`*_{}\[\]<>#|&~$@!^])", r"\\\1", one_line(text))
    return re.sub(r"(?i)(https?|ftp|www|mailto|xmpp)([:.])", r"\1\\\2", plain)


def month(date: dt.date) -> str:
    """Return a date's month and year: March 2026."""
    return f"{date:%B %Y}"


def day(date: dt.date) -> str:
    """Return a date in words: 5 March 2026."""
    return f"{date.day} {month(date)}"


def decimals(value: float, digits: int = 3) -> int:
    """Return the number of decimals that show `value` with `digits` significant digits."""
    return 0 if value <= 0 else max(0, digits - 1 - math.floor(math.log10(value) + 1e-12))


def figure(value: float, like: float | None = None) -> str:
    """Format an energy with three significant digits, or with the decimals of `like`, and separated thousands."""
    return f"{value:,.{decimals(value if like is None else like)}f}"


def span(low: float, high: float, like: float) -> str:
    """Format an interval with the decimals of the figure it belongs to."""
    return f"{figure(low, like)} – {figure(high, like)}"


def percent(share: float) -> str:
    """Format a probability or share; near 0 and 1 as a limit, not as certain."""
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
