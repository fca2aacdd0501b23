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


def states(tmp_path, **content):
    planned = planning.load(builders.write_study(tmp_path, parameters={"model_source": "hub", **SETTINGS}, **content))
    return {job: JobState("left") for job in planned.jobs}


def test_without_a_figure_the_time_is_the_protocols_least(tmp_path):
    jobs = states(tmp_path, sweeps=[{"task": "sentence_similarity", "model": "nobody/knows"}])
    (cost,) = estimate.estimates(jobs, on_gpu=True).values()
    assert (cost.basis, cost.energy_j) == ("floor", None)
    assert cost.time_s == 5.0 + 3 * 3.0 + 4 * 2 * 2.0  # warm-up, idle levels, runs x (preprocess, forward) x window


def test_a_published_figure_scales_with_queries_and_runs(tmp_path, monkeypatch):
    published = {("sentence_similarity", "a"): 3600.0}
    monkeypatch.setattr(estimate, "published_j_per_query", lambda: published)
    (cost,) = estimate.estimates(
        states(tmp_path, sweeps=[{"task": "sentence_similarity", "model": "a"}]), on_gpu=True
    ).values()
    assert (cost.basis, cost.energy_j) == ("published", 3600.0 * 10 * 4)
    assert cost.time_s == pytest.approx(3600.0 * 10 * 4 / 250 + 5.0 + 3 * 3.0)  # at 250 W, after warm-up and idle


def test_short_query_sets_fill_their_windows_and_random_weights_cost_what_their_shape_costs(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "published_j_per_query", lambda: {("sentence_similarity", "a"): 0.001})
    jobs = states(tmp_path, sweeps=[{"task": "sentence_similarity", "model": "a", "model_source": ["hub", "random"]}])
    costs = list(estimate.estimates(jobs, on_gpu=True).values())
    assert [cost.basis for cost in costs] == ["published", "published"]
    assert [cost.energy_j for cost in costs] == [250 * 4 * 2 * 2.0] * 2  # runs x (preprocess, forward) x window
    assert [cost.time_s for cost in costs] == [5.0 + 3 * 3.0 + 4 * 2 * 2.0] * 2


@pytest.mark.parametrize(
    ("on_gpu", "changes"), [(False, {}), (True, {"device": "cpu"}), (True, {"model_source": "path"})]
)
def test_on_a_processor_and_of_a_folder_no_published_figure_is_used(tmp_path, monkeypatch, on_gpu, changes):
    monkeypatch.setattr(estimate, "published_j_per_query", lambda: {("sentence_similarity", "a"): 3600.0})
    jobs = states(tmp_path, sweeps=[{"task": "sentence_similarity", "model": "a", **changes}])
    assert [cost.basis for cost in estimate.estimates(jobs, on_gpu).values()] == ["floor"]


def test_records_of_other_repeats_are_believed_before_published_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "published_j_per_query", lambda: {("sentence_similarity", "a"): 3600.0})
    jobs = states(tmp_path, repeats=3, sweeps=[{"task": "sentence_similarity", "model": ["a", "b"]}])
    measured = next(job for job in jobs if job.parameters.model == "a")
    record = builders.record(measured.parameters, energy_j=7.0)
    jobs[measured] = JobState("done", record=record)
    costs = estimate.estimates(jobs, on_gpu=True)
    same = [cost for job, cost in costs.items() if job.parameters.model == "a"]
    assert {cost.basis for cost in same} == {"records"}
    assert {cost.energy_j for cost in same} == {7.0 * 4 + 1.0}  # windows and warm-up
    others = [cost for job, cost in costs.items() if job.parameters.model == "b"]
    assert {(cost.basis, cost.energy_j) for cost in others} == {("similar", 29.0)}


def test_a_total_adds_what_is_known_and_counts_what_is_not():
    parts = [estimate.Estimate(10.0, 7.2e6, "records"), estimate.Estimate(60.0, None, "floor")]
    assert estimate.summary_lines(parts) == [
        "2 jobs to do: at least 1 min 10 s on one device at a time, about 2 kWh and 1 job of unknown energy",
        "  1 job estimated from records of the same jobs in this study",
        "  1 job without an estimate; the time shown is a lower bound, loading left out",
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
