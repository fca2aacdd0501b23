"""The windows of one session over time: power, temperature and clock, invalid windows marked."""

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


def device_over_time(record: Record) -> Figure | None:
    """Draw temperature and clock of every device between the windows.

    Returns
    -------
    matplotlib.figure.Figure or None
        None where no device tells either: a processor without sensors.
    """
    seen = [(window.start_s + window.duration_s, state) for window in record.windows for state in window.states]
    quantities = [("temperature_c", "temperature (°C)"), ("sm_clock_mhz", "SM clock (MHz)")]
    told = [(name, label) for name, label in quantities if any(getattr(state, name) is not None for _, state in seen)]
    if not told:
        return None
    figure, rows = plt.subplots(
        len(told), 1, figsize=(9, 2.2 * len(told)), sharex=True, squeeze=False, layout="constrained"
    )
    for axes, (name, label) in zip(rows[:, 0], told, strict=True):
        for device in dict.fromkeys(state.device for _, state in seen):
            points = [(time, getattr(state, name)) for time, state in seen if state.device == device]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=device)
        axes.set(ylabel=label)
    rows[-1, 0].set(xlabel="time in the session (s)")
    rows[0, 0].legend(frameon=False, fontsize=8)
    return finished(figure)
