"""One energy a session and a model: pooled over queries, aware of boards, with intervals that hold."""

from __future__ import annotations

import builders
import numpy as np
import pandas as pd
import pytest

from energylab.energy import J_PER_WH, energy_j_per_query, model_energies, phase_totals
from energylab.errors import CohortError, DataError, ParameterError


def table(energy_wh: np.ndarray, **columns) -> pd.DataFrame:
    """Sessions of 1,000 queries: `energy_wh` holds models, boards (own ones) and sessions along its axes."""
    models, boards, sessions = energy_wh.shape
    model, board, session = (axis.ravel() for axis in np.indices(energy_wh.shape))
    names = {
        "model": [f"m{number:05d}" for number in model],
        "board": [f"b{number}" for number in model * boards + board],
        "session": (model * boards + board) * sessions + session,
    }
    return pd.DataFrame({"task": "t", "energy_j": energy_wh.ravel() * J_PER_WH, "queries": 1000, **names, **columns})


def drawn(gain: np.ndarray, sessions: int, rng: np.random.Generator, scatter: float = 0.01) -> np.ndarray:
    """Models of a true 1 Wh on boards of these relative gains: sessions scatter by so much."""
    return (1 + gain[..., None]) * (1 + scatter * rng.standard_normal((*gain.shape, sessions)))


def held(models: pd.DataFrame, kind: str = "repeatability") -> float:
    """Return the share of the intervals that hold the true 1 Wh."""
    return ((models[f"{kind}_low"] <= 1) & (models[f"{kind}_high"] >= 1)).mean()


def test_runs_are_pooled_by_their_queries_and_phases_apart_and_added():
    """A run that ended early counts by its queries: of a table, and of a record's windows, alike."""
    works = [(0, "preprocess", 10.0, 2), (0, "forward", 100.0, 2), (1, "preprocess", 20.0, 1), (1, "forward", 80.0, 1)]
    rows = pd.DataFrame(works, columns=["run", "phase", "energy_j", "queries"])
    (energy_wh,) = model_energies(rows.assign(task="t", model="m", session="s")).models["energy_wh"]
    windows = [
        builders.window(index=at, run=run, phase=phase, energy_j=energy_j, queries=tuple(range(queries)))
        for at, (run, phase, energy_j, queries) in enumerate(works)
    ]
    assert energy_wh * 3.6 == pytest.approx(30 / 3 + 180 / 3)
    assert energy_j_per_query(phase_totals(windows)) == pytest.approx(30 / 3 + 180 / 3)


def test_a_session_without_a_total_is_left_out_and_counted():
    found = model_energies(table(np.array([[[1.0, 1.1, np.nan]], [[np.nan] * 3]]))).models
    assert found["energy_wh"].tolist() == pytest.approx([1.05, np.nan], nan_ok=True)
    assert found["lost"].tolist() == [1, 3]
    assert found["note"].str.startswith(("1 of 3 sessions unavailable", "3 of 3 sessions unavailable")).all()


@pytest.mark.parametrize(("boards", "sessions"), [(1, 5), (2, 5), (4, 3), (2, 20)])
def test_intervals_of_sessions_and_boards_hold_as_often_as_they_say(boards, sessions):
    rng = np.random.default_rng(boards * 100 + sessions)
    gain = 0.029 * (boards > 1) * rng.standard_normal((4000, boards))
    assert held(model_energies(table(drawn(gain, sessions, rng))).models) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("scatter", [0.01, 0.1])
@pytest.mark.parametrize(("boards", "sessions"), [(1, 3), (1, 5), (2, 5), (4, 3)])
def test_the_expanded_interval_holds_the_true_energy_and_is_the_wider_one(boards, sessions, scatter):
    rng = np.random.default_rng(9)
    models = model_energies(table(drawn(rng.uniform(-0.05, 0.05, (4000, boards)), sessions, rng, scatter))).models
    assert held(models, "expanded") >= 0.94
    assert (models["expanded_low"] <= models["repeatability_low"]).all()
    assert (models["expanded_high"] >= models["repeatability_high"]).all()


def test_two_sessions_of_two_per_cent_expand_by_the_gums_formula():
    (model,) = model_energies(table(1 + np.array([[[-1, 1]]]) * 0.02 / np.sqrt(2))).models.itertuples()
    own, gain = 0.02 / np.sqrt(2), 0.05 / np.sqrt(3)
    df = (own**2 + gain**2) ** 2 / own**4  # Welch-Satterthwaite, one degree of freedom for the sessions: 26.7
    assert df == pytest.approx(26.7, abs=0.1)
    assert model.expanded_high - 1 == pytest.approx(2.053 * np.hypot(own, gain), rel=1e-3)
    assert model.repeatability_high - 1 == pytest.approx(12.706 * own, rel=1e-4)


def test_a_model_without_repeats_takes_the_spread_of_the_others_and_says_so():
    energy_wh = np.array([[[1.0, 1.02, 0.98]], [[2.0, np.nan, np.nan]]])
    models = model_energies(table(energy_wh).dropna(), noise=0.3).models.set_index("model")
    assert models.loc["m00001", ["spread", "df"]].tolist() == ["pooled", 2]
    assert models.loc["m00001", "relative_se"] == pytest.approx(0.02)
    assert models.loc["m00001", "note"].startswith("one session: the spread between sessions is that of 1 repeated")


def test_without_any_repeat_the_stated_noise_is_assumed_or_nothing_is_known():
    one = table(np.ones((3, 1, 1)))
    assert model_energies(one, noise=0.02).models["note"].str.contains("2 % between sessions is assumed").all()
    unknown = model_energies(one).models
    assert unknown["expanded_low"].isna().all()
    assert (unknown["note"] == "not repeated: no interval").all()


def test_what_tells_models_apart_leaves_the_boards_they_share_out():
    rng = np.random.default_rng(4)
    gains = np.array([0.95, 1.05]).reshape(1, 2, 1)
    rows = table(gains * np.linspace(1, 2, 30).reshape(-1, 1, 1) * (1 + 0.004 * rng.standard_normal((30, 2, 4))))
    rows["board"] = [f"b{number % 2}" for number in np.repeat(np.arange(60), 4)]
    found = model_energies(rows)
    assert found.models["session_se"].to_numpy() == pytest.approx(np.full(30, 0.004 / np.sqrt(8)), rel=0.15)
    assert found.models["relative_se"].min() > 0.04
    assert found.boards.groupby("board")["share"].sum().tolist() == [15.0, 15.0]


@pytest.mark.parametrize("kinds", [["measured", None], [None, "measured"]])
def test_a_kind_that_is_not_stated_is_not_borrowed(kinds):
    rows = table(np.ones((2, 1, 1)), energy_kind=kinds)
    with pytest.raises(CohortError, match="mixes energy_kind: measured, not stated"):
        model_energies(rows)
    (group,) = model_energies(rows[rows["energy_kind"].isna()]).groups
    assert (group.energy_kind, group.device) == ("not stated", None)


def test_what_may_not_be_added_is_refused():
    rows = table(np.ones((1, 1, 2)))
    per_run = rows.assign(run=0, phase="forward")
    for refused, error, message in [
        (pd.concat([per_run, per_run]), DataError, "twice"),
        (per_run.assign(phase=["forward", "call"]), CohortError, "mixes phases"),
        (rows.assign(energy_j=0.0), DataError, "finite number above 0"),
        (rows.assign(valid=["true", "FALSCH"]), DataError, "'FALSCH' is neither true nor false"),
    ]:
        with pytest.raises(error, match=message):
            model_energies(refused)
    with pytest.raises(ParameterError, match="noise=2"):
        model_energies(rows, noise=2)
