"""Figures of variance and precision: they show the numbers of their tables, and name the kind of energy."""

from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

mpl.use("Agg")

from energylab.errors import StatisticsError  # noqa: E402
from energylab.figures import precision as precision_figures  # noqa: E402
from energylab.figures import variance as variance_figures  # noqa: E402
from energylab.statistics.agreement import agreement  # noqa: E402
from energylab.statistics.components import nested_components  # noqa: E402
from energylab.statistics.drift import warm_up  # noqa: E402
from energylab.statistics.precision import cv_by_length, cv_by_runs, relative_half_width  # noqa: E402
from energylab.statistics.replay import replay  # noqa: E402
from energylab.statistics.sequential import StopRule  # noqa: E402
from energylab.statistics.simulate import simulate  # noqa: E402
from energylab.statistics.totals import totals_by_windows  # noqa: E402
from energylab.statistics.units import measured_windows  # noqa: E402


@pytest.fixture(scope="module")
def study():
    return simulate(0, boards=2, sessions=3, runs=2)


@pytest.fixture(scope="module")
def units(study):
    return measured_windows(study.windows)


@pytest.fixture(scope="module")
def components(units):
    return nested_components(units)


def texts(figure):
    figure.canvas.draw()
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def test_every_figure_names_the_kind_of_energy_and_is_out_of_pyplot(study, units, components):
    rule = StopRule(0.02)
    one = units[units["session"] == units["session"].iloc[0]]
    totals = totals_by_windows(units, population=200, covariates=study.covariates)
    figures = [
        variance_figures.components_figure(components, study.truth),
        variance_figures.warm_up_figure(units),
        variance_figures.correlation_figure(units),
        variance_figures.length_figure(cv_by_length(units), study.kind),
        variance_figures.runs_figure(cv_by_runs(units, components), study.kind),
        variance_figures.agreement_figure(agreement(study.meters, "first", "second"), study.kind),
        precision_figures.plan_figure(components, 0.02),
        precision_figures.totals_figure(totals, study.kind),
        precision_figures.stopping_figure(replay(rule, one), 0.02, study.kind),
    ]
    for figure in figures:
        assert "simulated" in texts(figure)
    assert not plt.get_fignums()


def test_components_stand_where_their_numbers_are(study, components):
    axes = variance_figures.components_figure(components, study.truth).axes[0]
    points = {line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1}
    assert points >= {components.cv(level) for level in ("session", "run", "window", "query")}
    diamonds = {line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata())}
    assert diamonds == set(study.truth.values())


def test_a_level_nobody_knows_stands_in_words():
    alone = nested_components(measured_windows(simulate(0, boards=1, sessions=2, runs=2).windows))
    assert "several of both are needed" in texts(variance_figures.components_figure(alone))


def test_shaded_warm_up_is_the_part_that_is_cut(units):
    figure = variance_figures.warm_up_figure(units, most=2)
    ends = warm_up(units).iloc[[0, -1]]
    shown = [axes for axes in figure.axes if axes.get_visible()]
    for axes, cut_s in zip(shown, ends["cut_s"], strict=True):
        assert axes.patches[0].get_width() == pytest.approx(cut_s / 60)


def test_plan_lines_are_the_expected_half_widths(components):
    left = precision_figures.plan_figure(components, 0.02, most_sessions=6).axes[0]
    line = next(line for line in left.lines if line.get_label() == "3")
    expected = relative_half_width(components, np.arange(2, 7), 3, components.queries)
    assert line.get_ydata() == pytest.approx(expected)


def test_stop_is_marked_where_the_rule_stopped(study, units):
    one = units[units["session"] == units["session"].iloc[0]]
    decisions = replay(StopRule(0.1), one)
    first = decisions[decisions["stop"]].iloc[0]
    figure = precision_figures.stopping_figure(decisions, 0.1, study.kind)
    assert f"stop after {first['windows']} windows, {first['queries']} queries" in texts(figure)


def test_short_sessions_have_no_correlation_figure():
    few = measured_windows(simulate(0, windows=3, runs=2).windows)
    with pytest.raises(StatisticsError, match="more than 20 windows"):
        variance_figures.correlation_figure(few)


def test_an_interval_that_goes_far_down_leaves_a_readable_axis(components):
    table = components.table.assign(low=[1e-9] * len(components.table))
    figure = variance_figures.components_figure(replace(components, table=table))
    ticks = [tick for tick in figure.axes[0].get_xticks()]
    assert len(ticks) <= 14
    assert max(ticks) > 0.1


def test_a_figure_that_cannot_be_drawn_leaves_none_behind():
    one = simulate(0, boards=1, sessions=1, runs=3)
    units = measured_windows(one.windows)
    open_before = plt.get_fignums()
    with pytest.raises(StatisticsError, match="session"):
        precision_figures.plan_figure(nested_components(units), 0.02)
    with pytest.raises(StatisticsError, match="no two intervals"):
        precision_figures.stopping_figure(replay(StopRule(0.02), units.head(2)), 0.02, "simulated")
    assert plt.get_fignums() == open_before
