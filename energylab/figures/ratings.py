"""Stars as pictures: energies with their intervals, where models stand on the scale, how sure each star is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, NullFormatter

from energylab.errors import ParameterError
from energylab.ratings.rating import SURE
from energylab.ratings.stability import shown_probability

#: One colour a number of stars: blue uses little, orange much; apart also for the colour-blind and in grey.
STAR_COLOURS = {5: "#1f4e79", 4: "#5b93c7", 3: "#b8b3a5", 2: "#e3a04f", 1: "#b04a1f"}
#: The same for text, dark enough on white.
TEXT_COLOURS = {5: "#1f4e79", 4: "#2f6ea6", 3: "#746f60", 2: "#a3650f", 1: "#a3431a"}
UNRATED = "0.55"
STYLE = {
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": "0.5",
    "axes.linewidth": 0.8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": "0.35",
    "ytick.color": "0.15",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "font.size": 8.5,
    "figure.dpi": 110,
    "svg.hashsalt": "energylab",
}
_GROUP = ["cohort", "task", "model_class"]


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the package's style.

    Unlike ``plt.rc_context`` it puts back its own settings alone: a notebook turns interactive drawing on when the
    first figure is made, and restoring everything would turn it off again.
    """
    before = {name: plt.rcParams[name] for name in STYLE}
    plt.rcParams.update(STYLE)
    try:
        yield
    finally:
        plt.rcParams.update(before)


def groups_of(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the title and the rows of every group, in the order of the table."""
    for _, part in table.groupby([name for name in _GROUP if name in table], dropna=False, sort=False):
        first = part.iloc[0]
        named = "" if pd.isna(first["model_class"]) else f", class {first['model_class']}"
        yield first["task"].replace("_", " ") + named, part


def short(model: str, width: int = 34) -> str:
    """Return a model's name without its owner, cut in the middle where it is long."""
    name = model.rpartition("/")[2]
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[:half]}…{name[-half:]}"


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
    columns = _columns(panels, 1 if len(panels) < 3 else 2)
    height = max(sum(len(part) + 4.5 for _, part in column) for column in columns) * 0.2 + 0.4
    with styled():
        figure = plt.figure(figsize=(7.5 * len(columns), height), layout="constrained")
        for side, column in zip(np.atleast_1d(figure.subfigures(1, len(columns))), columns, strict=True):
            _draw_column(side, column)
    return figure


def _panels(stars: pd.DataFrame, needed: str, none: str) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of every group, of models that have what is needed."""
    panels = [(title, part.dropna(subset=[needed])) for title, part in groups_of(stars)]
    panels = [(title, part) for title, part in panels if len(part)]
    if not panels:
        raise ParameterError(none)
    return panels


def _columns(panels: list, count: int) -> list[list]:
    """Spread panels over columns of about equal height, in order."""
    heights = np.cumsum([len(part) + 4.5 for _, part in panels])
    column = np.minimum((heights - heights[0] / 2) / heights[-1] * count, count - 1).astype(int)
    return [[panel for panel, at in zip(panels, column, strict=True) if at == each] for each in np.unique(column)]


def _draw_column(side: Figure | SubFigure, column: list[tuple[str, pd.DataFrame]]) -> None:
    heights = [len(part) + 2 for _, part in column]
    every = side.subplots(len(column), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, part) in zip(every, column, strict=True):
        _draw_energies(axes, part)
        axes.set_title(f"{title}: {len(part)} model{'s' * (len(part) > 1)}, {part['energy_kind'].iloc[0]}")
    every[-1].set_xlabel("energy, Wh per 1,000 queries")


def _draw_energies(axes: Axes, part: pd.DataFrame) -> None:
    at = np.arange(len(part))
    colours = [UNRATED if pd.isna(star) else STAR_COLOURS[star] for star in part["stars"]]
    axes.hlines(at, part["expanded_low"], part["expanded_high"], color=colours, linewidth=5, alpha=0.3)
    axes.hlines(at, part["repeatability_low"], part["repeatability_high"], color=colours, linewidth=1.6)
    axes.scatter(part["energy_wh"], at, color=colours, s=20, zorder=3, edgecolor="white", linewidth=0.5)
    if part["energy_wh"].max() > 20 * part["energy_wh"].min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if _decades(part) < 2 else (1,)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(at, [short(model) for model in part["model"]])
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    for row, (star, text) in enumerate(zip(part["stars"], _star_texts(part), strict=True)):
        colour = UNRATED if pd.isna(star) else TEXT_COLOURS[star]
        axes.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=7.5, color=colour)
    axes.tick_params(axis="y", length=0)
    sns.despine(ax=axes, left=True)


def _decades(part: pd.DataFrame) -> float:
    return float(np.log10(part["energy_wh"].max() / part["energy_wh"].min()))


def _star_texts(part: pd.DataFrame) -> list[str]:
    """Stars as text, with the probability that they are the true ones where it is known."""
    texts = []
    for row in part.itertuples():
        if pd.isna(row.stars):
            texts.append("not rated")
            continue
        p = getattr(row, f"p_star_{row.stars}")
        texts.append("★" * row.stars + "☆" * (5 - row.stars) + ("" if np.isnan(p) else f"  {percent(p)}"))
    return texts


def percent(p: float) -> str:
    """A probability from redraws: never more certain than they can say."""
    return "> 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def swarm(place: np.ndarray, width: float = 0.018, step: float = 0.11) -> np.ndarray:
    """Move dots that would lie on each other apart, up and down in turn, more up than down: text stands below."""
    levels = step * np.array([0, -1, 1, -2, 2, -3])
    offset = np.zeros(len(place))
    for dot in range(1, len(place)):
        near = [offset[other] for other in range(dot) if abs(place[other] - place[dot]) < width]
        free = [level for level in levels if all(abs(level - used) > step / 2 for used in near)]
        offset[dot] = free[0] if free else levels[dot % len(levels)]
    return offset


def star_bars(axes: Axes, shares: pd.DataFrame, height: float = 0.72) -> None:
    """Stack, row by row, the shares of five stars (left) to one; columns are numbers of stars."""
    left = np.zeros(len(shares))
    for star in range(5, 0, -1):
        width = shares[star].to_numpy(dtype=float)
        axes.barh(range(len(shares)), width, left=left, color=STAR_COLOURS[star], height=height, label="★" * star)
        left = left + width


def distribution(stars: pd.DataFrame) -> Figure:
    """Show how many models of each group hold how many stars: one bar a group of `energylab.rate`, and one for all."""
    counts = pd.DataFrame(
        {title: part["stars"].value_counts().reindex(range(5, 0, -1), fill_value=0) for title, part in groups_of(stars)}
    ).T
    counts.loc["all"] = counts.sum()
    share = counts.div(counts.sum(axis=1), axis=0)
    with styled():
        figure, axes = plt.subplots(figsize=(8, 0.34 * len(counts) + 1.1), layout="constrained")
        star_bars(axes, share)
        middle = share.cumsum(axis=1) - share / 2
        for (row, title), star in itertools.product(enumerate(counts.index), counts):
            if count := counts.loc[title, star]:
                colour = "black" if star in (2, 3) else "white"
                at = (middle.loc[title, star], row)
                axes.text(*at, str(count), ha="center", va="center", color=colour, fontsize=7.5)
        axes.set_yticks(range(len(counts)), counts.index)
        axes.set(ylim=(len(counts) - 0.4, -0.6), xlim=(0, 1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_xlabel("share of the rated models (numbers: models)")
        axes.tick_params(axis="y", length=0)
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
    """
    panels = _panels(stars, "stars", "no model of this table has stars; see its notes")
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
    height = row + swarm(place) - 0.1
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
    same &= left_out["model_class"].fillna("") == ("" if pd.isna(heaviest["model_class"]) else heaviest["model_class"])
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
    axes.text(1.03, -0.85, "highest energy", va="center", fontsize=8.5, color=theme.quiet)
    sure = f"{100 * SURE:.0f} % or more"
    at = {"xycoords": ("axes fraction", "axes fraction"), "textcoords": "offset points", "va": "center"}
    axes.annotate(
        f"○ a star that is right with the probability below it;\nall others: {sure}. Energy: {kinds}",
        (0.5, 0), (0, -22), ha="center", fontsize=8.5, color=theme.ink, linespacing=1.35, **at,
    )  # fmt: skip
    sns.despine(ax=axes, left=True, bottom=True)
