"""One picture of a rated table for a page, light or dark: every star, the doubtful ones, who holds up a scale."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from energylab.errors import ParameterError
from energylab.figures.ratings import STAR_COLOURS, groups_of, short, styled, swarm
from energylab.ratings.rating import SURE
from energylab.ratings.stability import shown_probability


@dataclass(frozen=True)
class Theme:
    """Colours of one background; the background itself stays transparent.

    Attributes
    ----------
    ink, quiet : str
        Text that is read first, and text beside it.
    stars : dict of int to str
        Colour of each number of stars.
    band : float
        Opacity of the bands.
    edge : str
        Around a dot, so that neighbours stay apart.
    """

    ink: str
    quiet: str
    stars: dict[int, str]
    band: float
    edge: str


LIGHT = Theme("#1b2529", "#5a666d", STAR_COLOURS, 0.15, "#ffffff")
DARK = Theme(
    "#e6edf3", "#9aa7b2", {5: "#58a6f0", 4: "#9ccaf5", 3: "#c9c4b6", 2: "#f0b25c", 1: "#f0794f"}, 0.17, "#11161c"
)

_ROW_IN = 0.5  # height of a group
_WIDTH_IN = 8.6


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

    Raises
    ------
    ParameterError
        If no model has stars.
    """
    panels = [(title, part.dropna(subset=["stars"])) for title, part in groups_of(stars)]
    panels = [(title, part) for title, part in panels if len(part)]
    if not panels:
        raise ParameterError("no model of this table has stars; see its notes")
    with styled():
        figure, axes = plt.subplots(figsize=(_WIDTH_IN, _ROW_IN * len(panels) + 1.25))
        _draw_bands(axes, theme, len(panels))
        for row, (title, part) in enumerate(panels):
            _draw_row(axes, row, part, theme)
            _write_row(axes, row, title, part, left_out, theme)
        _finish(axes, len(panels), stars, theme)
        figure.subplots_adjust(left=0.185, right=0.735, top=0.985, bottom=0.9 / figure.get_figheight())
    plt.close(figure)  # nothing is left behind in pyplot
    return figure


def _draw_bands(axes: Axes, theme: Theme, rows: int) -> None:
    for star, colour in theme.stars.items():
        axes.axvspan((5 - star) / 5, (6 - star) / 5, color=colour, alpha=theme.band, linewidth=0)
        axes.text((5.5 - star) / 5, -0.85, "★" * star, ha="center", va="center", color=colour, fontsize=10.5)
    for row in range(rows - 1):
        axes.axhline(row + 0.5, color=theme.quiet, linewidth=0.4, alpha=0.5)


def _draw_row(axes: Axes, row: int, part: pd.DataFrame, theme: Theme) -> None:
    energy = part["energy_wh"].to_numpy()
    place = (energy - energy.min()) / (energy.max() - energy.min())
    height = row + swarm(place, width=0.018, step=0.125) - 0.06
    colours = [theme.stars[star] for star in part["stars"]]
    axes.scatter(place, height, color=colours, s=24, edgecolor=theme.edge, linewidth=0.6, zorder=3)
    probability = shown_probability(part)
    unsure = np.flatnonzero(probability < SURE)
    axes.scatter(place[unsure], height[unsure], s=74, facecolor="none", edgecolor=theme.ink, linewidth=1.1, zorder=4)
    for x, share in zip(_apart(place[unsure]), probability[unsure], strict=True):
        axes.text(
            x, row + 0.36, f"{100 * share:.0f} %", ha="center", va="center", fontsize=8, color=theme.ink, zorder=5
        )


def _apart(places: np.ndarray, least: float = 0.08) -> np.ndarray:
    """Move ascending places apart to the least distance, each run of neighbours about its own middle."""
    moved = places.copy()
    for _ in range(20 * len(places)):  # each step halves what is lacking
        lacking = np.clip(least - np.diff(moved), 0, None) / 2
        moved[:-1] -= lacking
        moved[1:] += lacking
    return moved


def _write_row(axes: Axes, row: int, title: str, part: pd.DataFrame, left_out: pd.DataFrame, theme: Theme) -> None:
    axes.text(-0.03, row, title, ha="right", va="center", fontsize=9, color=theme.ink)
    axes.text(-0.03, row + 0.36, f"{len(part)} models", ha="right", va="center", fontsize=7.5, color=theme.quiet)
    heaviest = part.iloc[-1]
    same = (left_out["task"] == heaviest["task"]) & (left_out["model"] == heaviest["model"])
    found = left_out[same].iloc[0]
    changed = "without it: no scale" if pd.isna(found["changed"]) else (
        f"without it, {found['changed']} of {found['others']} change"
    )  # fmt: skip
    axes.text(1.03, row - 0.16, short(heaviest["model"], 26), va="center", fontsize=9, color=theme.ink)
    axes.text(1.03, row + 0.24, changed, va="center", fontsize=8, color=theme.quiet)


def _finish(axes: Axes, rows: int, stars: pd.DataFrame, theme: Theme) -> None:
    kinds = " and ".join(sorted(stars["energy_kind"].unique()))
    axes.set(ylim=(rows - 0.35, -1.25), xlim=(-0.015, 1.015), yticks=[])
    axes.set_xticks([0, 1], ["lowest energy\nof the task", "highest energy\nof the task"])
    axes.tick_params(length=0, labelsize=8.5, labelcolor=theme.quiet)
    axes.text(1.03, -0.85, "who holds up the scale", va="center", fontsize=8.5, color=theme.quiet)
    sure = f"{100 * SURE:.0f} % or more"
    at = {"xycoords": ("axes fraction", "axes fraction"), "textcoords": "offset points", "va": "center"}
    axes.annotate(
        f"○ a star that is right with the probability below it;\nall others: {sure}. Energy: {kinds}",
        (0.5, 0), (0, -22), ha="center", fontsize=8.5, color=theme.ink, linespacing=1.35, **at,
    )  # fmt: skip
    sns.despine(ax=axes, left=True, bottom=True)
