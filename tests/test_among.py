"""Sessions that end when their star is decided among measured peers."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

import energylab
from energylab import among, show, store
from energylab.clock import ManualClock
from energylab.errors import CohortError, ParameterError, StatisticsError
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.parameters import Parameters
from energylab.ratings.cohorts import Group
from energylab.ratings.schemes import EqualWidth, count_stars
from energylab.statistics.intervals import mean_interval

SETTINGS = {"window_s": 5.0, "runs": 4, "warm_up_max_s": 60.0}


def measure(name, seconds, folder=None, seed=0, queries=60, **parameters):
    """Measure a function of that name that takes `seconds` a query at 300 W, give or take a fifth."""
    clock = ManualClock()
    board = SimulatedBoard(clock, 50.0)
    meter = ReplayMeter(board, clock, power_limit_w=700.0)
    rng = random.Random(f"{name}/{seed}")
    spread = [rng.uniform(0.8, 1.2) for _ in range(queries)]
    lengths = [seconds * queries * each / sum(spread) for each in spread]

    def work(query):
        board.work(lengths[query] * rng.uniform(0.99, 1.01), 300.0)

    work.__qualname__ = name
    asked = {**SETTINGS, **parameters}
    return energylab.measure(
        fn=work, queries=range(queries), meters=[meter], clock=clock, output_folder=folder, **asked
    )


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    root = tmp_path_factory.mktemp("peers")
    for name, seconds in (("light", 1.0), ("middle", 3.0), ("heavy", 6.0)):
        measure(name, seconds, root / name)
    return root


def star(record):
    return {**record.stop.details, **record.stop.model_dump(exclude={"details"})}


def test_a_session_ends_when_its_star_is_decided(peers):
    found = measure("new", 3.5, star_probability=0.9, peers=str(peers))
    assert star(found)["reached"]
    assert star(found)["stars"] == [3]  # (3.5 - 1)/(6 - 1) = 0.5: the third of five bands
    full = measure("new", 3.5)
    assert len(found.windows) < len(full.windows) / 3
    assert star(found)["peers"] == 3
    assert star(found)["notes"] == [
        "no peer was measured in several sessions: the spread between sessions is not counted",
        "thin group of 4 models: a star means little",
    ]
    said = show.trust(found)
    assert "ended early (star decided: 3)" in said
    assert "Among 3 peers it has **3 stars**, right with 90%" in said
    assert "95 % interval of this session's mean alone" in said
    spent = sum(w.energy_j for w in found.windows) + found.warm_up.energy_j + sum(i.energy_j for i in found.idle)
    assert star(found)["spent_j"] == pytest.approx(spent)


def test_a_model_on_an_edge_ends_as_two_adjacent_stars(peers):
    found = measure("new", 3.0, star_probability=0.9, peers=str(peers))  # 0.4: the edge between four and three
    assert not star(found)["reached"]
    assert star(found)["stars"] == [3, 4]
    assert len(found.windows) >= 4 * 15
    assert "**3 or 4 stars**" in show.trust(found)


def test_a_few_blocks_promise_no_star(peers):
    found = star(measure("new", 6.5, queries=2, runs=2, star_probability=0.9, peers=str(peers)))
    assert found["units"] == 4
    assert found["low_j"] is not None
    assert found["stars"] is None


def test_the_heaviest_of_all_needs_no_long_measurement(peers):
    assert star(measure("new", 20.0, star_probability=0.95, peers=str(peers)))["stars"] == [1]


def table(energies_j, sessions=3, cv=0.01, **columns):
    rng = np.random.default_rng(0)
    rows = [
        {"task": "t", "model": name, "model_class": None, "cohort": "a=1; b=2", "session": f"{name}{s}", "run": 0,
         "phase": "forward", "queries": 1, "energy_j": energy_j * (1 + cv * rng.standard_normal()), "board": "X"}
        for name, energy_j in energies_j.items() for s in range(sessions)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


OWN = {"cohort": "a=1; b=2", "model": "own", "model_class": None, "board": "X", "probability": 0.9}
ENERGIES = {"l": 10.0, "m": 20.0, "h": 60.0}


def test_stars_left_are_right_with_the_probability_that_was_asked_for():
    rng = np.random.default_rng(1)
    truth = dict(zip("abcdef", np.exp(rng.uniform(1, 3, 6)), strict=True))
    held = []
    for _ in range(60):
        rows = table(truth)
        rows["energy_j"] = rows["model"].map(truth) * (1 + 0.02 * rng.standard_normal(len(rows)))
        own = float(np.exp(rng.uniform(1, 3)))
        found = among.scale(rows, **OWN)
        energies = np.array([*truth.values(), own])
        true_star = int(count_stars(energies, EqualWidth()(energies, Group("t")))[-1])
        session = mean_interval(own * (1 + 0.02 * rng.standard_normal(4)), found.level)
        held.append(true_star in found.question.stars(session))
    assert np.mean(held) >= 0.9


def test_the_spread_between_sessions_is_bounded_from_the_peers():
    assert among.scale(table(ENERGIES, cv=0.02), **OWN).between_cv == pytest.approx(0.02, rel=1.2)
    assert among.scale(table(ENERGIES, cv=0.02), **OWN).between_cv > 0.015


def test_a_peer_without_an_energy_is_named():
    rows = table(ENERGIES)
    rows.loc[rows["model"] == "m", "energy_j"] = np.nan
    found = among.scale(rows, **OWN)
    assert found.peers == 2
    assert "without an energy, and so not on the scale: m" in found.notes


def test_records_of_the_model_itself_are_no_peers():
    with_own = table({**ENERGIES, "own": 900.0})
    assert among.scale(with_own, **OWN).peers == 3
    assert among.scale(with_own, **OWN).question.highest[1] < 400


def test_other_boards_bring_their_gains_in():
    here, there = among.scale(table(ENERGIES), **OWN), among.scale(table(ENERGIES), **{**OWN, "board": "Y"})
    assert (here.question.gain, there.question.gain) == (0.0, 0.05)
    assert there.question.highest[0] < here.question.highest[0] < here.question.highest[1] < there.question.highest[1]
    assert "several boards" in there.notes[0]


@pytest.mark.parametrize(
    ("rows", "own", "error", "match"),
    [
        (table(ENERGIES), {"cohort": "a=1; b=3"}, CohortError, "b is 3 here, 2 there"),
        (table(ENERGIES), {"model_class": "B"}, CohortError, "model class"),
        (table({"l": 1.0}), {}, StatisticsError, "1 peers have an energy; a scale needs at least 2"),
        (table(ENERGIES, sessions=1), {}, StatisticsError, "nobody knows how sure the energy of 'l' is"),
    ],
)
def test_peers_that_make_no_scale_are_refused(rows, own, error, match):
    with pytest.raises(error, match=match):
        among.scale(rows, **{**OWN, **own})


def test_what_does_not_belong_together_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="peers is missing"):
        Parameters.check({"star_probability": 0.95})
    with pytest.raises(ParameterError, match="star_probability is missing"):
        Parameters.check({"peers": "results/x"})
    with pytest.raises(ParameterError, match="two reasons"):
        Parameters.check({"star_probability": 0.95, "peers": "results/x", "precision_target": 0.02})
    with pytest.raises(ParameterError, match=r"star_probability=1\.5"):
        Parameters.check({"star_probability": 1.5, "peers": "results/x"})
    with pytest.raises(CohortError, match="holds no records"):
        among.read_peers(tmp_path)


def test_where_the_peers_lie_is_no_part_of_the_job(peers):
    ids = {Parameters.check({"star_probability": 0.9, "peers": where}).job_id for where in ("a", "b")}
    assert len(ids) == 1
    assert ids != {Parameters.check({}).job_id}
    assert Parameters.check({}).job_id == Parameters.check({"seed": 0}).job_id
    assert store.read(peers)["cohort"].nunique() == 1
