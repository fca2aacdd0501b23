"""Draw the picture of README.md from the published table: ``python docs/assets/make_picture.py [FOLDER]``.

Writes ``published-stars-light.svg`` and ``published-stars-dark.svg`` beside this file, or into FOLDER. The published
figures came without any spread, so a standard error of 1 % is stated for each; seeded, so that it gives the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import energylab
from energylab import published
from energylab.figures import ratings as figures
from energylab.ratings import stability

NOISE = 0.01


def main(folder: str | Path = Path(__file__).parent) -> list[Path]:
    """Write both pictures; return their paths."""
    table = published.load()
    stars = energylab.rate(table, "equal_width", noise=NOISE, seed=0)
    left_out = stability.leave_one_out(table)
    made = []
    for name, theme in (("light", figures.LIGHT), ("dark", figures.DARK)):
        figure = figures.overview(stars, left_out, theme)
        made.append(Path(folder) / f"published-stars-{name}.svg")
        with matplotlib.rc_context({"svg.hashsalt": "energylab"}):  # the same names inside the file every time
            figure.savefig(made[-1], transparent=True, metadata={"Date": None, "Creator": None})
    return made


if __name__ == "__main__":
    for path in main(*sys.argv[1:2]):
        sys.stdout.write(f"{path}\n")
