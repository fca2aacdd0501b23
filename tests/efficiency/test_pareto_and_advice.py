"""The front by brute force, and advice that follows from the figures."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest
from efficiency_builders import row
from hypothesis import given, settings
from hypothesis import strategies as st

from energylab.efficiency.advice import advice, differs
from energylab.efficiency.pareto import front
from energylab.figures.efficiency import energy_against_wait, paid_for


def frame(*rows):
    return front(pd.DataFrame(rows).set_index("setting"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=7)
)
def test_the_front_is_what_nothing_dominates(points):
    rows = [
        row(f"s {n}", float(energy), float(wait), quality=bits, quality_metric="bits_per_byte")
        for n, (energy, wait, bits) in enumerate(points)
    ]
    found = frame(*rows)["front"].tolist()
    for mine, marked in zip(points, found, strict=True):
        beaten = any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in points)
        assert marked is (not beaten)


def test_more_is_better_for_other_metrics_and_lengths_do_not_compete():
    good = row("good", 2.0, quality=0.9, quality_metric="exact_match")
    cheap = row("cheap", 1.0, quality=0.5, quality_metric="exact_match")
    short = row("short", 0.1, new_tokens=2.0)
    assert frame(good, cheap, short)["front"].tolist() == [True, True, True]
    worse = row("worse", 2.5, quality=0.8, quality_metric="exact_match")
    assert frame(good, worse)["front"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("largest", "said"),
    [
        ("static", "keep the device busy"),
        ("memory", "read fewer bytes"),
        ("arithmetic", "narrower precision"),
        ("rest", "cut the overhead"),
    ],
)
def test_advice_names_what_is_paid_for(largest, said):
    parts = {f"{name}_j": 0.1 for name in ("static", "memory", "arithmetic", "rest")} | {f"{largest}_j": 0.7}
    text = advice(frame(row("base", 1.0, knob="base", **parts), row("batch 8", 0.5)))
    assert "Most of it, 70%" in text
    assert said in text
    assert "**10 times** what this device needs" in text


def test_advice_says_what_each_knob_does_in_figures():
    text = advice(
        frame(
            row("base", 1.0, knob="base"),
            row("batch 8", 0.25, 2.0, knob="batch_size"),
            row("eager attention", 1.005, knob="attention"),
            row("static cache", 0.6, 0.5, knob="cache", track="optimised"),
            row("2 new tokens", 0.4, 0.4, knob="new_tokens", new_tokens=2.0),
        )
    )
    assert "Batch 8 cuts the energy of a query by 75% and makes the wait 2 times as long." in text
    assert "Eager attention: no difference that these runs can tell (+0%)" in text or "(+1%)" in text
    assert "Each further token of an answer costs 0.075 J: 2 new tokens in place of 10 save 60%" in text
    assert "where answers may take 2 s, run with **batch 8** and save 75%" in text
    assert "no later than now, run with **static cache** and save 40%" in text
    assert "set repeats=3" not in text


def test_advice_weighs_quality_and_warns_of_what_it_is_made_of():
    quality = {"quality_metric": "bits_per_byte"}
    text = advice(
        frame(
            row("base", 1.0, knob="base", quality=1.0, **quality),
            row("int8", 0.7, knob="quantisation", quality=1.1, sessions=1, energy_kind="estimated", **quality),
        )
    )
    assert "with quality **worse** by 10.0% (bits_per_byte)" in text
    assert "set repeats=3" in text
    assert "**estimated and measured**" in text


def test_advice_can_be_to_leave_it():
    text = advice(frame(row("base", 1.0, knob="base"), row("batch 8", 1.3, knob="batch_size")))
    assert "Batch 8 **raises** the energy" in text
    assert "keep the model as it is loaded" in text


def test_a_server_is_advised_on_by_its_own_base():
    served = [
        row(f"{n} at once", e, w, track="served", knob="concurrency") for n, e, w in ((1, 2.0, 1.0), (8, 0.5, 3.0))
    ]
    text = advice(frame(row("base", 1.0, knob="base"), *served))
    assert "8 at once costs 75% less a query than 1 at once, and an answer takes 3 times as long" in text


def test_what_noise_could_make_is_no_difference():
    assert not differs({"energy_j": 1.0, "half_width_j": 0.3}, {"energy_j": 1.4, "half_width_j": 0.3})
    assert differs({"energy_j": 1.0, "half_width_j": 0.1}, {"energy_j": 1.4, "half_width_j": 0.3})


def test_figures_show_every_setting_and_the_front():
    made = frame(
        row("base", 1.0, knob="base"), row("batch 8", 0.25, 2.0), row("static cache", 0.6, 0.5, track="optimised")
    )
    scatter = energy_against_wait(made)
    (legend,) = (text for text in [scatter.axes[0].get_legend()])
    assert [text.get_text() for text in legend.get_texts()] == [
        "1  base", "2  batch 8", "3  static cache", "nothing beats these",
    ]  # fmt: skip
    bars = paid_for(made).axes[0]
    widths = {round(sum(patch.get_width() for patch in group), 9) for group in itertools.zip_longest(*bars.containers)}
    assert widths == {1.0, 0.25, 0.6}
    assert "measured" in bars.get_xlabel()
    assert paid_for(made.assign(least_j=float("nan"))) is None
