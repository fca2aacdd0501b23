"""How much measuring is enough, drawn: sessions and queries for a precision, totals from fewer, when to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from energylab.errors import StatisticsError
from energylab.figures.variance import BLUE, GREY, ORANGE, RED, finished, percent_axis, round_ticks
from energylab.statistics.components import Components
from energylab.statistics.precision import relative_half_width
from energylab.statistics.totals import totals_summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plan_figure(components: Components, target: float, most_sessions: int = 20) -> Figure:
    """Draw the expected precision against sessions, for several numbers of runs (left) and of queries (right).

    Parameters
    ----------
    components : Components
        From `statistics.components.nested_components`.
    target : float
        Wanted relative half-width, drawn as a line.
    most_sessions : int, default 20
        End of the axis.

    Returns
    -------
    matplotlib.figure.Figure
        Relative half-width of the 95 % interval of one board's mean; both axes logarithmic.
    """
    sessions = np.arange(2, most_sessions + 1)
    every = components.queries
    fewer = [count for count in (every // 20, every // 5, every // 2) if count >= 1]
    families = [
        ("runs a session, all queries", [(runs, every, str(runs)) for runs in (1, 3, 10)]),
        ("queries a run, one run a session", [(1, count, str(count)) for count in (*fewer, every)]),
    ]
    widths = [[relative_half_width(components, sessions, *design[:2]) for design in each] for _, each in families]
    figure, both = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for axes, (title, designs), lines in zip(both, families, widths, strict=True):
        colours = sns.color_palette("crest", len(designs))
        for (*_, label), width, colour in zip(designs, lines, colours, strict=True):
            axes.plot(sessions, width, "o-", color=colour, markersize=3, linewidth=1.4, label=label)
        axes.axhline(target, color=ORANGE, linewidth=1.2)
        label = f"target ±{100 * target:.2g} %"
        axes.annotate(label, (2, target * 0.93), va="top", fontsize=9, color=ORANGE)
        axes.set(xscale="log", yscale="log", xlabel="sessions")
        axes.set_xticks([2, 3, 5, 10, 20], ["2", "3", "5", "10", "20"])
        axes.minorticks_off()
        axes.legend(title=title, frameon=False, fontsize=9, title_fontsize=9)
        axes.grid(color="0.93")
    percent_axis(both[0].yaxis, round_ticks(*both[0].get_ylim()))
    both[0].set_ylabel(f"relative half-width of the\n95 % interval ({components.energy_kind})")
    return finished(figure)


def totals_figure(totals: pd.DataFrame, kind: str) -> Figure:
    """Draw totals estimated from fewer queries: every run at the middle step (left), all steps (right).

    Parameters
    ----------
    totals : pandas.DataFrame
        From `statistics.totals.totals_by_windows`.
    kind : str
        Kind of the energy.

    Returns
    -------
    matplotlib.figure.Figure
        Left: estimates and intervals relative to the run's measured total, runs in order of the estimate,
        intervals that miss it in red. Right: mean half-width of the intervals.
    """
    shown = totals["step"].max() // 2
    methods = list(totals["method"].unique())
    colours = dict(zip(methods, (GREY, BLUE), strict=False))
    figure, axes = plt.subplot_mosaic([[*methods, "width"]], figsize=(9, 3.6), layout="constrained")
    for method in methods:
        part = totals[(totals["step"] == shown) & (totals["method"] == method)].sort_values("estimate")
        _forest(axes[method], part, colours[method])
        axes[method].set_title(
            f"{method}, {part['queries'].mean():.0f} queries:\n{part['held'].sum()} of {len(part)} hold", fontsize=9
        )
    axes[methods[0]].set_ylabel(f"estimated total, from\nthe total measured ({kind})")
    for method in methods[1:]:
        axes[method].sharey(axes[methods[0]])
        axes[method].tick_params(labelleft=False)
    table = totals_summary(totals)
    for method in methods:
        part = table[table["method"] == method]
        axes["width"].plot(part["queries"], part["half_width"], "o-", color=colours[method], markersize=4, label=method)
    axes["width"].set(xlabel="queries measured", ylabel="mean half-width", ylim=(0, None))
    axes["width"].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes["width"].legend(frameon=False, fontsize=9)
    percent_axis(axes["width"].yaxis)
    return finished(figure)


def _forest(axes: Axes, part: pd.DataFrame, colour) -> None:
    place = np.arange(len(part))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.vlines(
        place, part["low"], part["high"], color=[colour if held else RED for held in part["held"]], linewidth=1.4
    )
    axes.plot(place, part["estimate"], "o", color=colour, markersize=3)
    axes.set(xlabel="run", xticks=[])
    percent_axis(axes.yaxis)


def stopping_figure(decisions: pd.DataFrame, target: float, kind: str) -> Figure:
    """Draw the interval of a stop rule window by window, and where it stopped.

    Parameters
    ----------
    decisions : pandas.DataFrame
        From `statistics.replay.replay`.
    target : float
        The rule's relative half-width.
    kind : str
        Kind of the energy.

    Returns
    -------
    matplotlib.figure.Figure
        Band of the interval relative to the last estimate; the first stop is marked.

    Raises
    ------
    StatisticsError
        If the rule had an interval after fewer than two windows.
    """
    if decisions["mean_j"].notna().sum() < 2:
        raise StatisticsError(f"{len(decisions)} windows gave no two intervals to draw; measure more windows")
    last = decisions["mean_j"].iloc[-1]
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    middle, low, high = (decisions[name] / last - 1 for name in ("mean_j", "low_j", "high_j"))
    axes.fill_between(decisions["windows"], low, high, color=BLUE, alpha=0.2, linewidth=0, label="anytime-valid 95 %")
    axes.plot(decisions["windows"], middle, color=BLUE, linewidth=1.4, label="estimate")
    for sign in (-1, 1):
        axes.plot(decisions["windows"], middle + sign * target, color=ORANGE, linewidth=0.9, linestyle=":")
    axes.plot([], [], color=ORANGE, linestyle=":", label=f"target ±{100 * target:.2g} %")
    stopped = decisions[decisions["stop"]]
    if len(stopped):
        first = stopped.iloc[0]
        late = first["windows"] > decisions["windows"].iloc[-1] / 2
        axes.axvline(first["windows"], color="black", linewidth=1)
        axes.annotate(
            f"stop after {first['windows']} windows, {first['queries']} queries",
            (first["windows"], 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if late else 5, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            fontsize=9,
        )
    reach = 4 * max(target, float((high - low).min()))
    axes.set(
        xlabel="windows looked at", ylabel=f"energy per query, from the\nlast estimate ({kind})", ylim=(-reach, reach)
    )
    percent_axis(axes.yaxis)
    axes.set_title("Stop when sure", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9, loc="lower right", ncols=3)
    return finished(figure)
