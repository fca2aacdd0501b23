"""How sure a figure is, drawn: components, drift, sessions that are enough, meters."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from energylab.figures.style import BLUE, GREY, ORANGE, finished, log_axis, share
from energylab.statistics.variance import Agreement, Components, relative_half_width, relative_power

#: Decades that a logarithmic axis of spreads shows at most, as a ratio: below, an interval ends in an arrow.
DEEPEST = 2000.0


def components_figure(components: Components, truth: Mapping[str, float] | None = None) -> Figure:
    """Draw the coefficient of variation of every level with its interval, one line a level, on a logarithmic axis.

    A level the data cannot tell stands in words; what a simulation put in (`truth`) is marked by a diamond.
    """
    table = components.table.iloc[::-1].reset_index(drop=True)
    known = table[table["cv"].notna()]
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    positive = [v for v in known[["cv", "low", "high"]].to_numpy().ravel() if v > 0] or [0.001, 0.1]
    floor = max(min(positive) / 2, max(positive) / DEEPEST)
    for place, row in known.iterrows():
        low = max(row["low"], floor)
        axes.plot([low, row["high"]], [place, place], color=BLUE, linewidth=5, alpha=0.35, solid_capstyle="butt")
        if row["low"] <= floor:  # the interval goes on below the axis, often to zero
            axes.plot(floor, place, marker="<", color=BLUE, markersize=7, clip_on=False)
        axes.plot(max(row["cv"], floor), place, "o", color=BLUE, markersize=7, zorder=3)
        label = f"{100 * row['cv']:.2g} %  ({100 * row['low']:.2g} to {100 * row['high']:.2g})"
        axes.annotate(label, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        if truth and row["level"] in truth:
            axes.plot(truth[row["level"]], place, "D", color=ORANGE, markersize=6, markeredgecolor="white", zorder=4)
    for place, row in table[table["cv"].isna()].iterrows():
        axes.annotate(
            row["note"], (0.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=GREY
        )
    log_axis(axes.xaxis, share)
    axes.set_xlim(floor, max(positive) * 1.3)
    names = [f"{row.level} ({row.units})" for row in table.itertuples()]
    axes.set(yticks=range(len(table)), yticklabels=names, ylim=(-0.6, len(table) - 0.4))
    axes.set_xlabel(f"coefficient of variation of energy per query ({components.energy_kind}), 95 % interval")
    axes.plot([], [], "o-", color=BLUE, label="estimated")
    if truth:
        axes.plot([], [], "D", color=ORANGE, label="true (simulation)")
    axes.set_title("Where variance comes from", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    axes.grid(axis="x", color="0.92")
    axes.tick_params(axis="y", length=0)
    return finished(figure, left=True)


def drift_figure(windows: pd.DataFrame, most: int = 6) -> Figure:
    """Draw the power of every window over time, session by session, relative to its phase's mean; `most` sessions."""
    table = relative_power(windows)
    sessions = list(table["session"].unique())
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    for session, colour in zip(sessions[:most], sns.color_palette("crest", most), strict=False):
        part = table[table["session"] == session]
        axes.plot(part["hours"] * 60, part["power"] - 1, ".-", color=colour, linewidth=0.6, markersize=3)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.yaxis.set_major_formatter(share)
    kind = table["energy_kind"].iloc[0] if len(table) else ""
    axes.set(xlabel="minutes since the first reading", ylabel=f"power, relative to the mean ({kind})")
    shown = f"{min(most, len(sessions))} of {len(sessions)} sessions" if len(sessions) > most else "every session"
    axes.set_title(f"Does it drift? {shown}", loc="left", fontsize=10)
    return finished(figure)


def plan_figure(components: Components, target: float, most_sessions: int = 20) -> Figure:
    """Draw the relative half-width of one board's mean against the number of sessions, for 1, 3 and 10 runs each."""
    sessions = np.arange(2, most_sessions + 1)
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for runs, colour in zip((1, 3, 10), sns.color_palette("crest", 3), strict=True):
        widths = [relative_half_width(components, int(count), runs) for count in sessions]
        axes.plot(sessions, widths, "o-", color=colour, markersize=3, linewidth=1.4, label=str(runs))
    axes.axhline(target, color=ORANGE, linewidth=1.2)
    axes.annotate(f"target ±{100 * target:.2g} %", (2, target * 0.93), va="top", fontsize=9, color=ORANGE)
    log_axis(axes.xaxis, "{x:g}", (1, 2, 3, 5))
    log_axis(axes.yaxis, share)
    axes.set(xlim=(1.8, most_sessions * 1.1), xlabel="sessions")
    axes.set_ylabel(f"relative half-width of the\n95 % interval ({components.energy_kind})")
    axes.legend(title="runs a session", frameon=False, fontsize=9, title_fontsize=9)
    axes.grid(color="0.93")
    return finished(figure)


def agreement_figure(comparison: Agreement, kind: str) -> Figure:
    """Draw the difference of two meters against their mean, window by window (Bland and Altman)."""
    mean_j = comparison.pairs.mean(axis=1)  # differences grow with the energy: they are relative to it
    difference = (comparison.pairs[comparison.other] - comparison.pairs[comparison.reference]) / mean_j
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    axes.scatter(mean_j, difference, s=8, color=BLUE)
    low, high = comparison.limits
    for value, name in ((low, "limit"), (comparison.bias.mean, "bias"), (high, "limit")):
        axes.axhline(value, color=GREY, linestyle="--" if name == "bias" else ":", linewidth=1)
        axes.annotate(
            f"{name} {100 * value:+.1f} %", (1.01, value), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    axes.yaxis.set_major_formatter(share)
    axes.set_xlabel(f"energy of a window, mean of both meters, J ({kind})")
    axes.set_ylabel(f"{comparison.other} - {comparison.reference},\nrelative")
    return finished(figure)
