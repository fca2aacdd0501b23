"""The energy-to-rate benchmark at a smaller count: its worlds, its accounts, its goals with bands to match."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # as when it is run as a script

from rate_rows import PUBLISHED, ladders, worlds  # noqa: E402

spec = importlib.util.spec_from_file_location("benchmark_energy_to_rate", BENCHMARKS / "energy_to_rate.py")
benchmark = importlib.util.module_from_spec(spec)
sys.modules["benchmark_energy_to_rate"] = benchmark  # dataclasses look their module up
spec.loader.exec_module(benchmark)

ENERGIES = np.array([0.2, 1.0, 3.0, 8.0, 40.0, 160.0, 500.0])


@pytest.fixture(scope="module")
def world():
    return worlds.simulate(np.random.default_rng(0), ENERGIES, 200)


@pytest.fixture(scope="module", params=["i", "ii"])
def found(request):
    everyone = benchmark.simulate_all(8, request.param)
    return request.param, benchmark.joined(list(everyone.values()), axis=1)


def test_a_world_is_what_it_says(world):
    assert world.blocks.min() > 0
    assert world.blocks.mean(axis=-1) == pytest.approx(1.0)
    assert world.covariate.mean(axis=-1) == pytest.approx(0.0, abs=1e-9)
    query_cv = world.blocks.std(axis=-1) * np.sqrt(worlds.BLOCK)
    assert 0.3 < np.median(query_cv) < 1.0
    centred = world.blocks - 1
    explained = (centred * world.covariate).sum(-1) ** 2 / (centred**2).sum(-1) / (world.covariate**2).sum(-1)
    assert 0.5 < np.median(explained) < 0.9
    assert np.mean(world.bound_cv > world.run_cv) == pytest.approx(0.95, abs=0.05)


def test_ladders_end_with_all_queries_and_the_spread_of_runs_alone(world):
    ladder = ladders.by_queries(np.random.default_rng(1), world)
    error = ladder.mean[..., -1] / ENERGIES - 1
    runs = worlds.RUNS * worlds.BLOCKS
    assert np.all(ladder.error[..., -1] == 0)
    assert np.std(error / world.run_cv) == pytest.approx(1 / np.sqrt(runs), rel=0.25)
    assert ladder.cost[0, 0, -1] == 1
    assert ladder.cost[0, 0, 0] == ladders.FIRST[0] * worlds.BLOCK / 10_000


def test_metered_estimates_scatter_as_the_known_spread_says(world):
    ladder = ladders.metered(np.random.default_rng(2), world)
    error = ladder.mean[..., -1] / ENERGIES - 1
    known = ladder.known_error[..., -1] / ladder.mean[..., -1] * (world.run_cv / world.bound_cv)
    assert np.all(np.diff(ladder.cost, axis=-1) >= 0)
    assert 0.6 < np.std(error / known) < 1.2


def test_a_metered_session_counts_warm_up_idle_and_windows(world):
    ladder = ladders.metered(np.random.default_rng(3), world)
    spent_j = ladder.cost[..., 0] * 10 * ENERGIES * 3600
    idle_j = worlds.IDLE_S * (worlds.IDLE_W + 2 * worlds.RESIDENT_W)
    least_j = world.warm_up_s * world.power_w + idle_j + ladders.SHORT_WINDOWS * worlds.WINDOW_S * world.power_w
    assert np.all(spent_j > least_j)


def test_goals_are_near_and_the_rule_beats_a_fixed_sample(found):
    table, outcome = found
    decided_right = outcome.right[outcome.decided].mean()
    assert decided_right >= outcome.published.mean() - benchmark.SLACK
    assert decided_right > outcome.baseline.mean() + 0.02
    assert 1 - outcome.decided.mean() < 0.045
    if table == "i":
        assert np.median(outcome.cost) < 0.02
        assert outcome.cost.mean() < 0.10
    else:
        assert outcome.cost[outcome.long].mean() < 0.15


def test_stars_left_hold_the_true_one(found):
    _, outcome = found
    assert outcome.covered.mean() > 0.99


def test_the_models_nearest_an_edge_are_ten_and_no_extremes():
    near = benchmark.nearest(10)
    assert sum(len(rows) for rows in near.values()) == 10
    for name, rows in near.items():
        assert 0 not in rows
        assert PUBLISHED[name].size - 1 not in rows


def test_a_missed_goal_is_said(found, capsys):
    table, outcome = found
    if table == "i":
        dear = benchmark.Outcome(**{**vars(outcome), "cost": outcome.cost + 0.2})
        assert benchmark.goals(dear, "i", kept=True) is False
        assert "MISSED" in capsys.readouterr().out
    else:
        assert benchmark.goals(outcome, "ii", kept=False) is False
        assert "MISSED  same star" in capsys.readouterr().out


def test_windows_of_a_pass_are_as_short_as_the_meter_allows_and_sessions_make_it_up(world):
    sizes, per_session = ladders._plan(world)
    long = sizes > 1
    assert np.all(world.pass_s[long] / sizes[long] >= worlds.WINDOW_S)
    in_between = long & (sizes < worlds.BLOCKS)
    assert np.all(world.pass_s[in_between] / sizes[in_between] < 2.001 * worlds.WINDOW_S)
    assert np.all(sizes[long] % per_session[long] == 0)
    assert np.all(worlds.BLOCKS % sizes == 0)
