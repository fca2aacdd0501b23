"""Fitting a name into a box without knowing the reader's font: widths are those of a wide one."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# Advance widths of printable ASCII in DejaVu Sans Bold, hundredths of the font size: of the sans-serif fonts that
# systems substitute, the widest, so that what fits here fits everywhere.
_ASCII_BOLD = (
    35, 46, 52, 84, 70, 100, 87, 31, 46, 46, 52, 84, 38, 42, 38, 37, 70, 70, 70,
    70, 70, 70, 70, 70, 70, 70, 40, 40, 84, 84, 84, 58, 100, 77, 76, 73, 83, 68,
    68, 82, 84, 37, 37, 77, 64, 100, 84, 85, 73, 85, 77, 72, 68, 81, 77, 110, 77,
    72, 73, 46, 37, 46, 84, 50, 50, 67, 72, 59, 72, 68, 44, 72, 71, 34, 34, 67,
    34, 104, 71, 69, 72, 72, 49, 60, 48, 71, 65, 92, 65, 65, 58, 71, 37, 71, 84,
)  # fmt: skip
_LINE = 1.16  # height of a line, in font sizes
_STEP = 0.5
_BREAK_AFTER = re.compile(r"(?<=[/\-_.:\s])")


@dataclass(frozen=True)
class Fitted:
    """Text that fits its box.

    Attributes
    ----------
    lines : tuple of str
    size : float
        Font size, in the box's unit.
    right_to_left : bool
        Whether the text's first strong character is written from right to left.
    """

    lines: tuple[str, ...]
    size: float
    right_to_left: bool

    @property
    def line_height(self) -> float:
        """Distance between two lines' baselines."""
        return round(self.size * _LINE, 2)


def width(text: str) -> float:
    """Return an upper estimate of `text`'s width in font sizes, for any common sans-serif font in bold."""
    return sum(map(_advance, text))


def _advance(mark: str) -> float:
    if " " <= mark <= "~":
        return _ASCII_BOLD[ord(mark) - 32] / 100
    if unicodedata.combining(mark) or mark in "\u200c\u200d\ufe0e\ufe0f":
        return 0.0
    wide = unicodedata.east_asian_width(mark) in "WF" or ord(mark) >= 0x1F000
    return 1.25 if ord(mark) >= 0x1F000 else 1.02 if wide else 0.85


def fit(text: str, box_width: float, box_height: float, largest: float, smallest: float) -> Fitted:
    """Wrap and shrink `text` until it fits; text too long at the smallest size loses its middle.

    Parameters
    ----------
    text : str
        One paragraph.
    box_width, box_height : float
    largest, smallest : float
        Font sizes to try, from large to small.

    Returns
    -------
    Fitted
        Broken after ``/ - _ . :`` and spaces where that fits, else anywhere.
    """
    size = largest
    while size >= smallest:
        lines = wrap(text, box_width / size)
        if len(lines) * size * _LINE <= box_height + 0.01:
            return Fitted(tuple(lines), size, right_to_left(text))
        size -= _STEP
    room = max(int((box_height + 0.01) // (smallest * _LINE)), 1)
    return Fitted(tuple(_shortened(text, box_width / smallest, room)), smallest, right_to_left(text))


def _shortened(text: str, room: float, most_lines: int) -> list[str]:
    """Return the longest head and tail of `text`, joined by an ellipsis, that wrap to `most_lines` lines."""
    short, long = 1, len(text)
    best = ["…"]
    while short <= long:
        kept = (short + long) // 2
        lines = wrap(f"{text[: kept - kept // 3]}…{text[len(text) - kept // 3 :]}", room)
        if len(lines) <= most_lines:
            best, short = lines, kept + 1
        else:
            long = kept - 1
    return best


def wrap(text: str, room: float) -> list[str]:
    """Break `text` into lines of at most `room` font sizes, after separators where possible."""
    lines, line = [], ""
    for piece in filter(None, _BREAK_AFTER.split(text)):
        if line and width((line + piece).rstrip()) > room:
            lines.append(line.strip())
            line = ""
        line += piece
        while width(line.rstrip()) > room and len(line) > 1:
            cut = _cut(line, room)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line.strip()] if line.strip() or not lines else lines


def _cut(line: str, room: float) -> int:
    """Return how many characters of `line` fit, at least one, never parting a mark from its base."""
    total, cut = 0.0, 0
    for position, mark in enumerate(line):
        total += _advance(mark)
        if total > room:
            break
        cut = position + 1
    while 1 < cut < len(line) and _advance(line[cut]) == 0.0:
        cut -= 1
    return max(cut, 1)


def right_to_left(text: str) -> bool:
    """Return whether the first strong character of `text` is written from right to left."""
    for mark in text:
        direction = unicodedata.bidirectional(mark)
        if direction in ("R", "AL"):
            return True
        if direction == "L":
            return False
    return False
