"""Figures as SVG that is the same whenever and wherever it is drawn."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Text stays text, in the reader's fonts; ids come from this salt and not from chance.
SETTINGS = {"svg.hashsalt": "energylab", "svg.fonttype": "none", "text.parse_math": False, "font.size": 9.0}

_PROLOGUE = re.compile(r"\A.*?(?=<svg)", re.DOTALL)
_DATES_AND_TOOLS = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


def to_svg(figure: Figure) -> str:
    """Return a figure as one ``<svg>`` element, and close the figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Best drawn under `SETTINGS`.

    Returns
    -------
    str
        Without prologue, date, or the name of the program that drew it.
    """
    import matplotlib.pyplot as plt

    out = io.StringIO()
    with plt.rc_context(SETTINGS), warnings.catch_warnings():
        # The text is not drawn here but by the reader's own fonts, which may well have the glyph.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return _DATES_AND_TOOLS.sub("", _PROLOGUE.sub("", out.getvalue(), count=1))
