"""Tables and words about a record."""

from __future__ import annotations

import builders
import pytest
from scipy import stats

from energylab import show
from energylab.figures import windows as figure
from energylab.record import IdleLevel, StopFacts


def two_runs(first_j: float, second_j: float):
    return builders.record(
        windows=(builders.window(run=0, index=0, energy_j=first_j), builders.window(run=1, index=1, energy_j=second_j))
    )


def test_the_rated_figure_and_its_interval_follow_from_the_runs_and_do_not_begin_below_zero():
    record = two_runs(16.0, 18.0)  # of 16 queries each
    wh = [value / 16 * 1000 / 3600 for value in (16.0, 18.0)]
    interval = show.energy_interval(record)
    low, high = stats.t.interval(0.95, 1, loc=sum(wh) / 2, scale=abs(wh[1] - wh[0]) / 2)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert "**simulated**" in show.trust(record)
    assert f"{sum(wh) / 2:.4g}" in show.energy_table(record).to_string()
    scattered = two_runs(8.0, 24.0)  # Student's t of one degree of freedom reaches 12.7 standard errors below the mean
    assert show.energy_interval(scattered).low == 0
    assert show.energy_table(scattered)["95 % within session"].iloc[-1].startswith("0 to ")


def test_rest_is_shown_as_power_and_as_a_share_of_the_rated_energy():
    resting = IdleLevel(level="weights_resident", power_w=50.0, duration_s=1.0, energy_j=50.0)
    unknown = IdleLevel(level="after_load", power_w=None, duration_s=0.5, energy_j=None, reasons=("no_tick",))
    made = builders.record(windows=(builders.window(energy_j=400.0, duration_s=2.0),), idle=(resting, unknown))
    table = show.idle_table(made)
    assert table["power in W"].tolist() == ["50", "unknown: no_tick", "25%"]
    assert table["observed for"].tolist() == ["1.00 s", "0.50 s", ""]


def test_an_unavailable_total_is_said_and_what_was_measured_before_is_kept():
    windows = (builders.window(run=0, index=0), builders.window(run=1, index=1, energy_j=None))
    record = builders.record(energy_j=None, windows=windows)
    table = show.energy_table(record)
    assert set(table["Wh per 1,000 queries"]) == {"unavailable"}
    assert set(table["runs"]) == {"1 of 2 complete"}
    assert "no figure" in show.trust(record)
    assert "1 valid windows" in show.trust(record)
    assert show.energy_interval(record) is None
    assert show.invalid_windows(record)["reasons"].tolist() == ["no_tick"]


def test_the_figure_of_a_session_that_stopped_is_the_one_its_rule_certified():
    windows = (
        builders.window(run=0, index=0, energy_j=16.0),
        builders.window(run=1, index=1, energy_j=6.0, queries=(3, 4)),
    )
    stop = StopFacts(
        rule="precision", target=0.2, reached=True, reason="precise enough", energy_j_per_query=22 / 18, low_j=1.1,
        high_j=1.3, units=2, spent_j=3600.0,
    )  # fmt: skip
    record = builders.record(windows=windows, stop=stop)
    figure = f"{22 / 18 / 3.6:.4g}"  # all queries, not the mean of a whole and a partial run
    assert figure in show.energy_table(record).iloc[-1]["Wh per 1,000 queries"]
    words = show.trust(record)
    assert f"**{figure} Wh per 1,000 queries**" in words
    assert "ended early (precise enough); in total, with warm-up and idle time, it used 1 Wh" in words
    assert "not official" in words


def test_marks_truncation_and_deviations_are_said_beside_the_figure():
    made = two_runs(16.0, 18.0)
    data = {"truncated_queries": 5, "truncated_tokens": 806, "covariates": {"input_tokens": (469.0,)}}
    record = builders.record(
        windows=tuple(window.model_copy(update={"marks": ("not_finite",)}) for window in made.windows),
        data=made.data.model_copy(update=data),
        task=made.task.model_copy(update={"deviations": ("one forward pass is asked as generation",)}),
        protocol=made.protocol.model_copy(update={"name": "published-2025-12"}),
    )
    said = show.conditions_table(record).to_string() + show.trust(record)
    for words in (
        "5 of 16 queries, 806 of 1,275 tokens cut", "not finite (NaN", "2 of 2 windows",
        "one forward pass is asked as generation", "published-2025-12", "its published runner cuts none",
    ):  # fmt: skip
        assert words in said
    assert record.marks == ("not_finite", "truncated")


def test_invalid_windows_and_missing_energy_can_be_drawn():
    windows = (builders.window(index=0), builders.window(index=1, energy_j=None, start_s=3.0))
    drawn = figure.power_over_time(builders.record(windows=windows))
    labels = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert "invalid" in labels
    assert drawn.axes[0].get_ylabel().endswith(builders.record().energy_kind)
