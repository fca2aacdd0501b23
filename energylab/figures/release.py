"""A release's cohort as a figure: energies with intervals and bands, and the probability of every star."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from energylab.figures.style import STAR_COLOURS, UNRATED, log_axis, rows_down, star_bars
from energylab.release import RatedCohort, RatedModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET = "#1b2529", "#56636a"

_NAMED = 60  # models that are drawn with their names
_NAME_LENGTH = 46


def cohort(cohort: RatedCohort) -> Figure:
    """Draw a cohort's energies with expanded intervals and bands, and beside them the probability of each star.

    Parameters
    ----------
    cohort : RatedCohort

    Returns
    -------
    matplotlib.figure.Figure
        One row a model, lightest above; energy on a logarithmic scale. Names are left out beyond 60 models.
    """
    models = cohort.models
    named = len(models) <= _NAMED
    odds = any(model.probabilities for model in models)
    height = 1.1 + (0.215 * len(models) if named else 5.0)
    widths = (4.6, 1.5) if odds else (1,)
    figure, panels = plt.subplots(
        1, len(widths), figsize=(8.4, height), width_ratios=widths, sharey=True, squeeze=False, layout="constrained"
    )
    _energies(panels[0][0], cohort)
    if odds:
        _odds(panels[0][1], models)
    rows_down(panels[0][0], [_short(model.model) for model in models], parse_math=False)
    if not named:
        panels[0][0].set_yticks([])
    _finish(figure, *panels[0])
    return figure


def _energies(axes: Axes, cohort: RatedCohort) -> None:
    models = cohort.models
    energies = np.array([model.energy_wh for model in models])
    places = np.arange(len(models))
    for edge in cohort.edges_wh or ():
        axes.axvline(edge, color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
    known = [place for place, model in enumerate(models) if model.expanded]
    lows = np.array([max(models[place].expanded.low_wh, models[place].energy_wh / 10) for place in known])
    highs = np.array([models[place].expanded.high_wh for place in known])
    colours = [STAR_COLOURS.get(model.stars, UNRATED) for model in models]
    axes.barh(known, highs - lows, left=lows, height=0.56, color=[colours[place] for place in known], alpha=0.4)
    axes.scatter(energies, places, s=7, color=colours, zorder=3)
    log_axis(axes.xaxis, subs=(1, 2, 5) if energies[-1] < 60 * energies[0] else (1,))
    axes.set_xlabel(f"Wh per 1,000 queries, {cohort.energy_kind}")
    axes.grid(axis="x", color="#e3e6e3", linewidth=0.6, zorder=-1)
    axes.set_axisbelow(True)


def _odds(axes: Axes, models: Sequence[RatedModel]) -> None:
    star_bars(axes, pd.DataFrame([m.probabilities or [0.0] * 5 for m in models], columns=range(1, 6)), label=str)
    axes.set(xlabel="probability", xlim=(0, 1), xticks=(0, 0.5, 1))
    axes.legend(
        title="stars", ncols=5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1,
        handlelength=0.7, handletextpad=0.25, columnspacing=0.7, alignment="left",
    )  # fmt: skip


def right_answers(cohort: RatedCohort) -> Figure | None:
    """Draw energy against quality, with the Pareto front: no other model needs less and answers better.

    None where fewer than two models have an energy of right answers.
    """
    rated = [model for model in cohort.models if model.per_right]
    if len(rated) < 2:
        return None
    energy = np.array([model.energy_wh for model in rated])
    share = np.array([model.energy_wh / model.per_right.energy_wh for model in rated])
    less, more = energy < energy[:, None], share > share[:, None]
    better = (less & (share >= share[:, None])) | (more & (energy <= energy[:, None]))
    front = ~better.any(axis=1)
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    order = np.flatnonzero(front)[np.argsort(energy[front])]
    axes.step(energy[order], share[order], where="post", color="0.6", zorder=1)
    axes.scatter(energy, share, c=["C0" if best else "0.7" for best in front], zorder=2)
    for at in order:
        axes.annotate(_short(rated[at].model), (energy[at], share[at]), xytext=(4, 4), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel(f"Wh per 1,000 queries ({cohort.energy_kind})")
    axes.set_ylabel(f"{rated[0].per_right.unit} a query")
    return figure


def _short(name: str) -> str:
    """Return a name without what breaks or hides text, its middle left out where it is long."""
    plain = "".join(mark if mark.isprintable() else "\ufffd" for mark in name)
    keep = _NAME_LENGTH // 2
    return plain if len(plain) <= _NAME_LENGTH else f"{plain[:keep]}…{plain[-keep + 1 :]}"


def _finish(figure: Figure, *panels: Axes) -> None:
    sns.despine(figure, left=True)
    for axes in panels:
        axes.tick_params(colors=QUIET, labelsize=8)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.label.set(color=QUIET, fontsize=8.5)
        if axes.get_legend() is not None:
            plt.setp(axes.get_legend().get_texts(), fontsize=8, color=INK)
            axes.get_legend().get_title().set(fontsize=8, color=QUIET)
