"""Every fault: exactly the windows concerned are marked, with the reason; their queries are measured again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from energylab.energy import phase_totals
from energylab.errors import DeviceLostError, MeterError, MeterPermissionError
from energylab.meters.base import DeviceCounters, Reading
from energylab.meters.replay import ReplayMeter
from energylab.protocol import session as protocol_session
from energylab.protocol.session import run_session
from energylab.protocol.workload import Batch, FunctionWorkload
from energylab.tasks.base import Tokens


class During:
    """Changes readings (or raises) while the clock is in one window of the session without the fault."""

    def __init__(self, start_s: float, stop_s: float, change):
        self.start_s, self.stop_s, self.change = start_s, stop_s, change

    def __call__(self, reading: Reading) -> Reading:
        return self.change(reading) if self.start_s < reading.time_s <= self.stop_s else reading


def second_window(bench):
    """Return the edges of the second window of the undisturbed session, on the bench's clock."""
    session = bench().run()
    window = session.windows[1]
    start = session.origin_s + window.start_s
    return start, start + window.duration_s


def hit(session, index: int = 1):
    """Check that only window `index` is invalid and that its block was measured again; return it."""
    assert [window.index for window in session.windows if not window.valid] == [index]
    bad, again = session.windows[index], session.windows[index + 1]
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
    totals = phase_totals(session.windows)
    expected = made.queries * made.query_s * made.work_w
    assert [total.energy_j for total in totals] == pytest.approx([expected] * 2, rel=0.02)
    assert session.answers == {query: query * 10 for query in range(made.queries)}


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("zero_reading", lambda r: Reading(0.0, r.time_s)),
        ("counter_reset", lambda r: Reading(r.energy_j % 50.0, r.time_s)),
        ("negative_energy", lambda r: Reading(r.energy_j - 4000.0, r.time_s)),
        ("above_power_limit", lambda r: Reading(r.energy_j + 4000.0, r.time_s)),
        ("below_idle", lambda r: Reading(r.energy_j - 2750.0, r.time_s)),
    ],
)
def test_a_wrong_reading_at_the_end_of_a_window(bench, reason, change):
    start, stop = second_window(bench)
    made = bench(fault=During(stop - 0.01, stop, change))
    assert reason in hit(made.run()).reasons


class Processor(ReplayMeter):
    """A counter of a processor's package."""

    watches = ("cpu",)


@pytest.mark.parametrize(("kind", "valid"), [(ReplayMeter, False), (Processor, True)])
def test_idle_power_is_a_floor_under_a_gpu_alone(bench, kind, valid):
    made = bench(idle_w=200.0, work_w=100.0)  # on a processor: somebody else's work ended after the idle level
    meter = kind(made.board, made.clock, power_limit_w=700.0)
    workload = FunctionWorkload(made.work, range(made.queries))
    session = run_session(lambda: workload, [meter], made.settings, clock=made.clock)
    assert session.valid is valid
    assert valid or "below_idle" in session.reasons[0]


def test_a_stuck_counter(bench):
    start, stop = second_window(bench)
    stuck = []

    def hold(reading):
        stuck.append(reading.energy_j)
        return Reading(stuck[0], reading.time_s)

    bad = hit(bench(fault=During(start - 0.01, stop, hold)).run())
    assert bad.reasons == ("counter_stuck",)
    assert bad.energy_j == 0.0  # what the counter said is kept; the window is not valid


def test_a_stuck_counter_is_named_where_an_edge_waits_for_its_step(bench):
    tick = replace(bench().settings, edges="tick", max_attempts=1)
    second = bench(settings=tick).run().windows[1]
    made = bench(settings=tick)
    held = []

    def hold(reading):
        if reading.time_s < second.start_s:
            return reading
        held.append(reading.energy_j)
        return Reading(held[0], reading.time_s)

    made.fault = hold
    session = made.run()
    assert session.windows[-1].reasons == ("counter_stuck",)
    assert "counter_stuck" in session.reasons[0]
    assert session.idle[-1].reasons == ("counter_stuck",)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeviceLostError("gone"), "device_lost"),
        (MeterPermissionError("not allowed"), "permission_denied"),
        (MeterError("broken"), "meter_failed"),
    ],
)
def test_a_meter_that_fails_for_one_window_has_no_energy(bench, error, reason):
    def fail(_):
        raise error

    start, stop = second_window(bench)
    bad = hit(bench(fault=During(stop - 0.01, stop, fail)).run())
    assert bad.reasons == (reason,)
    assert bad.energy_j is None


def test_a_device_lost_halfway_ends_without_a_total(bench):
    def fail(_):
        raise DeviceLostError("GPU is lost")

    start, stop = second_window(bench)
    made = bench(fault=During(stop - 0.01, float("inf"), fail))
    session = made.run()
    assert not session.valid
    assert "device_lost" in session.reasons[0]
    assert "3 attempts" in session.reasons[0]
    assert session.windows[0].valid
    assert [window.reasons for window in session.windows[1:]] == [("device_lost",)] * 3
    assert phase_totals(session.windows)[-1].energy_j is None
    assert session.idle[-1].power_w is None
    assert session.idle[-1].reasons == ("device_lost",)


def slowed(start_s, stop_s, field, made):
    """Return counters whose cumulative seconds of `field` grow only inside the window."""

    def counters():
        inside = min(max(made[0].clock.now() - start_s, 0.0), stop_s - start_s)
        return DeviceCounters(temperature_c=60.0, **{field: inside})

    return counters


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("thermal_s", "thermal_slowdown"),
        ("power_brake_s", "power_brake"),
        ("hardware_slowdown_s", "hardware_slowdown"),
    ],
)
def test_slowdown_marks_the_window(bench, field, reason):
    start, stop = second_window(bench)
    made = []
    made.append(bench(counters=slowed(start, stop, field, made)))
    bad = hit(made[0].run())
    assert bad.reasons == (reason,)


def test_a_window_whose_state_cannot_be_read_is_not_believed(bench):
    start, stop = second_window(bench)
    made, failed = [], []

    def counters():
        if made[0].clock.now() >= stop - 0.01 and not failed:
            failed.append(True)
            raise MeterError("the driver does not answer")
        return DeviceCounters(temperature_c=60.0)

    made.append(bench(counters=counters))
    bad = hit(made[0].run())
    assert bad.reasons == ("state_unknown",)
    assert bad.energy_j > 0  # the counter itself was read


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


def test_a_query_that_raises_once_is_measured_again(bench):
    start, stop = second_window(bench)
    raised = []
    made = []

    def raise_once(query):
        if made[0].clock.now() > start + 0.2 and not raised:
            raised.append(query)
            raise ValueError("flaky")

    made.append(bench(query=raise_once))
    bad = hit(made[0].run())
    assert "query_failed" in bad.reasons
    assert [failure.query for failure in bad.failures] == raised


def test_tokens_that_are_not_known_of_every_query_have_no_sum(bench):
    class Counted(FunctionWorkload):
        def count(self, phase, batch, outputs):
            return Tokens(input=3, output=5 if batch.queries[0] != 7 else None)

    made = bench()
    workload = Counted(made.work, range(made.queries))
    session = run_session(lambda: workload, [made.meter()], made.settings, clock=made.clock)
    for window in session.windows:
        assert window.input_tokens == 3 * len(window.queries)
        assert window.output_tokens == (None if 7 in window.queries else 5 * len(window.queries))


def test_windows_too_short_for_the_counter_are_not_believed(bench):
    coarse = replace(bench().settings, window_s=0.4, edges="dithered")
    made = bench(settings=coarse, queries=1)
    session = made.run()
    assert not session.valid
    assert "too_few_ticks" in session.reasons[0]


def test_the_edges_wait_for_a_step_where_the_bound_would_be_too_wide(bench):
    made = bench(settings=replace(bench().settings, window_s=1.0), queries=3)
    session = made.run()
    assert session.valid
    for window in session.windows:
        assert window.bound_j / window.energy_j < 0.04  # two steps at rest beside a second of work
        assert abs(window.energy_j - made.true_j(session, window)) <= window.bound_j


@pytest.mark.parametrize("window_s", [0.25, 1.0, 4.0])
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
    made = bench()
    meter = made.meter()

    def refuse():
        raise MeterPermissionError("run: sudo chmod a+r energy_uj")

    meter.open = refuse
    with pytest.raises(MeterPermissionError, match="chmod"):
        run_session(lambda: None, [meter], made.settings, clock=made.clock)


def test_three_blocks_that_fail_for_good_end_the_session(bench):
    session = bench(counters=lambda: DeviceCounters(cotenants=(4242,)), queries=100).run()
    assert len(session.reasons) == 3
    assert len(session.windows) == 3 * 3
    assert session.idle[0].power_w is None
    assert session.idle[0].reasons == ("co_tenant",)  # an idle level passes the checks of a window


def test_a_process_that_was_stopped_makes_its_window_invalid(bench):
    start, _ = second_window(bench)
    made, stopped = [], []

    def stop_once(query):
        if made[0].clock.now() > start + 0.2 and not stopped:
            stopped.append(query)
            made[0].clock.stop(3.0)

    made.append(bench(query=stop_once))
    assert hit(made[0].run()).reasons == ("process_stopped",)


def test_a_jump_of_a_counter_whose_board_tells_no_limit(bench):
    start, stop = second_window(bench)
    made = bench(power_limit_w=None, fault=During(stop - 0.01, stop, lambda r: Reading(r.energy_j + 4000.0, r.time_s)))
    assert hit(made.run()).reasons == ("above_power_limit",)


class BusyProcessor(Processor):
    """A counter of a processor on which others use half a core from the second window on."""

    def counters(self):
        now = self.clock.now()
        return DeviceCounters(own_s=now, others_s=0.5 * max(now - self.busy_from_s, 0.0))


def busy_session(bench, kind):
    start, _ = second_window(bench)
    made = bench()
    meter = BusyProcessor(made.board, made.clock, power_limit_w=700.0)
    meter.kind, meter.busy_from_s = kind, start
    workload = FunctionWorkload(made.work, range(made.queries))
    return run_session(lambda: workload, [meter], made.settings, clock=made.clock)


def test_others_on_the_processor_spoil_a_measurement_and_mark_an_estimate(bench):
    measured = busy_session(bench, "measured")
    assert not measured.valid
    assert measured.windows[0].valid
    assert {window.reasons for window in measured.windows[1:]} == {("co_tenant",)}
    estimated = busy_session(bench, "estimated")
    assert estimated.valid
    assert [window.marks for window in estimated.windows[:2]] == [(), ("busy_host",)]
    assert estimated.windows[1].states[0].others_fraction == pytest.approx(1 / 3, abs=0.02)


def test_an_idle_level_of_a_counter_that_jumps_is_unknown(bench):
    made = bench(fault=lambda r: Reading(r.energy_j + (1e6 if r.time_s > 0.5 else 0.0), r.time_s))
    session = made.run()
    assert (session.idle[0].power_w, session.idle[0].reasons) == (None, ("above_power_limit",))


def test_outputs_that_are_not_finite_are_marked_in_every_run(bench):
    class NotFinite(FunctionWorkload):
        def finite(self, batch, outputs):
            return batch.queries[0] != 7

    made = bench(settings=replace(bench().settings, window_s=1.5))
    session = run_session(
        lambda: NotFinite(made.work, range(made.queries)), [made.meter()], made.settings, clock=made.clock
    )
    assert session.valid
    assert all((window.marks == ("not_finite",)) == (7 in window.queries) for window in session.windows)


def test_outputs_are_dropped_as_they_come_but_for_the_answers_of_the_first_run(bench):
    class Output:
        alive = most = 0

        def __init__(self):
            Output.alive += 1
            Output.most = max(Output.most, Output.alive)

        def __del__(self):
            Output.alive -= 1

    made = bench(settings=replace(bench().settings, window_s=7.0))
    workload = FunctionWorkload(lambda query: made.work(query) and Output() or Output(), range(made.queries))
    work = workload.work_through(
        "call", [workload.prepare("call", (i,)) for i in range(made.queries)], made.clock, 20.0, keep=False
    )
    assert work.replications == 3
    assert Output.most <= 2  # the present one, and the one before it
    assert work.outputs == [None] * made.queries


def test_large_inputs_are_not_all_held_in_memory(bench, monkeypatch):
    class Pictures(FunctionWorkload):
        most = 0

        def prepare(self, phase, queries):
            return Batch(queries, {"pixel_values": bytes(1000), "query": queries[0]})

    monkeypatch.setattr(protocol_session, "BLOCK_BYTES", 4_000)
    made = bench()
    workload = Pictures(lambda inputs: made.work(inputs["query"]), range(made.queries))
    session = run_session(lambda: workload, [made.meter()], made.settings, clock=made.clock)
    assert session.valid
    assert max(len(window.queries) for window in session.windows) == 4
    assert [total.queries for total in phase_totals(session.windows)] == [20, 20]
    assert all(window.duration_s >= made.settings.window_s for window in session.windows)
