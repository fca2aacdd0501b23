"""Figures of a variance study: they draw what the tables say, and say the energy kind."""

from __future__ import annotations

import pytest

from energylab.figures import variance as figures
from energylab.statistics.simulate import simulate
from energylab.statistics.variance import agreement, components


@pytest.fixture(scope="module")
def study():
    return simulate(0)


def test_components_stand_with_their_intervals_and_the_truth(study):
    found = components(study.table)
    figure = figures.components_figure(found, study.truth)
    text = " ".join(item.get_text() for item in figure.axes[0].texts)
    assert f"{100 * found.cv('session'):.2g} %" in text
    assert "simulated" in figure.axes[0].get_xlabel()


def test_a_level_the_data_cannot_tell_stands_in_words():
    figure = figures.components_figure(components(simulate(0, boards=1).table))
    assert any("several of both are needed" in item.get_text() for item in figure.axes[0].texts)


def test_every_figure_names_its_kind(study):
    drawn = (
        figures.drift_figure(study.windows),
        figures.plan_figure(components(study.table), 0.02),
        figures.agreement_figure(agreement(study.meters), study.kind),
    )
    for figure in drawn:
        axes = figure.axes[0]
        assert "simulated" in axes.get_xlabel() + axes.get_ylabel()
