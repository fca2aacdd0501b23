"""The cost of a study follows from its records, from published figures, or is said to be a floor."""

from __future__ import annotations

from pathlib import Path

import builders
import pytest

import energylab
from energylab.clock import ManualClock
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.studies import estimate
from energylab.studies import plan as planning
from energylab.studies.state import JobState

SETTINGS = {"runs": 4, "window_s": 2.0, "idle_s": 3.0, "warm_up_min_s": 5.0, "samples": 10}


REST_S = 5.0 + 3 * 3.0  # warm-up and idle levels
LEAST_S = 4 * 2 * 2.0  # runs x (preprocess, forward) x window


@pytest.fixture
def states(tmp_path, monkeypatch):
    """Jobs that are left, of a study where model ``a`` has a published figure."""

    def states(published_j=3600.0, repeats=1, **row):
        monkeypatch.setattr(estimate, "published_j_per_query", lambda: {("sentence_similarity", "a"): published_j})
        parameters = {"task": "sentence_similarity", "model_source": "hub", **SETTINGS}
        path = builders.write_study(tmp_path, parameters=parameters, repeats=repeats, sweeps=[{"model": "a", **row}])
        return {job: JobState("left") for job in planning.load(path).jobs}

    return states


def test_a_published_figure_scales_with_queries_and_runs(states):
    (cost,) = estimate.estimates(states(), on_gpu=True).values()
    assert (cost.basis, cost.energy_j) == ("published", 3600.0 * 10 * 4)
    assert cost.time_s == pytest.approx(3600.0 * 10 * 4 / 250 + REST_S)  # at 250 W


def test_short_query_sets_fill_their_windows_and_random_weights_cost_what_their_shape_costs(states):
    costs = estimate.estimates(states(published_j=0.001, model_source=["hub", "random"]), on_gpu=True).values()
    found = [(cost.basis, cost.energy_j, cost.time_s) for cost in costs]
    assert found == [("published", 250 * LEAST_S, REST_S + LEAST_S)] * 2


@pytest.mark.parametrize(
    ("on_gpu", "row"),
    [(True, {"model": "nobody/knows"}), (False, {}), (True, {"device": "cpu"}), (True, {"model_source": "path"})],
    ids=["none is known", "no GPU", "on the processor", "weights in a folder"],
)
def test_where_no_published_figure_is_of_use_the_time_is_the_protocols_least(states, on_gpu, row):
    (cost,) = estimate.estimates(states(**row), on_gpu).values()
    assert (cost.basis, cost.energy_j, cost.time_s) == ("floor", None, REST_S + LEAST_S)


def test_records_of_other_repeats_are_believed_before_published_figures(states):
    jobs = states(repeats=3, model=["a", "b"])
    measured = next(job for job in jobs if job.parameters.model == "a")
    record = builders.record(measured.parameters, energy_j=7.0)
    jobs[measured] = JobState("done", record=record)
    costs = estimate.estimates(jobs, on_gpu=True)
    found = {(job.parameters.model, cost.basis, cost.energy_j) for job, cost in costs.items()}
    assert found == {("a", "records", 7.0 * 4 + 1.0), ("b", "similar", 29.0)}  # windows and warm-up


def test_a_total_adds_what_is_known_and_counts_what_is_not():
    parts = [estimate.Estimate(10.0, 7.2e6, "records"), estimate.Estimate(60.0, None, "floor")]
    assert estimate.summary_lines(parts) == [
        "2 jobs to do: at least 1 min 10 s on one device at a time, about 2 kWh and 1 job of unknown energy",
        "  1 job estimated from records of the same jobs in this study",
        "  1 job without an estimate; the time shown is a lower bound without loading",
    ]


def test_most_of_the_published_study_has_a_figure():
    text = (Path(__file__).resolve().parents[2] / "params/studies/published-2025-02.yaml").read_text()
    jobs, _ = planning.expand(planning.parse(text))
    costs = list(estimate.estimates({job: JobState("left") for job in jobs}, on_gpu=True).values())
    assert sum(cost.basis == "published" for cost in costs) >= 150
    heaviest = max(costs, key=lambda cost: cost.energy_j or 0.0)
    assert heaviest.energy_j == pytest.approx(3426.381777 * 3600 * 10)  # ten runs of the heaviest published model


def test_a_session_takes_as_long_as_its_clock_says():
    """Rest with the weights and the warm-up come before the windows: they are within their times, not beside them."""
    clock = ManualClock()
    board = SimulatedBoard(clock, 50.0)
    began_s = clock.now()
    record = energylab.measure(
        fn=lambda _: board.work(0.3, 200.0), queries=range(20), meters=[ReplayMeter(board, clock)], clock=clock,
        window_s=2.0, idle_s=5.0, warm_up_min_s=30.0, warm_up_max_s=60.0,
    )  # fmt: skip
    assert record.warm_up.duration_s >= 30
    assert estimate.session_s(record) == pytest.approx(clock.now() - began_s, rel=0.05)
