"""Where variance comes from, drawn: components, warm-up, correlation, window length, meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from energylab.errors import StatisticsError
from energylab.statistics.agreement import Agreement
from energylab.statistics.components import Components
from energylab.statistics.correlation import autocorrelation
from energylab.statistics.drift import warm_up

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE = (sns.color_palette("colorblind")[i] for i in (0, 1, 2, 3, 4))
GREY = "0.45"

#: Decades that a logarithmic axis of spreads shows at most, as a ratio: below, an interval ends in an arrow.
DEEPEST = 2000.0


def finished(figure: Figure, left: bool = False) -> Figure:
    """Take off the frame, and out of pyplot's hands: a notebook shows the figure once, as the cell's value."""
    sns.despine(figure, left=left)
    plt.close(figure)
    return figure


def percent_axis(axis: Axis, ticks: list[float] | None = None) -> None:
    """Label an axis of fractions in per cent; plain numbers on a logarithmic axis too."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.10g} %"))
    axis.set_minor_formatter(NullFormatter())
    if ticks is not None:
        axis.set_ticks(ticks)


def round_ticks(low: float, high: float) -> list[float]:
    """1-2-5 ticks that span a logarithmic axis; more of them on one that spans less than a decade."""
    decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    digits = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 5, 7)
    ticks = [round(digit * 10.0**decade, 12) for decade in decades for digit in digits]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def components_figure(components: Components, truth: Mapping[str, float] | None = None) -> Figure:
    """Draw the coefficient of variation of every level with its interval.

    Parameters
    ----------
    components : Components
        From `statistics.components.nested_components`.
    truth : mapping of str to float, optional
        What a simulation put in, marked by a diamond.

    Returns
    -------
    matplotlib.figure.Figure
        One line a level, on a logarithmic axis; a level the data cannot tell stands in words.
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
    axes.set_xscale("log")
    axes.set_xlim(floor, max(positive) * 1.3)
    percent_axis(axes.xaxis, round_ticks(*axes.get_xlim()))
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


def warm_up_figure(units: pd.DataFrame, most: int = 6) -> Figure:
    """Draw the mean power of every window over time, session by session, with the warm-up that is cut.

    Parameters
    ----------
    units : pandas.DataFrame
        From `statistics.units.measured_windows`.
    most : int, default 6
        Sessions to show, spread evenly over all.

    Returns
    -------
    matplotlib.figure.Figure
        Relative to the mean of what is kept; the cut part is shaded.
    """
    ends = warm_up(units)
    shown = ends.iloc[np.unique(np.linspace(0, len(ends) - 1, min(most, len(ends))).astype(int))]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(9, 0.6 + 1.9 * rows), sharey=True, sharex=True, squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, end in zip(grid.flat, shown.itertuples(), strict=False):
        part = units[units["session"] == end.session]
        minutes = (part["start_s"] - part["start_s"].iloc[0]) / 60
        power = part["mean_power_w"] / part["mean_power_w"].iloc[end.cut :].mean() - 1
        axes.axvspan(0, end.cut_s / 60, color=ORANGE, alpha=0.18, linewidth=0)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.plot(minutes, power, ".", color=BLUE, markersize=4)
        state = f"{end.cut} of {end.windows} windows cut" if end.steady else "never steady"
        axes.set_title(f"{end.session[-16:]}: {state}", loc="left", fontsize=8, color="black" if end.steady else RED)
        percent_axis(axes.yaxis)
    figure.supxlabel("time since the session's first window (min)", fontsize=10)
    figure.supylabel(f"mean power, from its\nsteady mean ({units['energy_kind'].iloc[0]})", fontsize=10)
    return finished(figure)


def correlation_figure(units: pd.DataFrame, lags: int = 20) -> Figure:
    """Draw the autocorrelation of the windows' mean power: every session thin, their mean thick.

    Parameters
    ----------
    units : pandas.DataFrame
        From `statistics.drift.steady`.
    lags : int, default 20
        Lags to show.

    Returns
    -------
    matplotlib.figure.Figure
        With the band in which 95 % of the means lie when windows are independent.

    Raises
    ------
    StatisticsError
        If no session has more windows than lags.
    """
    series = [part["mean_power_w"].to_numpy() for _, part in units.groupby("session", sort=False)]
    series = [values for values in series if values.size > lags]
    if not series:
        raise StatisticsError(f"no session has more than {lags} windows; ask for fewer lags")
    rho = np.array([autocorrelation(values)[: lags + 1] for values in series])
    band = 1.96 / np.sqrt(sum(values.size for values in series))
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    axes.axhspan(-band, band, color="0.9", label="independent windows (95 % of the means)")
    axes.plot(np.arange(lags + 1), rho.T, color=BLUE, alpha=0.25, linewidth=0.8)
    axes.plot(
        np.arange(lags + 1), rho.mean(axis=0), "o-", color=BLUE, markersize=4, label=f"mean of {len(rho)} sessions"
    )
    axes.plot([], [], color=BLUE, alpha=0.4, linewidth=0.8, label="one session")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="windows apart", ylabel="autocorrelation of mean power", xlim=(0, lags))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"Are neighbouring windows alike? ({units['energy_kind'].iloc[0]})", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return finished(figure)


def length_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Draw how the spread between the windows of a run falls with their length, and the queries they hold.

    Parameters
    ----------
    table : pandas.DataFrame
        From `statistics.precision.cv_by_length`.
    kind : str
        Kind of the energy.

    Returns
    -------
    matplotlib.figure.Figure
        Both axes logarithmic, 95 % intervals.
    """
    labels = [f"{row.length_s:.2g} s\n{row.queries:.0f} queries" for row in table.itertuples()]
    figure = _spread(table, "length_s", labels, "independent", "independent windows: 1/√length")
    figure.axes[0].set(xlabel="length of a window", ylabel=f"CV of energy per query\n({kind})")
    figure.axes[0].set_title("Between the windows of a run", loc="left", fontsize=10)
    return finished(figure)


def runs_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Draw how the spread between the sessions of a board falls with the runs averaged in each.

    Parameters
    ----------
    table : pandas.DataFrame
        From `statistics.precision.cv_by_runs`.
    kind : str
        Kind of the energy.

    Returns
    -------
    matplotlib.figure.Figure
        Both axes logarithmic, 95 % intervals.
    """
    figure = _spread(table, "runs", list(table["runs"]), "expected", "expected from the components")
    figure.axes[0].set(xlabel="runs averaged in a session", ylabel=f"CV of energy per query\n({kind})")
    figure.axes[0].set_title("Between the sessions of a board", loc="left", fontsize=10)
    return finished(figure)


def _spread(table: pd.DataFrame, across: str, labels: Sequence, reference: str, name: str) -> Figure:
    """Spread with its interval against something averaged over, and a reference line."""
    figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
    axes.plot(table[across], table[reference], "--", color=GREY, label=name)
    error = [table["cv"] - table["low"], table["high"] - table["cv"]]
    axes.errorbar(table[across], table["cv"], yerr=error, fmt="o", color=BLUE, capsize=3, label="found, 95 %")
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(table[across], labels)
    axes.minorticks_off()
    percent_axis(axes.yaxis, round_ticks(*axes.get_ylim()))
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def agreement_figure(comparison: Agreement, kind: str) -> Figure:
    """Draw the difference of two meters against their mean, window by window (Bland-Altman).

    Parameters
    ----------
    comparison : Agreement
        From `statistics.agreement.agreement`.
    kind : str
        Kind of the energy.

    Returns
    -------
    matplotlib.figure.Figure
        With the bias, its interval, and the limits of agreement.
    """
    bias, (low, high) = comparison.bias, comparison.limits
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    axes.plot(comparison.table["mean_j"], comparison.table["difference"], ".", color=BLUE, markersize=4, alpha=0.6)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axhspan(bias.low, bias.high, color=ORANGE, alpha=0.3, linewidth=0)
    lines = [
        ("bias", bias.mean, "-"),
        ("upper limit of agreement", high, "--"),
        ("lower limit of agreement", low, "--"),
    ]
    for name, value, style in lines:
        axes.axhline(value, color=ORANGE, linestyle=style, linewidth=1.2)
        axes.annotate(
            f"{name} {100 * value:+.2f} %", (1.01, value), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    percent_axis(axes.yaxis)
    axes.set(xlabel=f"mean of the two meters (J a window, {kind})", ylabel="difference, relative")
    axes.set_title(
        f"{comparison.other} against {comparison.reference}: {len(comparison.table)} windows", loc="left", fontsize=10
    )
    return finished(figure)
