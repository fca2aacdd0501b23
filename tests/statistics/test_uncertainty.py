"""Intervals against figures computed by hand; a model's intervals are tested in test_energy.py."""

from __future__ import annotations

import pytest
from scipy import stats

from energylab.statistics.uncertainty import combined_half_width, expanded, mean_interval


def test_an_interval_of_few_values_widens_by_the_sensors_gain():
    own = mean_interval([98.0, 100.0, 102.0])  # s = 2, standard error 2/√3
    assert own.half_width == pytest.approx(4.302653 * 2 / 3**0.5)
    wide = expanded(own, 0.05)  # the gain adds 5/√3: u² = 4/3 + 25/3, ν' = 2 (29/4)²
    assert wide.df == pytest.approx(2 * (29 / 4) ** 2)
    assert wide.half_width == pytest.approx(stats.t.ppf(0.975, 105.125) * (29 / 3) ** 0.5)


def test_without_a_known_part_the_half_width_is_students():
    half, df = combined_half_width(0.3, 4, 0.0, 0.95)
    assert (half, df) == (pytest.approx(2.776445 * 0.3), 4)
