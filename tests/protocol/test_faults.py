"""Every fault: exactly the windows concerned are marked, with the reason; their queries are measured again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from energylab.energy import phase_totals
from energylab.errors import CounterJumpError, DeviceLostError, MeterError, MeterPermissionError
from energylab.meters.base import DeviceCounters, Reading
from energylab.meters.replay import ReplayMeter
from energylab.protocol import session as protocol_session
from energylab.protocol.workload import Batch, FunctionWorkload
from energylab.tasks.base import Tokens


@pytest.fixture(scope="module")
def second(bench):
    """Return the edges of the second window of the undisturbed session, on the bench's clock."""
    session = bench().run()
    start = session.origin_s + session.windows[1].start_s
    return start, start + session.windows[1].duration_s


def during(start_s, stop_s, change):
    """Change readings (or raise) in a stretch of time."""
    return lambda reading: change(reading) if start_s < reading.time_s <= stop_s else reading


def failing(error):
    def fail(_):
        raise error

    return fail


def holding():
    """Return a counter that stands still from its first reading on."""
    first = []

    def hold(reading):
        first.append(reading.energy_j)
        return Reading(first[0], reading.time_s)

    return hold


def hit(session):
    """Check that only the second window is invalid and that its block was measured again; return it."""
    assert [window.index for window in session.windows if not window.valid] == [1]
    bad, again = session.windows[1:3]
    assert (again.block, again.run, again.queries) == (bad.block, bad.run, bad.queries)
    assert (bad.attempt, again.attempt) == (0, 1)
    assert session.valid
    assert all(total.valid for total in phase_totals(session.windows))
    return bad


def test_the_undisturbed_session_is_valid_and_right(bench):
    made = bench()
    session = made.run()
    assert session.valid
    assert all(window.valid for window in session.windows)
    for window in session.windows:
        assert abs(window.energy_j - made.true_j(session, window)) <= window.bound_j
    expected = made.queries * made.query_s * made.work_w
    assert [total.energy_j for total in phase_totals(session.windows)] == pytest.approx([expected] * 2, rel=0.02)
    assert session.answers == {query: query * 10 for query in range(made.queries)}
    assert [level.level for level in session.idle] == ["no_context", "weights_resident", "after_load"]
    assert [level.power_w for level in session.idle] == pytest.approx([made.idle_w] * 3, rel=0.01)


@pytest.mark.parametrize(
    ("reason", "change", "limit_w"),
    [
        ("zero_reading", lambda r: Reading(0.0, r.time_s), 700.0),
        ("counter_reset", lambda r: Reading(r.energy_j % 50.0, r.time_s), 700.0),
        ("negative_energy", lambda r: Reading(r.energy_j - 4000.0, r.time_s), 700.0),
        ("above_power_limit", lambda r: Reading(r.energy_j + 4000.0, r.time_s), 700.0),
        ("above_power_limit", lambda r: Reading(r.energy_j + 4000.0, r.time_s), None),  # above all that was seen
        ("below_idle", lambda r: Reading(r.energy_j - 2750.0, r.time_s), 700.0),
        ("device_lost", failing(DeviceLostError("gone")), 700.0),
        ("permission_denied", failing(MeterPermissionError("not allowed")), 700.0),
        ("counter_jumped", failing(CounterJumpError("56 kJ at once")), 700.0),
        ("meter_failed", failing(MeterError("broken")), 700.0),
    ],
)
def test_a_wrong_reading_at_the_end_of_a_window(bench, second, reason, change, limit_w):
    made = bench(power_limit_w=limit_w, fault=during(second[1] - 0.01, second[1], change))
    bad = hit(made.run())
    assert reason in bad.reasons
    failed = reason in ("device_lost", "permission_denied", "counter_jumped", "meter_failed")
    assert (bad.energy_j is None) is failed  # what a counter said is kept, what it did not say is no zero


def test_a_stuck_counter_is_named(bench, second):
    bad = hit(bench(fault=during(second[0] - 0.01, second[1], holding())).run())
    assert (bad.reasons, bad.energy_j) == (("counter_stuck",), 0.0)
    tick = replace(bench().settings, edges="tick", max_attempts=1)  # edges wait for its step
    start_s = bench(settings=tick).run().windows[1].start_s
    session = bench(settings=tick, fault=during(start_s, float("inf"), holding())).run()
    assert session.windows[-1].reasons == session.idle[-1].reasons == ("counter_stuck",)
    assert "counter_stuck" in session.reasons[0]


def test_a_device_lost_halfway_ends_without_a_total(bench, second):
    made = bench(fault=during(second[1] - 0.01, float("inf"), failing(DeviceLostError("GPU is lost"))))
    session = made.run()
    assert not session.valid
    assert "device_lost" in session.reasons[0]
    assert "3 attempts" in session.reasons[0]
    assert session.windows[0].valid
    assert [window.reasons for window in session.windows[1:]] == [("device_lost",)] * 3
    assert phase_totals(session.windows)[-1].energy_j is None
    assert (session.idle[-1].power_w, session.idle[-1].reasons) == (None, ("device_lost",))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("thermal_s", "thermal_slowdown"),
        ("power_brake_s", "power_brake"),
        ("hardware_slowdown_s", "hardware_slowdown"),
        ("power_cap_s", None),  # normal near the limit
    ],
)
def test_slowdown_spoils_the_window(bench, second, name, reason):
    start, stop = second

    def counters(now_s):  # seconds that grow inside the window alone
        return DeviceCounters(temperature_c=60.0, **{name: min(max(now_s - start, 0.0), stop - start)})

    session = bench(counters=counters).run()
    assert session.windows[1].reasons == ((reason,) if reason else ())
    assert reason is None or hit(session)


def test_a_window_whose_state_cannot_be_read_is_not_believed(bench, second):
    failed = []

    def counters(now_s):
        if now_s >= second[1] - 0.01 and not failed:
            failed.append(True)
            raise MeterError("the driver does not answer")
        return DeviceCounters(temperature_c=60.0)

    bad = hit(bench(counters=counters).run())
    assert bad.reasons == ("state_unknown",)
    assert bad.energy_j > 0  # the counter itself was read


class Processor(ReplayMeter):
    """A counter of a processor's package, on which others use half a core from some time on."""

    watches = ("cpu",)
    busy_from_s = float("inf")

    def counters(self):
        now = self.clock.now()
        return DeviceCounters(own_s=now, others_s=0.5 * max(now - self.busy_from_s, 0.0))


def test_idle_power_is_a_floor_under_a_gpu_alone(bench):
    for kind, valid in ((ReplayMeter, False), (Processor, True)):
        made = bench(idle_w=200.0, work_w=100.0)  # on a processor: somebody else's work ended after the idle level
        session = made.run(meter=made.meter(kind))
        assert session.valid is valid
        assert valid or "below_idle" in session.reasons[0]


def test_others_on_the_processor_spoil_a_measurement_and_mark_an_estimate(bench, second):
    found = {}
    for kind in ("measured", "estimated"):
        made = bench()
        meter = made.meter(Processor)
        meter.kind, meter.busy_from_s = kind, second[0]
        found[kind] = made.run(meter=meter)
    assert not found["measured"].valid
    assert [window.reasons for window in found["measured"].windows[:2]] == [(), ("co_tenant",)]
    assert found["estimated"].valid
    assert [window.marks for window in found["estimated"].windows[:2]] == [(), ("busy_host",)]
    assert found["estimated"].windows[1].states[0].others_fraction == pytest.approx(1 / 3, abs=0.02)


class OutOfMemoryError(RuntimeError):
    """Stands in for torch's error of the same name."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("query 7 is empty"), "query_failed"),
        (OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (MemoryError("no more"), "out_of_memory"),
    ],
)
def test_a_query_that_always_raises_costs_the_totals_and_not_what_else_is_measured(bench, error, reason):
    def raise_on_seven(query):
        if query == 7:
            raise error

    session = bench(query=raise_on_seven, settings=replace(bench().settings, window_s=1.5)).run()
    assert not session.valid
    assert not session.warm_up.steady
    assert "query 7" in session.warm_up.reason
    assert ["query 7" in why for why in session.reasons] == [True, True]  # one block of each run
    failed = [window for window in session.windows if not window.valid]
    assert len(failed) == 2 * 3
    assert all(window.reasons[0] == reason and window.failures[0].query == 7 for window in failed)
    good = [window for window in session.windows if window.valid]
    assert {query for window in good for query in window.queries} | {*failed[0].queries} == {*range(20)}
    assert [total.energy_j for total in phase_totals(session.windows)] == [None, None]


@pytest.mark.parametrize("reason", ["query_failed", "process_stopped"])
def test_a_query_that_raises_once_or_is_stopped_once_costs_one_window(bench, second, reason):
    done = []

    def once(query):
        if made.clock.now() > second[0] + 0.2 and not done:
            done.append(query)
            if reason == "query_failed":
                raise ValueError("flaky")
            made.clock.stop(3.0)

    made = bench(query=once)
    bad = hit(made.run())
    assert reason in bad.reasons
    assert [failure.query for failure in bad.failures] == (done if reason == "query_failed" else [])


def test_three_blocks_that_fail_for_good_end_the_session(bench):
    session = bench(counters=lambda _: DeviceCounters(cotenants=(4242,)), queries=100).run()
    assert len(session.reasons) == 3
    assert len(session.windows) == 3 * 3
    assert (session.idle[0].power_w, session.idle[0].reasons) == (None, ("co_tenant",))  # checked like a window


def test_an_idle_level_of_a_counter_that_jumps_is_unknown(bench):
    session = bench(fault=lambda r: Reading(r.energy_j + (1e6 if r.time_s > 0.5 else 0.0), r.time_s)).run()
    assert (session.idle[0].power_w, session.idle[0].reasons) == (None, ("above_power_limit",))


def test_windows_too_short_for_the_counter_are_not_believed(bench):
    session = bench(settings=replace(bench().settings, window_s=0.4, edges="dithered"), queries=1).run()
    assert not session.valid
    assert "too_few_ticks" in session.reasons[0]


def test_the_edges_wait_for_a_step_where_the_bound_would_be_too_wide(bench):
    made = bench(settings=replace(bench().settings, window_s=1.0), queries=3)
    session = made.run()
    assert session.valid
    for window in session.windows:
        assert window.bound_j / window.energy_j < 0.04  # two steps at rest beside a second of work
        assert abs(window.energy_j - made.true_j(session, window)) <= window.bound_j


@pytest.mark.parametrize("window_s", [0.25, 4.0])
def test_what_the_board_draws_while_an_edge_waits_is_in_the_bound(bench, window_s):
    made = bench(settings=replace(bench().settings, window_s=window_s, edges="tick", runs=10), query_s=0.0137)
    session = made.run()
    assert session.valid
    errors = []
    for window in session.windows:
        of_the_queries = window.replications * len(window.queries) * made.query_s * made.work_w
        errors.append(window.energy_j - of_the_queries)
        assert abs(errors[-1]) <= window.bound_j
    assert 0 < max(errors) <= 2 * 0.102 * made.idle_w  # two steps, each seen within a millisecond, at rest


def test_permission_denied_when_opened_is_raised(bench):
    class Refusing(ReplayMeter):
        open = failing(MeterPermissionError("run: sudo chmod a+r energy_uj"))

    made = bench()
    with pytest.raises(MeterPermissionError, match="chmod"):
        made.run(meter=made.meter(Refusing))


def test_tokens_not_known_of_every_query_have_no_sum_and_what_is_not_finite_is_marked_in_every_run(bench):
    class Odd(FunctionWorkload):
        def count(self, phase, batch, outputs):
            return Tokens(input=3, output=5 if batch.queries[0] != 7 else None)

        def finite(self, batch, outputs):
            return batch.queries[0] != 7

    made = bench(settings=replace(bench().settings, window_s=1.5))
    session = made.run(Odd(made.work, range(made.queries)))
    assert session.valid
    for window in session.windows:
        assert window.input_tokens == 3 * len(window.queries)
        assert window.output_tokens == (None if 7 in window.queries else 5 * len(window.queries))
        assert (window.marks == ("not_finite",)) == (7 in window.queries)


def test_outputs_are_dropped_as_they_come(bench):
    class Output:
        alive = most = 0

        def __init__(self):
            Output.alive += 1
            Output.most = max(Output.most, Output.alive)

        def __del__(self):
            Output.alive -= 1

    made = bench()
    workload = FunctionWorkload(lambda query: (made.work(query), Output())[1], range(made.queries))
    batches = [workload.prepare("call", (query,)) for query in range(made.queries)]
    work = workload.work_through("call", batches, made.clock, 20.0, keep=False)
    assert work.replications == 3
    assert Output.most <= 2  # the present one, and the one before it
    assert work.outputs == [None] * made.queries


def test_large_inputs_are_not_all_held_in_memory(bench, monkeypatch):
    class Pictures(FunctionWorkload):
        def prepare(self, phase, queries):
            return Batch(queries, {"pixel_values": bytes(1000), "query": queries[0]})

    monkeypatch.setattr(protocol_session, "BLOCK_BYTES", 4_000)
    made = bench()
    session = made.run(Pictures(lambda inputs: made.work(inputs["query"]), range(made.queries)))
    assert session.valid
    assert max(len(window.queries) for window in session.windows) == 4
    assert [total.queries for total in phase_totals(session.windows)] == [20, 20]
    assert all(window.duration_s >= made.settings.window_s for window in session.windows)
