"""The published protocols: what is asked of a task, in which order, and what is inside the windows."""

from __future__ import annotations

import pytest

import energylab
from energylab.energy import phase_totals, totals
from energylab.errors import ParameterError
from energylab.parameters import Parameters
from energylab.protocol.published import PublishedWorkload
from energylab.protocol.settings import Settings
from energylab.tasks.base import Tokens


class ScriptedTask:
    """Writes down what it is asked, and draws power for it."""

    batch_size = 1
    protocol = "published-2025-02"

    def __init__(self, bench, phases):
        self.bench, self.phases, self.asked = bench, phases, []

    def _draw(self, what, seconds, power_w):
        self.asked.append(what)
        self.bench.board.work(seconds, power_w)
        return what

    def load(self):
        self._draw("load", 1.0, 100.0)

    def prepare_all(self, rows):
        return self._draw(("prepare_all", tuple(rows)), 0.5, 80.0) and list(rows)

    def prepare(self, rows):
        return self._draw(("prepare", *rows), 0.01, 80.0)

    def fetch(self, table, queries):
        return self._draw(("fetch", *(table[query] for query in queries)), 0.05, 70.0)

    def run(self, phase, inputs):
        return self._draw((phase, inputs[1]), {"prefill": 0.2}.get(phase, 1.0), 400.0)

    def run_short(self, inputs):
        self._draw(("short", inputs[1]), 0.1, 300.0)

    def answers(self, inputs, outputs):
        self.asked.append(("answers", outputs[1]))
        return [f"answer {outputs[1]}"]

    def finite(self, inputs, outputs):
        return True

    def count(self, phase, inputs, outputs):
        return Tokens(7, 3)

    def synchronize(self):
        pass


def measured(made, phases, protocol="published-2025-02", runs=2, meter=None):
    task = ScriptedTask(made, phases)
    made.settings = Settings.of(Parameters(protocol=protocol, runs=runs, idle_s=1.0, max_attempts=2))
    workload = PublishedWorkload(task, ["a", "b", "c"], task.load, protocol == "published-2025-12")
    return task, made.run(workload, meter)


def loop(phase):
    return [step for row in "abc" for step in (("fetch", row), (phase, row))]


def work_of(asked):
    """Leave out what is fetched again and read after a window, to count and to answer."""
    runs, position = [], 0
    for phase in ("prefill", "generate") * 2:
        position = asked.index((phase, "a"), position) - 1
        runs.append(asked[position : position + 6])
        position += 6
    return runs


def test_the_set_is_preprocessed_once_a_run_before_the_model_is_loaded(bench):
    task, session = measured(bench(), ("preprocess", "prefill", "generate"))
    assert session.valid, session.reasons
    assert task.asked[:3] == [("prepare_all", ("a", "b", "c"))] * 2 + ["load"]
    full, short = [("fetch", "a"), ("generate", "a")], [("fetch", "a"), ("short", "a")]
    assert task.asked[3:25] == full + 10 * short
    assert work_of(task.asked[25:]) == [loop("prefill"), loop("generate")] * 2
    assert session.warm_up.reason == "one full call and ten short ones"
    assert session.answers == {0: "answer a", 1: "answer b", 2: "answer c"}


def test_a_phase_of_a_run_is_one_window_that_holds_fetching_and_calls(bench):
    _, session = measured(bench(), ("preprocess", "prefill", "generate"))
    windows = [(window.run, window.phase, window.queries, window.replications) for window in session.windows]
    everything = ((0, 1, 2), 1)
    assert windows == [
        (0, "preprocess", *everything), (1, "preprocess", *everything), (0, "prefill", *everything),
        (0, "generate", *everything), (1, "prefill", *everything), (1, "generate", *everything),
    ]  # fmt: skip
    found = {(total.run, total.phase): total.energy_j for total in phase_totals(session.windows)}
    at_rest = 2 * 0.101 * 60.0  # both edges wait for a step of the counter
    assert 0 <= found[0, "preprocess"] - 0.5 * 80 <= at_rest
    assert 0 <= found[0, "generate"] - 3 * (0.05 * 70 + 1.0 * 400) <= at_rest
    assert 0 <= found[1, "prefill"] - 3 * (0.05 * 70 + 0.2 * 400) <= at_rest
    for window in session.windows:
        assert window.input_tokens == (None if window.phase == "preprocess" else 21)


def test_the_second_version_is_a_single_phase_with_tokenising_and_decoding_inside(bench):
    task, session = measured(bench(), ("preprocess", "prefill", "generate"), protocol="published-2025-12")
    assert session.valid, session.reasons
    row = [[("prepare", row), ("generate", row), ("answers", row)] for row in "abc"]
    assert task.asked[:10] == ["load", *row[0], *row[1], *row[2]]
    assert [(window.phase, window.output_tokens) for window in session.windows] == [("total", 9)] * 2
    assert session.windows[0].energy_j == pytest.approx(3 * (0.01 * 80 + 400), rel=0.02)
    assert session.warm_up.queries == 0
    assert session.answers[2] == "answer c"


def test_a_window_too_short_for_the_counter_is_marked_since_it_is_not_lengthened(bench):
    made = bench()
    coarse = made.meter()
    coarse.latency_s = 0.05  # a bound of 60 J on 40
    _, session = measured(made, ("preprocess", "forward"), runs=1, meter=coarse)
    assert session.valid
    assert [window.marks for window in session.windows] == [("few_ticks",), ()]


def test_a_function_has_no_published_protocol():
    with pytest.raises(ParameterError, match="use protocol='steady'"):
        energylab.measure(fn=len, queries=["a"], protocol="published-2025-02")


@pytest.mark.parametrize(
    ("protocol", "phases"),
    [("published-2025-02", ("preprocess", "prefill", "generate")), ("published-2025-12", ("total",))],
)
def test_a_real_task_by_a_published_protocol(protocol, phases):
    quick = {"samples": 3, "runs": 2, "meter": "estimate", "device": "cpu", "idle_s": 0.02}
    record = energylab.measure(task="text_generation", model="tiny-llama", protocol=protocol, new_tokens=4, **quick)
    assert record.valid, record.reasons
    assert (record.protocol.name, record.phases) == (protocol, phases)
    assert {total.phase for total in totals(record) if total.valid} >= set(phases)
    assert record.windows[-1].output_tokens == 3 * 4
    steady = energylab.measure(
        task="text_generation", model="tiny-llama", new_tokens=4, window_s=0.01, warm_up_max_s=0.3, **quick
    )
    assert steady.windows[-1].output_tokens <= 3 * 4
    assert record.job_id != steady.job_id
