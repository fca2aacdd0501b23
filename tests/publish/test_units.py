"""Figures as people read them."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylab.publish import grid, units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0554, "0.0554"),
        (1.313333, "1.31"),
        (9.996, "10.00"),
        (10.0, "10.0"),
        (178.13, "178"),
        (1639.8, "1,640"),
        (0, "0"),
    ],
)
def test_three_significant_digits(value, text):
    assert units.figure(value) == text


@given(st.floats(1e-6, 1e9))
def test_a_figure_is_within_half_a_percent(value):
    assert float(units.figure(value).replace(",", "")) == pytest.approx(value, rel=0.00501)


def test_an_interval_has_the_decimals_of_its_figure():
    assert units.span(0.9, 1.21, 1.05) == "0.90 – 1.21"
    assert units.span(95.4, 106.9, 101.2) == "95 – 107"


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "> 99 %"), (0.991, "> 99 %"), (0.99, "99 %"), (0.5, "50 %"), (0.009, "< 1 %"), (0, "< 1 %")],
)
def test_no_probability_is_certain(share, text):
    assert units.percent(share).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999"), (22_713_216, "22.7 M"), (999_999_999, "1 B"), (8.03e9, "8.03 B"), (1.2e12, "1.2 T")],
)
def test_parameter_counts(number, text):
    assert units.count(number) == text


def test_words():
    assert units.cohort_title("text_generation", "A") == "Text generation, class A"
    assert units.plural(1, "model") == "1 model"
    assert units.plural(1200, "model") == "1,200 models"
    assert units.day(dt.date(2026, 3, 5)) == "5 March 2026"


def test_grids_are_codecarbons():
    grids = {found.code: found for found in grid.grids()}
    assert grids["WORLD"].intensity_g_per_kwh == 475
    assert 0 < grids["FRA"].intensity_g_per_kwh < 150 < grids["POL"].intensity_g_per_kwh
    assert len(grids) > 200
    assert "CodeCarbon" in grid.source()
