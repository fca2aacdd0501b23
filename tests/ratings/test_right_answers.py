"""Wh per right answer: one joint interval over sessions, sensor gain and queries, with their covariance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from release_builders import record_of, scored_record
from scipy import stats

from energylab.energy import session_energy_j
from energylab.ratings.right_answers import per_right_answer


def test_energy_over_the_share_of_right_answers():
    record = scored_record([3.6] * 40, [1, 0, 1, 1] * 10)
    found = per_right_answer([record])
    assert found.wh == pytest.approx(session_energy_j(record) / 3.6 / 0.75)
    assert (found.share, found.unit, found.energy_kind) == (0.75, "right answers", "measured")
    assert "one session" in found.note
    assert per_right_answer([scored_record([1.0] * 20, [0.4, 0.6] * 10, metric="rouge_l")]).unit == "points of rouge_l"


def test_covariance_over_queries_narrows_what_grows_together():
    rng = np.random.default_rng(1)
    scores = rng.random(400) < 0.6
    together, apart = 1.0 + 2.0 * scores, 1.0 + 2.0 * ~scores
    widths = []
    for joules in (together, apart):
        found = per_right_answer([scored_record(joules, scores, n, per_block=1) for n in range(2)], gain=0.0)
        widths.append((found.high - found.low) / found.wh)
    assert widths[0] < 0.5 * widths[1]


def test_against_the_delta_method_by_hand():
    rng = np.random.default_rng(2)
    scores, joules = (rng.random(200) < 0.7).astype(float), 1.0 + rng.random(200)
    found = per_right_answer([scored_record(joules, scores, per_block=1)], gain=0.05)
    e, s = joules.mean(), scores.mean()
    covariance = np.cov(joules, scores)
    relative = covariance[0, 0] / e**2 + covariance[1, 1] / s**2 - 2 * covariance[0, 1] / (e * s)
    half = stats.norm.ppf(0.975) * math.sqrt(relative / 200 + 0.05**2 / 3)
    assert (found.high - found.low) / 2 / found.wh == pytest.approx(half, rel=0.02)


def test_few_blocks_take_queries_to_be_alike_and_say_so():
    found = per_right_answer([scored_record([1.0] * 40, [1, 0] * 20, per_block=20)])
    assert "same energy" in found.note


def test_nothing_right_or_nothing_scored_gives_nothing():
    assert per_right_answer([scored_record([1.0] * 20, [0] * 20)]) is None
    assert per_right_answer([record_of("org/a", 10.0)]) is None


def test_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        scores = rng.random(60) < 0.6
        joules = (1.0 + scores) * (1 + 0.2 * rng.random(60))
        gain = 1 + rng.uniform(-0.05, 0.05)
        sessions = [scored_record(joules * gain * (1 + 0.01 * rng.standard_normal()), scores, n, 2) for n in range(3)]
        found = per_right_answer(sessions)
        truth = (1.1 + 1.1 * 0.6) / 0.6 / 3.6
        hits += found.low <= truth <= found.high
    assert hits / 200 == pytest.approx(0.95, abs=0.04)
