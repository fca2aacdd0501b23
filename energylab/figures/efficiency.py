"""What saves energy, drawn: energy against wait with the Pareto front, and what each setting's energy is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd

from energylab.figures.style import BLUE, GREEN, GREY, ORANGE, finished, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Marker and colour of each track, in the order in which a table has them.
TRACKS = (("o", BLUE), ("D", ORANGE), ("s", GREEN))

#: Parts of a query's energy, columns ``…_j`` of the table, in the order in which they are drawn.
PARTS = {"static": GREY, "memory": BLUE, "arithmetic": GREEN, "rest": "0.8"}


def energy_against_wait(frame: pd.DataFrame) -> Figure:
    """Draw every setting by its wait and the energy of a query, with the front of those that nothing beats.

    Parameters
    ----------
    frame : pandas.DataFrame
        As `energylab.efficiency.compare` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        Numbered points, named in the legend; answers of another length than the base's are hollow.
    """
    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    usual = frame["new_tokens"].iloc[0]
    styles = dict(zip(dict.fromkeys(frame["track"]), TRACKS, strict=False))
    rows = frame.reset_index().to_dict("records")
    handles = [_point(axes, number, row, usual, *styles[row["track"]]) for number, row in enumerate(rows, 1)]
    front = frame[frame["front"] & (frame["new_tokens"] == usual)].sort_values("latency_s")
    (line,) = axes.plot(front["latency_s"], front["energy_j"], color=GREY, linewidth=1, linestyle="--", zorder=1)
    kind = " and ".join(sorted(set(frame["energy_kind"])))
    axes.set(xlabel="wait for the whole answer (s)", ylabel=f"energy of a query (J), {kind}")
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    labels = [f"{number}  {label}" for number, label in enumerate(frame.index, 1)]
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    axes.legend([*handles, line], [*labels, "nothing beats these"], frameon=False, fontsize=9, **beside)
    axes.grid(color="0.93")
    return finished(figure)


def _point(axes: Axes, number: int, row: dict, usual: float, marker: str, colour: str):
    inside = colour if row["new_tokens"] == usual else "white"
    error = None if pd.isna(row["half_width_j"]) else min(row["half_width_j"], 0.95 * row["energy_j"])
    at = row["latency_s"], row["energy_j"]
    axes.errorbar(*at, yerr=error, color=colour, linewidth=0.8, capsize=2, zorder=2)
    (drawn,) = axes.plot(*at, marker, color=colour, markerfacecolor=inside, markersize=8, linestyle="none", zorder=3)
    axes.annotate(str(number), at, xytext=(7, 5), textcoords="offset points", fontsize=9)
    return drawn


def paid_for(frame: pd.DataFrame) -> Figure | None:
    """Draw what the energy of a query is paid for, and the least this device could answer it with.

    Returns
    -------
    matplotlib.figure.Figure or None
        None where the least work of the model is not known.
    """
    known = frame[frame["least_j"].notna()]
    if known.empty:
        return None
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.38 * len(known)), layout="constrained")
    left = pd.Series(0.0, index=known.index)
    for name, colour in PARTS.items():
        part = known[f"{name}_j"].clip(lower=0)  # a part below zero is within the calibration's error
        axes.barh(known.index, part, left=left, color=colour, label=name, height=0.7)
        left += part
    mark = {"color": "black", "markersize": 14, "markeredgewidth": 2, "label": "this device's least"}
    axes.plot(known["least_j"], range(len(known)), "|", **mark)
    for at, times in enumerate(known["times_least"]):
        axes.annotate(f" {times:.3g} × least", (left.iloc[at], at), va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(right=left.max() * 1.2)
    axes.set(xlabel=f"energy of a query (J), {' and '.join(sorted(set(known['energy_kind'])))}")
    axes.legend(frameon=False, fontsize=9, ncols=5, loc="upper left", bbox_to_anchor=(0, -0.16 - 0.9 / len(known)))
    axes.tick_params(axis="y", length=0)
    return finished(figure, left=True)
