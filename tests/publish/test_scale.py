"""One logarithmic scale for all bars of a table."""

from __future__ import annotations

import math

import pytest

from energylab.publish.scale import Ladder, Scale, distinct


def test_positions_are_logarithmic():
    scale = Scale(1.0, 100.0)
    assert [scale.at(value) for value in (1, 10, 100)] == [0, 50, 100]
    assert scale.at(math.sqrt(10)) == 25
    assert (scale.at(0.1), scale.at(1e6)) == (0, 100)


def test_every_interval_is_inside(published):
    for cohort in published.cohorts:
        ladder = Ladder(cohort)
        for model in cohort.models:
            start, length, centre = ladder.scale.bar(model)
            assert 0 < start < centre < start + length < 100
        assert ladder.edges == sorted(ladder.edges)
        assert 2 <= len(ladder.ticks) <= 12


def test_ticks_are_round_and_where_they_say():
    scale = Scale(0.8, 45.0)
    for position, label in scale.ticks():
        assert position == scale.at(float(label))
    assert [label for _, label in scale.ticks()] == ["1", "2", "5", "10", "20"] or len(scale.ticks()) >= 3


def test_models_of_one_energy_have_a_scale(official):
    cohort = official.cohorts[0]
    same = cohort.model_copy(update={"models": cohort.models[:1]})
    assert 0 < Ladder(same).scale.at(same.models[0].energy_wh) < 100


def test_distinct():
    assert distinct([10.01, 10.02, 20.3], step=0.5) == [10.0, 20.5]


@pytest.mark.parametrize("span", [1.2, 3, 12, 80, 2000])
def test_there_are_some_ticks_but_not_too_many(span):
    assert 1 <= len(Scale(1.0, span).ticks()) <= 10
