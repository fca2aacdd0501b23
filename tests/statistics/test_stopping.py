"""The one stopping rule: its interval holds at every look, and what it certifies is what the record publishes."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import energylab
from energylab import release, show, store
from energylab.clock import ManualClock
from energylab.energy import J_PER_WH, model_energies, session_energy_j
from energylab.errors import CohortError, StatisticsError
from energylab.formats import import_files, study_table, submission
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.publish import leaderboard, model_page, text
from energylab.statistics import stopping
from energylab.statistics.stopping import LEAST_BLOCKS, OwnInterval, Scale, Shared, StopRule

SETTINGS = {"window_s": 5.0, "runs": 4, "warm_up_max_s": 60.0}
RUNS, BLOCKS = 10, 20


def measure(name, seconds, folder=None, seed=0, queries=60, spread=0.2, **parameters):
    """Measure a function of that name that takes `seconds` a query at 300 W, give or take `spread`."""
    clock = ManualClock()
    board = SimulatedBoard(clock, 50.0)
    meter = ReplayMeter(board, clock, power_limit_w=700.0)
    rng = random.Random(f"{name}/{seed}")
    lengths = np.array([rng.uniform(1 - spread, 1 + spread) for _ in range(queries)])
    lengths *= seconds / lengths.mean()

    def work(query):
        board.work(lengths[query] * rng.uniform(0.99, 1.01), 300.0)

    work.__qualname__ = name
    asked = {**SETTINGS, "seed": seed, **parameters}
    return energylab.measure(
        fn=work, queries=range(queries), meters=[meter], clock=clock, output_folder=folder, **asked
    )


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    root = tmp_path_factory.mktemp("peers")
    for name, seconds in (("light", 1.0), ("middle", 3.0), ("heavy", 6.0)):
        for session in range(3):
            measure(name, seconds, root / name / str(session), seed=session)
    return root


def test_a_session_ends_when_its_star_is_decided(peers):
    found = measure("new", 3.5, star_probability=0.9, peers=str(peers))
    stop = found.stop
    assert (stop.rule, stop.reached, stop.reason) == ("star", True, "star decided: 3")
    assert stop.details["stars"] == [3]  # (3.5 - 1)/(6 - 1) = 0.5: the third of five bands
    assert stop.details["peers"] == 3
    assert "estimated from 6 repeats" in stop.details["notes"][0]
    assert len(found.windows) < len(measure("new", 3.5).windows) / 3
    spent = sum(w.energy_j for w in found.windows) + found.warm_up.energy_j + sum(i.energy_j for i in found.idle)
    assert stop.spent_j == pytest.approx(spent)
    assert "Among 3 peers it has **3 stars**, correct with probability 90%" in show.trust(found)


def test_a_model_on_an_edge_runs_to_the_end_and_keeps_both_stars(peers):
    stop = measure("new", 3.0, star_probability=0.9, peers=str(peers)).stop  # 0.4: the edge between four and three
    assert (stop.reached, stop.reason, stop.details["stars"]) == (False, "several stars are left", [3, 4])


def test_a_few_blocks_promise_nothing(peers):
    stop = measure("new", 6.5, queries=2, runs=2, star_probability=0.9, peers=str(peers)).stop
    assert stop.units < LEAST_BLOCKS
    assert (stop.low_j, stop.details["stars"]) == (None, None)
    assert stop.energy_j_per_query is not None


@pytest.mark.parametrize("seed", range(6))
def test_what_a_session_certified_is_what_record_table_and_rating_say(tmp_path, seed):
    rng = random.Random(seed)
    spread, queries = rng.uniform(0.1, 0.9), rng.randint(40, 90)
    target = rng.choice([0.06, 0.1, 0.2])
    record = measure("new", 3.0, tmp_path, seed, queries, spread, precision_target=target, runs=10)
    assert record.stop.reached
    whole = [window for window in record.windows if window.run == 0]
    assert record.windows[-1].run > 0 or len(whole) <= queries  # some end within a run
    certified = record.stop.energy_j_per_query
    assert certified == session_energy_j(record)
    assert record.stop.low_j < certified < record.stop.high_j
    figures_wh = [model_energies(store.read(tmp_path)).models["energy_wh"].iloc[0]]  # the table's
    made = release.make([tmp_path], name="one", date="2026-01-01", draws=0)
    (rated,) = made.cohorts[0].models
    figures_wh += [rated.energy_wh, rated.sessions[0].energy_wh]
    page = pd.read_csv(io.BytesIO(leaderboard.to_csv(made)))
    figures_wh.append(page["energy_wh_per_1000_queries"].iloc[0])
    exported, *_ = study_table.write([tmp_path], tmp_path / "export")
    figures_wh.append(model_energies(store.read(exported)).models["energy_wh"].iloc[0])
    with zipfile.ZipFile(submission.write(record, tmp_path / "s.zip", unofficial=True)) as archive:
        report = json.loads(archive.read("benchmark_report.json"))
    figures_wh.append(report["call"]["energy"]["gpu"] * 1e6 / record.queries)  # kWh of a run
    [found] = import_files([tmp_path / "s.zip"], tmp_path / "imported")
    figures_wh.append(session_energy_j(found.record) * 1000 / J_PER_WH)
    assert figures_wh == pytest.approx([certified * 1000 / J_PER_WH] * len(figures_wh), rel=1e-5)  # pages round to 6
    ((_, html),) = model_page.pages(made, frozenset())
    (shown,) = re.findall(r'<p class="big"><b>([^<]+)</b> Wh per 1,000 queries', html.decode())
    assert shown == text.figure(figures_wh[0])


def test_a_target_below_what_one_session_can_show_runs_to_the_end_and_says_so():
    stop = measure("new", 3.0, precision_target=0.01).stop
    assert not stop.reached
    assert "a single session cannot get below 2.2%: measure more" in stop.reason


def test_repeated_sessions_tell_how_far_sessions_differ(peers):
    stated = measure("new", 3.0, precision_target=0.05, runs=10).stop
    learnt = measure("new", 3.0, precision_target=0.05, runs=10, peers=str(peers)).stop
    assert stated.details["shared_cv"] == 0.01
    assert "is assumed" in stated.details["notes"][0]
    assert 0 < learnt.details["shared_cv"] != 0.01
    assert "estimated from 6 repeats" in learnt.details["notes"][0]


def drawn(sessions, seed, *, session=0.0, run=0.0, window=0.0, drift=0.0):
    """Energy of every block, all sessions beside one another, of a true 1 J a query; deviations are relative."""
    rng = np.random.default_rng(seed)
    of_session = session * rng.standard_normal((sessions, 1, 1))
    of_run = run * rng.standard_normal((sessions, RUNS, 1))
    of_window = window * rng.standard_normal((sessions, RUNS, BLOCKS))
    trend = drift * np.linspace(-0.5, 0.5, RUNS * BLOCKS).reshape(1, RUNS, BLOCKS)
    return (1 + of_session + of_run + of_window + trend).reshape(sessions, -1)


@pytest.mark.parametrize(
    "effects",
    [
        {"window": 0.008},
        {"run": 0.004, "window": 0.008},
        {"run": 0.004, "window": 0.002},
        {"session": 0.008, "run": 0.004, "window": 0.008},
        {"session": 0.008, "run": 0.006, "window": 0.05},
        {"session": 0.005, "run": 0.004, "window": 0.008, "drift": 0.005},
    ],
    ids=str,
)
def test_the_interval_holds_at_every_look_and_at_the_stop(effects):
    energy = drawn(2000, 7, **effects)
    mean, half = OwnInterval(0.05, Shared(0.01))(energy, np.ones(RUNS * BLOCKS), BLOCKS)
    held = np.abs(mean - 1) <= half
    assert held.all(axis=1).mean() >= 0.94
    asked = half / mean <= (0.06 if effects["window"] > 0.01 else 0.03)
    stopped = asked[:, LEAST_BLOCKS - 1 :].any(axis=1)
    at = np.argmax(asked[:, LEAST_BLOCKS - 1 :], axis=1) + LEAST_BLOCKS - 1
    assert held[np.arange(len(at)), at][stopped].mean() >= 0.94


def test_whole_runs_owe_nothing_to_the_choice_of_queries():
    rng = np.random.default_rng(2)
    energy = rng.lognormal(0, 0.8, (200, 1, BLOCKS)) * (1 + 0.004 * rng.standard_normal((200, RUNS, BLOCKS)))
    truth = energy.mean(axis=(1, 2))
    mean, half = OwnInterval(0.05, Shared(0.0))(energy.reshape(200, -1), np.ones(RUNS * BLOCKS), BLOCKS)
    assert np.median(half[:, -1] / mean[:, -1]) < 0.005 < 0.05 < np.median(half[:, -2] / mean[:, -2])
    assert (np.abs(mean[:, -1] - truth) <= half[:, -1]).mean() > 0.97


def test_blocks_without_any_scatter_leave_the_shared_spread_alone():
    _, half = OwnInterval(0.05, Shared(0.01))(np.full(12, 5.0), np.ones(12), 2)  # runs of two blocks
    assert np.isinf(half[:5]).all()
    assert half[5:] == pytest.approx(5.0 * 0.01 * stats.norm.ppf(1 - 0.025 / 2))


def test_the_rule_is_the_interval_block_by_block():
    record = measure("new", 3.0, precision_target=0.1, runs=10)
    blocks = [(window.energy_j / window.replications, len(window.queries)) for window in record.windows]
    mean, half = OwnInterval(0.05, Shared())(*zip(*blocks, strict=True), 60)
    within = np.flatnonzero(half / mean <= 0.1)
    assert within[within >= LEAST_BLOCKS - 1][0] == len(blocks) - 1
    assert record.stop.high_j == pytest.approx(mean[-1] + half[-1])


def table(energies_j, sessions=3, cv=0.01, **columns):
    rng = np.random.default_rng(0)
    rows = [
        {"task": "t", "model": name, "model_class": None, "cohort": "a=1; b=2", "session": f"{name}{s}", "run": 0,
         "phase": "forward", "queries": 1, "energy_j": energy_j * (1 + cv * rng.standard_normal()), "board": "X"}
        for name, energy_j in energies_j.items() for s in range(sessions)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


ENERGIES = {"l": 10.0, "m": 20.0, "h": 60.0}


def scale(rows, board="X", **other) -> Scale:
    own = {"cohort": "a=1; b=2", "model_class": None, "without": "own", **other}
    return stopping.scale_of(stopping.comparable_rows(rows, **own), board, 0.9)


def test_the_star_is_right_as_often_as_it_says():
    rng = np.random.default_rng(1)
    right = []
    for _ in range(60):
        truth = np.exp(rng.uniform(1, 3, 7))
        rows = table(dict(zip("abcdef", truth[:6], strict=True)))
        rows["energy_j"] = rows["model"].map(dict(zip("abcdef", truth, strict=False)))
        rows["energy_j"] *= 1 + 0.02 * rng.standard_normal(len(rows))
        found = scale(rows)
        session = truth[6] * (1 + 0.02 * rng.standard_normal()) * (1 + 0.03 * rng.standard_normal(30))
        mean, half = (path[-1] for path in OwnInterval(0.05, found.shared)(session, np.ones(30), 1000))
        edges = np.linspace(truth.min(), truth.max(), 6)[1:-1]
        right.append(5 - int(np.sum(truth[6] > edges * (1 + 1e-9))) in found.stars(mean - half, mean + half))
    assert np.mean(right) >= 0.9


def test_peers_of_one_session_take_the_spread_between_sessions():
    alone = scale(table(ENERGIES, sessions=1))
    assert "a spread of 1% between sessions is assumed" in alone.shared.note
    low, high = alone.highest
    assert (high - low) / (high + low) > 2 * 0.01  # a level for three peers at once, not for a run's own spread


def test_runs_of_peers_that_were_not_repeated_tell_on_the_scale():
    """Runs 10 % apart say of a single session that it is not known to the 1 % that are stated."""
    rows = pd.concat([table(ENERGIES, sessions=1, cv=0.0, run=run) for run in (0, 1)], ignore_index=True)
    widths = []
    for apart in (0.001, 0.1):
        found = scale(rows.assign(energy_j=rows["energy_j"] * (1 + apart * (rows["run"] - 0.5))))
        assert (
            f"between sessions is assumed: none was repeated, and one of {apart / np.sqrt(2):.2%} " in found.shared.note
        )
        widths.append((found.highest[1] - found.highest[0]) / 60 / 2)
    assert widths[0] < 0.03 < 0.1 < widths[1]


def test_two_sessions_of_each_of_several_peers_tell_their_spread_together():
    widths = []
    for names in ("abcdefgh", "ab"):
        rows = table(dict(zip(names, np.geomspace(10, 80, len(names)), strict=True)), sessions=2, cv=0.0)
        rows["energy_j"] *= 1 + 0.01 * (-1) ** np.arange(len(rows))
        found = scale(rows)
        assert found.shared.df == len(names)
        widths.append((found.highest[1] - found.highest[0]) / 80)
    assert widths[0] < 0.1 < widths[1]


def test_records_of_the_model_itself_and_without_an_energy_are_no_peers():
    rows = table({**ENERGIES, "own": 900.0})
    rows.loc[rows["model"] == "m", "energy_j"] = np.nan
    found = scale(rows)
    assert (found.peers, found.highest[1] < 400) == (2, True)
    assert "not on the scale, since without an energy: m" in found.notes


def test_other_boards_bring_their_gains_in():
    here, there = scale(table(ENERGIES)), scale(table(ENERGIES), board="Y")
    assert (here.gain, there.gain) == (0.0, 0.05)
    assert there.highest[0] < here.highest[0] < here.highest[1] < there.highest[1]
    assert "several boards" in there.notes[0]


@pytest.mark.parametrize(
    ("rows", "own", "error", "match"),
    [
        (table(ENERGIES), {"cohort": "a=1; b=3"}, CohortError, "b=3 here, b=2 there"),
        (table(ENERGIES), {"model_class": "B"}, CohortError, "model class"),
        (table({"l": 1.0}), {}, StatisticsError, "1 peers have an energy; a scale needs at least 2"),
    ],
)
def test_peers_that_make_no_scale_are_refused(rows, own, error, match):
    with pytest.raises(error, match=match):
        scale(rows, **own)


def test_a_folder_without_peers_is_refused(tmp_path):
    with pytest.raises(CohortError, match="holds no records"):
        stopping.read_peers(tmp_path)


def test_a_rule_that_was_never_asked_has_nothing_to_certify():
    assert StopRule(0.1, lambda: 1).ends() is None
