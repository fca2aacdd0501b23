"""A worker checks and measures; what goes wrong is the submission's or this try's, never the worker's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from release_builders import record_of
from sqlalchemy.exc import OperationalError

from energylab.errors import MeasurementError, ModelError, PortalError, StudyError, UnknownNameError
from energylab.studies import plan
from energylab_portal import child
from energylab_portal.inspection import Finding, in_the_portal
from energylab_portal.leases import Interrupted, Leases
from energylab_portal.worker import Measuring, Worker, load_measuring

FOUND = Finding("c" * 40, ("exists", "text_generation: 1 B parameters, class A"))


@pytest.fixture
def worker(database, leases):
    """Return a function that makes a worker whose bench and whose look at a model end as told."""

    def make(outcome=None, found=FOUND, leases=leases):
        def inspect(question, environment):
            working.asked.append((question, environment))
            if isinstance(found, BaseException):
                raise found
            return found

        def measure(submission):
            working.seen.append((submission.model, submission.commit))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome or [record_of(submission.model, 10.0, number) for number in range(2)]

        bench = SimpleNamespace(measure=measure, measuring=Measuring(title="test"), params=None)
        working = Worker(database, bench, "cpu", inspect=inspect, leases=leases, name="worker test")
        working.asked, working.seen = [], []
        return working

    return make


@pytest.fixture
def patient(database):
    """Leases under which a submission rests after a try that failed."""
    return Leases(database, lease_s=60, pause_s=30)


def test_checked_queued_measured(submit, worker, now):
    name, working = submit().name, worker()
    working.run(once=True)
    one, records, lines = now(name)
    assert [line.after for line in lines] == ["received", "checked", "queued", "measuring", "measured"]
    assert {line.actor for line in lines[1:]} == {"worker test"}
    assert (one.commit, one.lease, one.worker) == ("c" * 40, None, None)
    assert one.facts == "exists\ntext_generation: 1 B parameters, class A"
    assert [record.energy_wh for record in records] == pytest.approx([10.0, 10.0], rel=0.05)
    assert working.seen == [("org/model", "c" * 40)]  # measured at the commit that was checked
    question, environment = working.asked[0]
    assert environment["CUDA_VISIBLE_DEVICES"] == ""  # the check sees the worker's devices alone
    assert question["tasks"] == ("text_generation",)


def test_checks_and_measurements_take_turns(submit, worker, now):
    """Thirty checks a minute keep no measurement waiting for longer than one of them."""
    names = [submit(f"org/{letter}").name for letter in "abc"]
    working = worker()
    assert all(working.step() for _ in range(4))
    assert [now(name)[0].state for name in names] == ["measured", "measured", "received"]


def test_clients_take_turns(submit, worker):
    """One who sends many delays another by one job at most."""
    for number in range(6):
        submit(f"many/{number}", client="1.1.1.1")
    working = worker()
    for _ in range(6):
        working.step()
    submit("one/model", client="2.2.2.2")
    for _ in range(4):
        working.step()
    order = [model for model, _ in working.seen]
    assert order.index("one/model") <= 4  # three were measured before it came


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"found": Finding(None, (), "it is gated on the hub: open it")}, "it is gated on the hub: open it"),
        ({"outcome": MeasurementError("window lost")}, "the measurement failed: window lost"),
        ({"outcome": ModelError("no weights for x")}, "the measurement failed: no weights for x"),
    ],
    ids=["gated", "window lost", "weights missing"],
)
def test_what_cannot_be_measured_hears_why_and_what_to_do(submit, worker, now, how, words):
    name = submit().name
    worker(**how).run(once=True)
    one, records, _ = now(name)
    assert (one.state, one.reason, records) == ("rejected", words, [])


def test_a_check_that_dies_is_a_fault_of_ours_and_is_made_again(submit, worker, now, patient, clock):
    name = submit().name
    for _ in range(4):
        worker(found=child.ChildDied("no answer within 5 s"), leases=patient).run(once=True)
        clock.now += 4000
    assert now(name)[0].state == "received"
    worker().run(once=True)
    assert now(name)[0].state == "measured"


@pytest.mark.parametrize("error", [StudyError("only 3 MB are free"), RuntimeError("a fault of ours"), OSError("disk")])
def test_the_machines_trouble_is_tried_again_three_times(submit, worker, now, error):
    name = submit().name
    worker(error).run(once=True)
    one, _, lines = now(name)
    assert one.state == "rejected"
    assert str(error) in one.reason
    assert [line.after for line in lines].count("measuring") == 3


def test_a_hub_that_is_away_is_waited_for(submit, worker, now, patient, clock):
    """Neither a check nor a measurement is lost to a hub that does not answer for a while."""
    away = "model 'org/model' could not be fetched from the hub (ConnectError); check the network and run again"
    name = submit().name
    for how, state in (
        ({"found": Finding(None, (), in_the_portal(away), again=True)}, "received"),
        ({"outcome": ModelError(away)}, "queued"),
    ):
        worker(**how, leases=patient).run(once=True)
        assert (now(name)[0].state, now(name)[0].tries) == (state, 1)
        clock.now += 31
    worker(leases=patient).run(once=True)
    one, _, lines = now(name)
    assert one.state == "measured"
    assert any("when the hub answers" in line.words for line in lines)


def test_a_database_that_is_away_is_waited_for(submit, worker, now):
    name, working, waits = submit().name, worker(), []
    steps = [OperationalError("SELECT", {}, OSError("refused"))]

    def step():
        if steps:
            raise steps.pop()
        return Worker.step(working)

    def sleep(seconds):
        waits.append(seconds)
        if now(name)[0].state == "measured":
            raise KeyboardInterrupt

    working.step, working.sleep = step, sleep
    with pytest.raises(KeyboardInterrupt):
        working.run()
    assert waits[0] == 10.0
    assert now(name)[0].state == "measured"


def test_told_to_stop_it_gives_the_work_back_and_stops(submit, worker, now):
    name = submit().name
    with pytest.raises(KeyboardInterrupt):
        worker(Interrupted("the worker was stopped.")).run(once=True)
    one = now(name)[0]
    assert (one.state, one.lease, one.tries) == ("queued", None, 0)


def test_a_record_that_is_here_already_is_refused(submit, worker, now):
    names = [submit(model).name for model in ("org/a", "org/b")]
    worker([record_of("org/a")]).run(once=True)
    first, second = (now(name)[0] for name in names)
    assert first.state == "measured"
    assert "was submitted before" in second.reason


def test_a_result_under_a_lost_lease_is_dropped(submit, worker, now, clock):
    """The worker hangs, another takes over and finishes; then the first comes back with its own result."""
    name, slow = submit().name, worker()
    slow.step()

    def hang(submission):
        clock.now += 61
        worker([record_of("org/model", 5.0)]).step()
        return [record_of("org/model", 99.0, 1)]

    slow.bench.measure = hang
    slow.step()
    one, records, lines = now(name)
    assert one.state == "measured"
    assert [round(record.energy_wh) for record in records] == [5]
    assert [line.after for line in lines].count("measured") == 1


class TestProtocol:
    @pytest.mark.parametrize("name", ["published", "trial"])
    def test_ours_plan_a_study(self, name):
        measuring = load_measuring(name)
        study = measuring.study("x", "org/model", "c" * 40, ("text_generation", "reasoning"))
        jobs, _ = plan.expand(plan.parse(yaml.safe_dump(study)))
        assert len(jobs) == 2 * measuring.repeats
        for p in (job.parameters for job in jobs):
            assert (p.model, p.revision, p.model_source) == ("org/model", "c" * 40, "hub")
            assert not p.trust_remote_code

    def test_what_is_no_way_to_measure_is_refused(self, tmp_path):
        file = tmp_path / "x.yaml"
        for text, words in {
            "title: x\nparameters: {trust_remote_code: true}\n": "set by the portal",
            "title: x\nrepeats: 0\n": "is not a valid measuring file",
        }.items():
            file.write_text(text)
            with pytest.raises(PortalError, match=words):
                load_measuring(file)
        with pytest.raises(UnknownNameError, match="did you mean 'published'"):
            load_measuring("publishd")
