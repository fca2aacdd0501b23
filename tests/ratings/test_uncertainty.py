"""Intervals from repeats, and variances drawn towards their common value."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import energylab
from energylab.ratings.cohorts import summarise
from energylab.ratings.uncertainty import POOLED, interval_notes, intervals, learn, moderate, stated
from energylab.statistics.uncertainty import expanded, mean_interval


def sessions(models, repeats, cv=0.02, seed=0, runs=1):
    rng = np.random.default_rng(seed)
    rows = [
        {"task": "t", "model": f"m{model:03}", "session": f"{model}-{session}", "run": run, "queries": 1000,
         "energy_j": 3600.0 * (1 + model) * (1 + cv * rng.standard_normal())}
        for model in range(models) for session in range(repeats) for run in range(runs)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("repeats", [2, 3, 7])
def test_intervals_between_sessions_are_those_of_statistics(repeats):
    df = sessions(4, repeats)
    summary = summarise(df)
    half, wide = intervals(summary.models, None, 0.05, 0.95)
    for row, model in summary.models.iterrows():
        values = df.loc[df["model"] == model["model"], "energy_j"] / 3600
        expected = mean_interval(values)
        assert model["energy_wh"] == pytest.approx(expected.mean)
        assert half[row] == pytest.approx(expected.relative_half_width)
        assert wide[row] == pytest.approx(expanded(expected, 0.05).relative_half_width)


def test_the_interval_of_one_session_is_that_of_its_runs_and_says_so():
    df = sessions(1, 1, runs=5)
    summary = summarise(df)
    half, _ = intervals(summary.models, None, 0.05, 0.95)
    expected = mean_interval(df["energy_j"] / 3600, kind="within-session")
    assert half[0] == pytest.approx(expected.relative_half_width)
    codes, texts = interval_notes(summary.models)
    assert texts[codes[0]].startswith("within-session interval")


def test_a_stated_noise_gives_a_normal_interval():
    half, wide = intervals(summarise(sessions(2, 1)).models, 0.01, 0.0, 0.95)
    assert half == pytest.approx([0.01 * stats.norm.ppf(0.975)] * 2, rel=1e-4)
    assert wide == pytest.approx(half)


def test_nothing_repeated_and_no_noise_is_unknown():
    half, wide = intervals(summarise(sessions(2, 1)).models, None, 0.05, 0.95)
    assert np.isnan(half).all()
    assert np.isnan(wide).all()


def test_two_sessions_are_said_to_be_few():
    codes, texts = interval_notes(summarise(sessions(1, 2)).models)
    assert texts[codes[0]] == "2 sessions; at least 3 are wanted"


def test_equal_true_variances_are_pooled():
    variance = 4.0 * np.random.default_rng(5).chisquare(4, 2000) / 4
    moderated, dof = moderate(variance, np.full(2000, 4))
    assert moderated == pytest.approx(np.full(2000, 4.0), rel=0.2)
    assert (dof > 40).all()


def test_the_prior_of_scattered_variances_is_found():
    rng = np.random.default_rng(6)
    true_df, scale, own = 6.0, 9.0, 4
    truth = scale * true_df / rng.chisquare(true_df, 20_000)
    variance = truth * rng.chisquare(own, 20_000) / own
    moderated, dof = moderate(variance, np.full(20_000, own))
    assert dof[0] == pytest.approx(true_df + own, rel=0.1)
    shrunk = (true_df * scale + own * variance) / (true_df + own)
    assert moderated == pytest.approx(shrunk, rel=0.05)


def test_a_model_without_a_repeat_takes_the_groups_spread():
    df = pd.concat([sessions(20, 4, cv=0.03), sessions(21, 1).iloc[20:]])
    summary = summarise(df)
    uncertainty, note = learn(summary, np.arange(21), None, 0.0)
    assert note == ""
    assert uncertainty.relative_se[20] == pytest.approx(0.03, rel=0.3)
    assert uncertainty.relative_se[:20] == pytest.approx(np.full(20, 0.03 / 2), rel=0.5)


def test_identical_repeats_leave_no_uncertainty():
    uncertainty, _ = learn(summarise(sessions(3, 3, cv=0.0)), np.arange(3), None, 0.0)
    assert uncertainty.relative_se.tolist() == [0.0, 0.0, 0.0]


def test_single_sessions_borrow_from_runs_and_say_so():
    uncertainty, note = learn(summarise(sessions(10, 1, cv=0.04, runs=9)), np.arange(10), None, 0.0)
    assert uncertainty.relative_se == pytest.approx(np.full(10, 0.04 / 3), rel=0.4)
    assert "within a session" in note


def test_nothing_is_learnt_from_nothing():
    uncertainty, note = learn(summarise(sessions(3, 1)), np.arange(3), None, 0.0)
    assert uncertainty is None
    assert "no repeat" in note


def test_boards_of_a_stated_uncertainty():
    assert stated(3, 0.01).boards.tolist() == [[1], [1], [1]]
    assert stated(2, 0.01, own_boards=True).boards.tolist() == [[1, 0], [0, 1]]


def test_few_sessions_are_said_to_rest_on_another_spread_than_the_probabilities():

    def notes(sessions):
        rows = [("t", f"m{m}", 3600.0 * (m + 1) * (1 + 0.1 * s), 1000, f"{m}-{s}") for m in range(3) for s in sessions]
        return energylab.rate(pd.DataFrame(rows, columns=["task", "model", "energy_j", "queries", "session"]))["note"]

    assert notes(range(2)).str.contains(POOLED).all()
    assert not notes(range(3)).str.contains(POOLED).any()
