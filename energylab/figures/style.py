"""What the figures share: colours, style, logarithmic axes in plain numbers, bars of stars, names that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

#: One colour a number of stars: blue uses little, orange much; apart also for the colour-blind and in grey.
STAR_COLOURS = {5: "#1f4e79", 4: "#5b93c7", 3: "#b8b3a5", 2: "#e3a04f", 1: "#b04a1f"}
UNRATED = "0.55"
GREY = "0.45"
BLUE, ORANGE, GREEN = (sns.color_palette("colorblind")[i] for i in (0, 1, 2))
STYLE = {
    **{"axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 8.5},
    **{"axes.edgecolor": "0.5", "axes.linewidth": 0.8, "legend.fontsize": 8, "legend.frameon": False},
    **{"xtick.labelsize": 8, "ytick.labelsize": 8, "xtick.color": "0.35", "ytick.color": "0.15"},
    **{"font.size": 8.5, "figure.dpi": 110, "svg.hashsalt": "energylab"},
}


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


def finished(figure: Figure, left: bool = False) -> Figure:
    """Take off the frame, and out of pyplot's hands: a notebook shows the figure once, as the cell's value."""
    sns.despine(figure, left=left)
    plt.close(figure)
    return figure


def share(value: float, _: int | None = None) -> str:
    """Label a fraction in per cent."""
    return f"{100 * value:.10g} %"


def log_axis(axis: Axis, label: str | Callable = "{x:,.6g}", subs: tuple[float, ...] = (1, 2, 5)) -> None:
    """Make an axis logarithmic, with ticks at 1, 2 and 5 in plain numbers."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(label)
    axis.set_minor_formatter(NullFormatter())


def percent(p: float) -> str:
    """A probability from redraws: never more certain than they can say."""
    return "> 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def short(model: str, width: int = 34) -> str:
    """Return a model's name without its owner, cut in the middle where it is long."""
    name = model.rpartition("/")[2]
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[:half]}…{name[-half:]}"


def group_title(task: str, model_class: str | None, between: str = ", class ") -> str:
    """Return task and class as people read them."""
    return task.replace("_", " ") + ("" if pd.isna(model_class) else f"{between}{model_class}")


def groups_of(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the title and the rows of every group, in the order of the table."""
    names = [name for name in ("cohort", "task", "model_class") if name in table]
    for _, part in table.groupby(names, dropna=False, sort=False):
        yield group_title(*part[["task", "model_class"]].iloc[0]), part


def rows_down(axes: Axes, names: list[str], **more) -> None:
    """Name the rows of a figure, the first on top."""
    axes.set_yticks(range(len(names)), names, **more)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def star_bars(axes: Axes, shares: pd.DataFrame, label: Callable[[int], str] = "★".__mul__) -> None:
    """Stack, row by row, the shares of five stars (left) to one; columns are numbers of stars."""
    left = 0
    for star in range(5, 0, -1):
        width = shares[star].to_numpy(dtype=float)
        axes.barh(range(len(shares)), width, left=left, color=STAR_COLOURS[star], height=0.72, label=label(star))
        left = left + width
