"""Fit a name into a box without knowing the reader's font: widths are those of DejaVu Sans Bold, a wide one."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_EM = 100  # font size that widths are taken at
_LINE = 1.16  # height of a line, in font sizes
_STEP = 0.5
_BREAK_AFTER = re.compile(r"(?<=[/\-_.:\s])")


@dataclass(frozen=True)
class Fitted:
    """Text that fits its box: lines, font size in the box's unit, and whether it reads from right to left."""

    lines: tuple[str, ...]
    size: float
    right_to_left: bool

    @property
    def line_height(self) -> float:
        """Distance between two lines' baselines."""
        return round(self.size * _LINE, 2)


@cache
def _font():
    """Return the font that Matplotlib ships; it is the widest that systems take for sans-serif."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf", _EM)


@cache
def _advance(mark: str) -> float:
    if unicodedata.combining(mark) or mark in "\u200c\u200d\ufe0e\ufe0f":
        return 0.0
    if ord(mark) >= 0x1F000:  # emoji
        return 1.25
    if unicodedata.east_asian_width(mark) in "WF":
        return 1.02
    return max(_font().getlength(mark) / _EM, 0.0 if mark.isascii() else 0.85)  # another font may be wider there


def width(text: str) -> float:
    """Return an upper estimate of `text`'s width in font sizes."""
    return sum(map(_advance, text))


def fit(text: str, box_width: float, box_height: float, largest: float, smallest: float) -> Fitted:
    """Wrap and shrink `text` until it fits; text too long at the smallest size loses its middle.

    Lines break after ``/ - _ . :`` and spaces where that fits, else anywhere.
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
    cut = next((n for n in range(len(line), 1, -1) if width(line[:n]) <= room), 1)
    while 1 < cut < len(line) and _advance(line[cut]) == 0.0:
        cut -= 1
    return cut


def right_to_left(text: str) -> bool:
    """Return whether the first strong character of `text` is written from right to left."""
    directions = (unicodedata.bidirectional(mark) for mark in text)
    return next((direction != "L" for direction in directions if direction in ("L", "R", "AL")), False)
