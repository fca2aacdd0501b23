"""Stars as pictures: energies with their intervals, where models stand on the scale, how sure each star is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from energylab.errors import ParameterError
from energylab.figures import style
from energylab.ratings.rating import SURE
from energylab.ratings.stability import shown_probability

#: The colours of stars for text, dark enough on white.
TEXT_COLOURS = {5: "#1f4e79", 4: "#2f6ea6", 3: "#746f60", 2: "#a3650f", 1: "#a3431a"}
_NAMED = ["cohort", "task", "model_class", "model"]


def plot(stars: pd.DataFrame) -> Figure:
    """Draw every model's energy with both intervals, its stars and how sure they are.

    Parameters
    ----------
    stars : pandas.DataFrame
        From `energylab.rate`.

    Returns
    -------
    matplotlib.figure.Figure
        One panel a group, the lowest energy on top. Thin line: repeatability interval; broad line: expanded
        interval. The axis is logarithmic where energies span more than a factor of 20.
    """
    panels = _panels(stars, "energy_wh", "no model of this table has an energy; see its notes")
    heights = np.cumsum([len(part) + 4.5 for _, part in panels])
    count = 1 if len(panels) < 3 else 2  # columns of about equal height
    at = np.minimum((heights - heights[0] / 2) / heights[-1] * count, count - 1).astype(int)
    columns = [[panel for panel, own in zip(panels, at, strict=True) if own == each] for each in np.unique(at)]
    height = max(sum(len(part) + 4.5 for _, part in column) for column in columns) * 0.2 + 0.4
    with style.styled():
        figure = plt.figure(figsize=(7.5 * len(columns), height), layout="constrained")
        for side, column in zip(np.atleast_1d(figure.subfigures(1, len(columns))), columns, strict=True):
            _draw_column(side, column)
    return figure


def _panels(stars: pd.DataFrame, needed: str, none: str) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of every group, of models that have what is needed."""
    panels = [(title, part) for title, part in style.groups_of(stars.dropna(subset=[needed]))]
    if not panels:
        raise ParameterError(none)
    return panels


def _draw_column(side: Figure | SubFigure, column: list[tuple[str, pd.DataFrame]]) -> None:
    every = side.subplots(len(column), 1, squeeze=False, height_ratios=[len(part) + 2 for _, part in column])[:, 0]
    for axes, (title, part) in zip(every, column, strict=True):
        _draw_energies(axes, part)
        axes.set_title(f"{title}: {len(part)} model{'s' * (len(part) > 1)}, {part['energy_kind'].iloc[0]}")
    every[-1].set_xlabel("energy, Wh per 1,000 queries")


def _draw_energies(axes: Axes, part: pd.DataFrame) -> None:
    at, energy = np.arange(len(part)), part["energy_wh"]
    colours = [style.UNRATED if pd.isna(star) else style.STAR_COLOURS[star] for star in part["stars"]]
    axes.hlines(at, part["expanded_low"], part["expanded_high"], color=colours, linewidth=5, alpha=0.3)
    axes.hlines(at, part["repeatability_low"], part["repeatability_high"], color=colours, linewidth=1.6)
    axes.scatter(energy, at, color=colours, s=20, zorder=3, edgecolor="white", linewidth=0.5)
    if energy.max() > 20 * energy.min():
        style.log_axis(axes.xaxis, "{x:g}", (1, 2, 5) if energy.max() < 100 * energy.min() else (1,))
    else:
        axes.set_xlim(left=0)
    style.rows_down(axes, [style.short(model) for model in part["model"]])
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7.5}
    for row, (star, p) in enumerate(zip(part["stars"], shown_probability(part), strict=True)):
        text = "not rated" if pd.isna(star) else "★" * star + "☆" * (5 - star)
        text += "" if np.isnan(p) else f"  {style.percent(p)}"
        axes.annotate(text, (1.01, row), color=style.UNRATED if pd.isna(star) else TEXT_COLOURS[star], **beside)
    sns.despine(ax=axes, left=True)


def distribution(stars: pd.DataFrame) -> Figure:
    """Show how many models of each group hold how many stars: one bar a group of `energylab.rate`, and one for all."""
    counts = pd.DataFrame(
        {
            title: part["stars"].value_counts().reindex(range(5, 0, -1), fill_value=0)
            for title, part in style.groups_of(stars)
        }
    ).T
    counts.loc["all"] = counts.sum()
    shares = counts.div(counts.sum(axis=1), axis=0)
    middle = shares.cumsum(axis=1) - shares / 2
    with style.styled():
        figure, axes = plt.subplots(figsize=(8, 0.34 * len(counts) + 1.1), layout="constrained")
        style.star_bars(axes, shares)
        for (row, title), star in itertools.product(enumerate(counts.index), counts):
            if count := counts.loc[title, star]:
                look = {"color": "black" if star in (2, 3) else "white", "fontsize": 7.5}
                axes.text(middle.loc[title, star], row, str(count), ha="center", va="center", **look)
        style.rows_down(axes, list(counts.index))
        axes.set(xlim=(0, 1), xlabel="share of the rated models (numbers: models)")
        axes.xaxis.set_major_formatter(style.share)
        axes.legend(ncols=5, loc="lower left", bbox_to_anchor=(0, 1.0), handlelength=1, columnspacing=1.2)
        sns.despine(figure, left=True)
    return figure


@dataclass(frozen=True)
class Theme:
    """Colours of one background, itself transparent: text read first and beside it, stars, bands, rims of dots."""

    ink: str
    quiet: str
    stars: dict[int, str]
    band: float
    edge: str


LIGHT = Theme("#1b2529", "#5a666d", style.STAR_COLOURS, 0.15, "#ffffff")
_BRIGHT = {5: "#58a6f0", 4: "#9ccaf5", 3: "#c9c4b6", 2: "#f0b25c", 1: "#f0794f"}
DARK = Theme("#e6edf3", "#9aa7b2", _BRIGHT, 0.17, "#11161c")


def overview(stars: pd.DataFrame, left_out: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Draw all groups of a rated table, one row each, at the width of a page.

    Parameters
    ----------
    stars : pandas.DataFrame
        From `energylab.rate` by equal width, with probabilities.
    left_out : pandas.DataFrame
        From `energylab.ratings.stability.leave_one_out` of the same table.
    theme : Theme, default LIGHT
        For a light or a dark page.

    Returns
    -------
    matplotlib.figure.Figure
        A dot a model at its place between the lowest and the highest energy of its group, coloured by its stars;
        stars that are right with less than 95 % probability are ringed and say so; at the right the heaviest model,
        and how many others change stars without it.
    """
    panels = _panels(stars, "stars", "no model of this table has stars; see its notes")
    changed = left_out.fillna({"model_class": ""}).set_index(_NAMED)[["others", "changed"]]
    with style.styled():
        figure, axes = plt.subplots(figsize=(8.6, 0.5 * len(panels) + 1.25))
        for star, colour in theme.stars.items():
            axes.axvspan((5 - star) / 5, (6 - star) / 5, color=colour, alpha=theme.band, linewidth=0)
            axes.text((5.5 - star) / 5, -0.85, "★" * star, ha="center", va="center", color=colour, fontsize=10.5)
        for row in range(len(panels) - 1):
            axes.axhline(row + 0.5, color=theme.quiet, linewidth=0.4, alpha=0.5)
        for row, (title, part) in enumerate(panels):
            _draw_row(axes, row, part, theme)
            _write_row(axes, row, title, part, changed, theme)
        _frame(axes, len(panels), stars, theme)
        figure.subplots_adjust(left=0.185, right=0.735, top=0.985, bottom=0.9 / figure.get_figheight())
    plt.close(figure)  # nothing is left behind in pyplot
    return figure


def _draw_row(axes: Axes, row: int, part: pd.DataFrame, theme: Theme) -> None:
    energy = part["energy_wh"].to_numpy()
    place = (energy - energy.min()) / (energy.max() - energy.min())
    height = row + _swarm(place) - 0.1
    colours = [theme.stars[star] for star in part["stars"]]
    axes.scatter(place, height, color=colours, s=24, edgecolor=theme.edge, linewidth=0.6, zorder=3)
    probability = shown_probability(part)
    unsure = np.flatnonzero(probability < SURE)
    axes.scatter(place[unsure], height[unsure], s=74, facecolor="none", edgecolor=theme.ink, linewidth=1.1, zorder=4)
    middle = {"ha": "center", "va": "center", "fontsize": 8, "color": theme.ink, "zorder": 5}
    for x, p in zip(_apart(place[unsure]), probability[unsure], strict=True):
        axes.text(x, row + 0.36, f"{100 * p:.0f} %", **middle)


def _swarm(place: np.ndarray, width: float = 0.018, step: float = 0.11) -> np.ndarray:
    """Move dots that would lie on each other apart, up and down in turn, more up than down: text stands below."""
    levels = step * np.array([0, -1, 1, -2, 2, -3])
    offset = np.zeros(len(place))
    for dot in range(1, len(place)):
        near = [offset[other] for other in range(dot) if abs(place[other] - place[dot]) < width]
        free = [level for level in levels if all(abs(level - used) > step / 2 for used in near)]
        offset[dot] = free[0] if free else levels[dot % len(levels)]
    return offset


def _apart(places: np.ndarray, least: float = 0.08) -> np.ndarray:
    """Move ascending places apart to the least distance, each run of neighbours about its own middle."""
    moved = places.copy()
    for _ in range(20 * len(places)):  # each step halves what is lacking
        lacking = np.clip(least - np.diff(moved), 0, None) / 2
        moved[:-1] -= lacking
        moved[1:] += lacking
    return moved


def _write_row(axes: Axes, row: int, title: str, part: pd.DataFrame, changed: pd.DataFrame, theme: Theme) -> None:
    heaviest = part[_NAMED].fillna("").iloc[-1]
    found = changed.loc[tuple(heaviest)]
    without = f"{found['changed']} of {found['others']} change" if pd.notna(found["changed"]) else "no scale"
    for x, y, text, size, colour in (
        (-0.03, 0, title, 9, theme.ink),
        (-0.03, 0.36, f"{len(part)} models", 7.5, theme.quiet),
        (1.03, -0.16, style.short(heaviest["model"], 26), 9, theme.ink),
        (1.03, 0.24, f"without it{', ' if pd.notna(found['changed']) else ': '}{without}", 8, theme.quiet),
    ):
        axes.text(x, row + y, text, ha="right" if x < 0 else "left", va="center", fontsize=size, color=colour)


def _frame(axes: Axes, rows: int, stars: pd.DataFrame, theme: Theme) -> None:
    kinds, sure = " and ".join(sorted(stars["energy_kind"].unique())), style.share(SURE)
    axes.set(ylim=(rows - 0.35, -1.25), xlim=(-0.015, 1.015), yticks=[])
    axes.set_xticks([0, 1], ["lowest energy\nof the task", "highest energy\nof the task"])
    axes.tick_params(length=0, labelsize=8.5, labelcolor=theme.quiet)
    axes.text(1.03, -0.85, "highest energy", va="center", fontsize=8.5, color=theme.quiet)
    at = {"xycoords": ("axes fraction", "axes fraction"), "textcoords": "offset points", "va": "center"}
    axes.annotate(
        f"○ a star that is right with the probability below it;\nall others: {sure} or more. Energy: {kinds}",
        (0.5, 0), (0, -22), ha="center", fontsize=8.5, color=theme.ink, linespacing=1.35, **at,
    )  # fmt: skip
    sns.despine(ax=axes, left=True, bottom=True)
