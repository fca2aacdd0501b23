"""The windows of one session over time: their power, invalid windows marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns

from energylab.figures.style import finished
from energylab.record import Record, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INVALID = "#c0392b"


def power_over_time(record: Record) -> Figure:
    """Draw every window as a bar from its start to its end at its mean power, with its error bound.

    Parameters
    ----------
    record : Record

    Returns
    -------
    matplotlib.figure.Figure
        Invalid windows are hatched in red; a window without energy stands as a red cross at zero power. Windows of an
        imported file that does not state their times are not drawn; the title says how many.
    """
    phases = list(dict.fromkeys(window.phase for window in record.windows))
    colours = dict(zip(phases, sns.color_palette("colorblind", len(phases)), strict=True))
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    timed = [window for window in record.windows if None not in (window.start_s, window.duration_s)]
    for window in timed:
        _draw_window(axes, window, colours[window.phase])
    for phase in phases:
        axes.bar(0, 0, color=colours[phase], label=phase)
    if any(not window.valid for window in record.windows):
        axes.bar(0, 0, fill=False, hatch="////", edgecolor=INVALID, label="invalid")
    if record.idle_with_model_w is not None:
        axes.axhline(
            record.idle_with_model_w, color="0.35", linestyle=":", linewidth=1.2, label="idle, weights resident"
        )
    axes.set(xlabel="time in the session (s)", ylabel=f"mean power (W), {record.energy_kind}")
    untimed = f", {len(record.windows) - len(timed)} without times" if len(timed) < len(record.windows) else ""
    axes.set_title(f"{record.model.name}: {len(record.windows)} windows{untimed}", loc="left", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, ncols=len(phases) + 2, loc="upper left", bbox_to_anchor=(0, -0.18), fontsize=9)
    return finished(figure)


def _draw_window(axes: Axes, window: Window, colour) -> None:
    if window.mean_power_w is None:
        axes.plot(window.start_s + window.duration_s / 2, 0, "x", color=INVALID, clip_on=False)
        return
    style = {"color": colour, "alpha": 0.85, "edgecolor": "white", "linewidth": 0.6}
    if not window.valid:
        style = {"fill": False, "hatch": "////", "edgecolor": INVALID, "linewidth": 1.0}
    error = None if window.bound_j is None else window.bound_j / window.duration_s
    axes.bar(window.start_s, window.mean_power_w, width=window.duration_s, align="edge", **style)
    if error is not None:
        middle = window.start_s + window.duration_s / 2
        axes.errorbar(middle, window.mean_power_w, yerr=error, color="0.2", linewidth=1, capsize=2)
