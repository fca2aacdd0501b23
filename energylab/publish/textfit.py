"""Fit a name into a box when the reader's font is unknown: widths are those of a wide font, DejaVu Sans Bold."""

from __future__ import annotations

import bisect
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

_EM = 100  # font size at which widths are measured
_LINE = 1.16  # height of a line, in font sizes
_STEP = 0.5
_BREAK_AFTER = re.compile(r"(?<=[/\-_.:\s])")


class Fitted(NamedTuple):
    """Text that fits its box: its lines, and the font size in the box's unit."""

    lines: tuple[str, ...]
    size: float

    @property
    def line_height(self) -> float:
        """Distance between two lines' baselines."""
        return round(self.size * _LINE, 2)


@cache
def _font():
    """Return the font of Matplotlib, the widest of the usual sans-serif fonts."""
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
    """Wrap and shrink `text` until it fits; if it is too long at the smallest size, its middle is cut out."""
    size, room = largest, 1
    while size >= smallest:
        room = max(int((box_height + 0.01) // (size * _LINE)), 1)
        if len(lines := wrap(text, box_width / size)) <= room:
            return Fitted(tuple(lines), size)
        size -= _STEP
    size += _STEP

    def shortened(kept: int) -> list[str]:
        return wrap(f"{text[: kept - kept // 3]}…{text[len(text) - kept // 3 :]}", box_width / size)

    kept = bisect.bisect_right(range(len(text)), room, key=lambda kept: len(shortened(kept))) - 1
    return Fitted(tuple(shortened(kept)), size)


def wrap(text: str, room: float) -> list[str]:
    """Break `text` into lines of at most `room` font sizes, after ``/ - _ . :`` and spaces if possible, else anywhere.

    A combining character is never separated from its base.
    """
    lines, used = [""], 0.0
    for piece in filter(None, _BREAK_AFTER.split(text)):
        for place, mark in enumerate(piece):
            needed = _advance(mark) if place else width(piece.rstrip())  # a piece moves on whole, if that helps
            if lines[-1] and used + needed > room and _advance(mark) and not mark.isspace():
                lines.append("")
                used = 0.0
            lines[-1] += mark
            used += _advance(mark)
    return [line.strip() for line in lines]
