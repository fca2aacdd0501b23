"""What moves a star, as pictures: noise, models that leave or join, other schemes, and the order of the list."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from energylab.figures import style
from energylab.ratings.rating import PROBABILITIES, SURE
from energylab.ratings.stability import rated_by, with_probability

INK = style.STAR_COLOURS[5]
ACCENT = style.STAR_COLOURS[1]


def unsure(stars: pd.DataFrame, least: int = 5) -> Figure:
    """Show the probability of every number of stars where the shown one of `rate` is not sure, or the least sure."""
    known = with_probability(stars).sort_values("p_shown", kind="stable")
    part = known.head(int((known["p_shown"] < SURE).sum()) or least)
    with style.styled():
        figure, axes = plt.subplots(figsize=(8.5, 0.27 * len(part) + 1.0), layout="constrained")
        style.star_bars(axes, part[list(PROBABILITIES)].set_axis(range(1, 6), axis=1))
        for row, model in enumerate(part.itertuples()):
            axes.text(1.01, row, f"shown {model.stars} ★  {style.percent(model.p_shown)}", va="center", fontsize=7.5)
        style.rows_down(axes, _names(part))
        axes.set(xlim=(0, 1), xlabel="probability of each number of stars")
        axes.xaxis.set_major_formatter(style.share)
        axes.legend(ncols=5, loc="lower left", bbox_to_anchor=(0, 1.0), handlelength=1)
        sns.despine(figure, left=True)
    return figure


def noise(swept: pd.DataFrame, boards: pd.DataFrame | None = None) -> Figure:
    """Show how many stars would be wrong at each noise, and in which groups; tables from `stability.under_noise`."""
    with style.styled():
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1, 1.5), layout="constrained")
        _draw_expected(left, swept, INK, "all on one board", (8, -12))
        if boards is not None:
            _draw_expected(left, boards, ACCENT, "every model on its own board", (-7, 5))
        left.set(xlabel="noise of each figure (relative standard error)", ylabel="expected number of wrong stars")
        left.set_title(f"of {swept['model'].size // swept['noise'].nunique()} stars, how many are wrong?")
        left.set_ylim(bottom=0)
        left.legend(loc="upper left")
        _draw_shares(right, swept)
        sns.despine(ax=left)
    return figure


def _draw_expected(axes: Axes, swept: pd.DataFrame, colour: str, label: str, beside: tuple[float, float]) -> None:
    wrong = swept.groupby("noise")["p_flip"].sum()
    axes.plot(range(len(wrong)), wrong, marker="o", color=colour, label=label)
    for at, value in enumerate(wrong):
        x, y = (-7, 5) if value < 0.1 * wrong.max() else beside  # not into the axis below
        side = "right" if x < 0 else "left"
        axes.annotate(f"{value:.1f}", (at, value), (x, y), textcoords="offset points", ha=side, color=colour)
    axes.set_xticks(range(len(wrong)), [f"{100 * each:g} %" for each in wrong.index])
    axes.margins(x=0.16, y=0.15)


def _draw_shares(axes: Axes, swept: pd.DataFrame) -> None:
    shares = pd.DataFrame({title: part.groupby("noise")["p_flip"].mean() for title, part in style.groups_of(swept)}).T
    shares.columns = [f"{100 * each:g} %" for each in shares.columns]
    _heatmap(axes, shares, shares.map(lambda p: "" if p < 5e-4 else f"{100 * p:.1f} %"))
    axes.set(xlabel="noise of each figure", ylabel="")
    axes.set_title("share of the models whose star is wrong")


def _heatmap(axes: Axes, values: pd.DataFrame, texts: pd.DataFrame, top: float | None = None) -> None:
    palette = sns.light_palette(INK, as_cmap=True)
    numbers = values.astype(float)
    sns.heatmap(
        numbers, annot=texts, fmt="", cmap=palette, vmin=0, vmax=top, cbar=False, linewidths=1.5, ax=axes,
        annot_kws={"fontsize": 8},
    )  # fmt: skip
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)


def left_out(table: pd.DataFrame, most: int = 20) -> Figure:
    """Show how many other models' stars change without each model of `stability.leave_one_out`."""
    part = table[table["changed"].fillna(0) > 0]
    total = (part["gained"] + part["lost"]).sort_values(ascending=False, kind="stable")
    part = part.loc[total.index].head(most)
    with style.styled():
        figure, axes = plt.subplots(figsize=(8.5, 0.27 * len(part) + 1.0), layout="constrained")
        axes.barh(range(len(part)), -part["lost"], color=ACCENT, height=0.72)
        axes.barh(range(len(part)), part["gained"], color=INK, height=0.72)
        for row, model in enumerate(part.itertuples()):
            text = f" {model.changed} of {model.others}"
            axes.text(max(model.gained, 0) + 0.1, row, text, va="center", fontsize=7.5, color="0.3")
        style.rows_down(axes, _names(part))
        axes.axvline(0, color="0.5", linewidth=0.8)
        axes.margins(x=0.1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        below = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8.5, "va": "top"}
        axes.annotate("← stars the others lose", (0, 0), (-6, -22), ha="right", **below)
        axes.annotate("stars the others gain →", (0, 0), (6, -22), ha="left", **below)
        sns.despine(figure, left=True)
    return figure


def _names(part: pd.DataFrame) -> list[str]:
    titles = [style.group_title(row.task, row.model_class, " ") for row in part.itertuples()]
    return [f"{style.short(model)} · {title}" for model, title in zip(part["model"], titles, strict=True)]


def joining(table: pd.DataFrame) -> Figure:
    """Show the share of models that get another star when one more joins; table from `stability.joins`."""
    with style.styled():
        parts = enumerate(style.groups_of(table))  # by number: two cohorts may have one title
        named = pd.concat(part.assign(number=number, group=title) for number, (title, part) in parts)
        texts = named["changed"].astype(str).where(named["changed"] > 0, "")
        named["text"] = texts + (" of " + named["models"].astype(str)).where(named["changed"] > 0, "")
        by_factor = named.pivot(index=["number", "group"], columns="factor").droplevel("number")
        wide, texts = by_factor["share"], by_factor["text"]
        wide.columns = texts.columns = [f"× {factor:g}" for factor in wide.columns]
        figure, axes = plt.subplots(figsize=(7.5, 0.32 * len(wide) + 1.0), layout="constrained")
        _heatmap(axes, wide, texts, top=1.0)
        axes.set(xlabel="energy of the model that joins, as a multiple of the highest so far", ylabel="")
        axes.set_title("models that get another star, though nothing was measured anew")
    return figure


def drift(moved: pd.DataFrame) -> Figure:
    """Show every star that changed from one rating to the next, with its new probability; from `stability.drift`."""
    part = moved[moved["move"].isin(["up", "down"])].iloc[::-1]
    with style.styled():
        figure, axes = plt.subplots(figsize=(8.5, 0.25 * len(part) + 1.0), layout="constrained")
        for row, model in enumerate(part.itertuples()):
            colour = style.STAR_COLOURS[model.stars_after]
            arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "shrinkA": 4, "shrinkB": 1}
            axes.annotate("", (model.stars_after, row), (model.stars_before, row), arrowprops=arrow)
            axes.plot(model.stars_before, row, "o", color=style.STAR_COLOURS[model.stars_before], markersize=5)
            sure = "" if np.isnan(model.p_after) else style.percent(model.p_after)
            axes.text(5.25, row, f"{sure}  {model.why}", va="center", fontsize=7.5, color="0.3")
        axes.set_yticks(range(len(part)), _names(part))
        axes.set_xticks(range(1, 6), ["★" * star for star in range(1, 6)])
        axes.set(xlim=(0.8, 5.2), ylim=(-0.6, len(part) - 0.4))
        axes.set_title("stars before and after; at the right the probability of the new star, and what moved it")
        axes.grid(axis="x", color="0.92")
        axes.tick_params(length=0)
        sns.despine(ax=axes, left=True, bottom=True)
    return figure


def schemes(table: pd.DataFrame) -> Figure:
    """Show the stars of other ratings against those of the first; table from `stability.by_scheme`."""
    first, *others = rated_by(table)
    with style.styled():
        figure, every = plt.subplots(
            1, len(others), figsize=(3.3 * len(others) + 0.5, 3.5), sharey=True, squeeze=False, layout="constrained"
        )
        for axes, other in zip(every[0], others, strict=True):
            both = table.dropna(subset=[first, other])
            counts = pd.crosstab(both[first], both[other]).reindex(index=range(5, 0, -1), columns=range(5, 0, -1))
            counts = counts.fillna(0).astype(int)
            _heatmap(axes, counts, counts.astype(str).where(counts > 0, ""))
            changed = int((both[first] != both[other]).sum())
            outcome = f"{changed} of {len(both)} change" if len(both) else "rates none of them"
            axes.set_title(f"{other.replace('_', ' ')}: {outcome}")
            axes.set(xlabel=f"stars by {other.replace('_', ' ')}", ylabel="")
            for star in range(5):
                axes.add_patch(plt.Rectangle((star, star), 1, 1, fill=False, edgecolor="0.25", linewidth=1.2))
        every[0, 0].set_ylabel(f"stars by {first.replace('_', ' ')}")
    return figure


def ranks(stars: pd.DataFrame) -> Figure:
    """Show the range of every model's rank in the largest group of `rate`, and how sure it is before the next."""
    title, part = max(style.groups_of(with_probability(stars)), key=lambda group: len(group[1]))
    at = np.arange(len(part))
    with style.styled():
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9, 0.2 * len(part) + 1.0), width_ratios=(3, 1), sharey=True, layout="constrained"
        )
        left.hlines(at, part["rank_low"], part["rank_high"], color=INK, linewidth=4, alpha=0.35)
        left.scatter(part["rank"], at, color=INK, s=18, zorder=3)
        left.set(xlim=(0.3, len(part) + 0.7), xlabel="rank (1 uses least) and its 95 % set", title=f"{title}: ranks")
        doubtful = part["p_next"] < SURE
        right.hlines(at + 0.5, 0.5, part["p_next"], color="0.85", linewidth=1)
        right.scatter(part["p_next"], at + 0.5, color=np.where(doubtful, ACCENT, INK), s=14, zorder=3)
        right.set(xlim=(0.48, 1.02), xlabel="probability that the upper\nof two neighbours uses less")
        right.xaxis.set_major_formatter(style.share)
        style.rows_down(left, [style.short(model, 28) for model in part["model"]])
        right.tick_params(axis="y", length=0)
        for axes in (left, right):
            axes.grid(axis="x", color="0.9", linewidth=0.6)
        sns.despine(figure, left=True)
    return figure
