"""Tables and words about a record."""

from __future__ import annotations

import builders
import pytest
from scipy import stats

from energylab import show
from energylab.figures import windows as figure


def two_runs(first_j: float, second_j: float):
    return builders.record(
        windows=(builders.window(run=0, index=0, energy_j=first_j), builders.window(run=1, index=1, energy_j=second_j))
    )


def test_the_rated_figure_and_its_interval_follow_from_the_runs():
    record = two_runs(16.0, 18.0)  # of 16 queries each
    wh = [value / 16 * 1000 / 3600 for value in (16.0, 18.0)]
    interval = show.energy_interval(record)
    low, high = stats.t.interval(0.95, 1, loc=sum(wh) / 2, scale=abs(wh[1] - wh[0]) / 2)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.kind == "within-session"
    assert f"{sum(wh) / 2:.4g}" in show.energy_table(record).to_string()


def test_an_unavailable_total_is_said_and_no_number_shown():
    record = builders.record(energy_j=None)
    assert "unavailable" in show.energy_table(record).to_string()
    assert "no figure" in show.trust(record)
    assert show.energy_interval(record) is None
    assert "window" in show.invalid_windows(record).index.name


def test_the_words_name_the_kind_and_why_it_is_not_official():
    words = show.trust(two_runs(16.0, 18.0))
    assert "not official" in words
    assert "simulated" in words or "estimated" in words


def test_invalid_windows_and_missing_energy_can_be_drawn():
    windows = (builders.window(index=0), builders.window(index=1, energy_j=None, start_s=3.0))
    drawn = figure.power_over_time(builders.record(windows=windows))
    labels = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert "invalid" in labels
    assert drawn.axes[0].get_ylabel().endswith(builders.record().energy_kind)
