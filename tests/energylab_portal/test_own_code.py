"""A model that brings its own code is left to a worker with the sealed container, and keeps nobody else waiting."""

from __future__ import annotations

import html
import logging
from dataclasses import dataclass, field

import pytest
from release_builders import record_of

from energylab.errors import MeasurementError, ModelError, StudyError
from energylab_portal import log, operator_actions, own_code, own_files
from energylab_portal.inspection import Finding
from energylab_portal.measuring import Bench
from energylab_portal.protocol import Protocol, load
from energylab_portal.sealed_bench import LOOK_AGAIN_S, SealedBench
from energylab_portal.worker import Worker

FOUND = Finding("c" * 40, ("exists",))
NO_DAEMON = "no Docker daemon answers; docker/setup.sh starts one"


@dataclass
class Fake:
    """A bench, sealed or not, that returns records or raises what it is given."""

    why: str = ""
    outcome: Exception | None = None
    seen: list = field(default_factory=list)
    protocol = Protocol(title="test")
    params = None

    def why_not(self):
        return self.why

    def measure(self, submission):
        self.seen.append(submission.model)
        if self.outcome is not None:
            raise self.outcome
        return [record_of(submission.model, 10.0)]


@pytest.fixture
def worker(database, leases):
    def make(sealed, name="worker test"):
        asked = []

        def inspect(question, environment):
            asked.append(question)
            return FOUND

        made = Worker(database, Fake(), "cpu", inspect=inspect, leases=leases, name=name, sealed=sealed)
        made.asked = asked
        return made

    return make


@pytest.fixture
def now(database):
    def now(name):
        with database.reading() as session:
            one = log.by_name(session, name)
            return one, log.history(session, one.id)

    return now


@pytest.fixture
def allowed(submit, database):
    """Return a function that submits a model and lets it bring its own code."""

    def allowed(model="org/own"):
        name = submit(model).name
        operator_actions.allow_code(database, name)
        return name

    return allowed


def test_without_a_container_it_stays_queued_says_why_and_keeps_nobody_waiting(allowed, submit, worker, now, caplog):
    own, plain = allowed(), submit("org/plain").name
    working = worker(Fake(NO_DAEMON))
    with caplog.at_level(logging.WARNING, "energylab_portal"):
        working.run(once=True)
        working.run(once=True)
    one, events = now(own)
    assert (one.state, one.tries, one.lease) == ("queued", 0, None)
    assert [event.words for event in events].count(own_code.WAITS + NO_DAEMON) == 1
    assert [record.getMessage() for record in caplog.records] == [f"{own}: {own_code.WAITS}{NO_DAEMON}"]
    assert now(plain)[0].state == "measured"
    assert working.bench.seen == ["org/plain"]
    assert working.sealed.seen == []


def test_with_a_container_it_is_measured_there_and_nowhere_else(allowed, worker, now):
    own = allowed()
    working = worker(Fake())
    working.run(once=True)
    assert now(own)[0].state == "measured"
    assert (working.sealed.seen, working.bench.seen) == (["org/own"], [])
    assert working.asked[0]["own_code"]


def test_each_reason_is_said_once_whoever_says_it(allowed, worker, now):
    own = allowed()
    for _ in range(2):
        worker(Fake(NO_DAEMON), "worker a").run(once=True)
        worker(Fake("no image"), "worker b").run(once=True)
    assert own_code.lacking(now(own)[1]) == [NO_DAEMON, "no image"]


def test_what_a_dead_worker_left_is_not_taken_by_one_without_a_container(allowed, worker, now, leases, clock):
    own = allowed()
    worker(Fake(NO_DAEMON)).run(once=True)
    assert leases.take_measurement("a worker that dies") is None
    assert leases.take_measurement("a worker that dies", own_code=True).submission.name == own
    clock.now += 61
    without = worker(Fake(NO_DAEMON))
    without.run(once=True)
    assert (now(own)[0].state, without.bench.seen, without.sealed.seen) == ("measuring", [], [])
    worker(Fake()).run(once=True)
    assert now(own)[0].state == "measured"


def test_the_operators_page_says_what_is_missing(allowed, worker, operator):
    own = allowed()
    worker(Fake(NO_DAEMON)).run(once=True)
    page = html.unescape(operator.get(f"/operator/submissions/{own}").text)
    assert "waits for a worker with the sealed container" in page
    assert f"<li>{NO_DAEMON}</li>" in page
    assert "waits for a worker with the sealed container</small>" in operator.get("/operator").text


class TestBench:
    @pytest.fixture
    def bench(self, tmp_path):
        return Bench(tmp_path, Protocol(title="test"), executor=None)

    @pytest.fixture
    def submission(self, allowed, now):
        return now(allowed())[0]

    def test_a_bench_without_a_container_refuses(self, bench, submission):
        with pytest.raises(StudyError, match="sealed container alone"):
            bench.measure(submission)

    def test_a_container_is_only_for_what_the_operator_allowed(self, bench, submit, now):
        with pytest.raises(StudyError, match="did not allow"):
            SealedBench(bench, "cpu", look=lambda image, device: "").measure(now(submit().name)[0])

    def test_a_machine_that_lacks_something_is_looked_at_again_after_a_while(self, bench):
        times, looks = [0.0], []

        def look(image, device):
            looks.append((image, device))
            return NO_DAEMON if len(looks) == 1 else ""

        sealed = SealedBench(bench, "cpu", look=look, clock=lambda: times[0])
        assert (sealed.why_not(), sealed.why_not()) == (NO_DAEMON, NO_DAEMON)
        times[0] += LOOK_AGAIN_S
        assert sealed.why_not() == ""
        assert looks == [("energylab-closed", "cpu")] * 2

    def test_a_cluster_cannot_be_looked_at(self, bench):
        assert "cluster" in SealedBench(bench, "slurm", elsewhere=True, look=pytest.fail).why_not()

    def test_nothing_is_fetched_where_it_cannot_run(self, bench, submission):
        with pytest.raises(StudyError, match="no Docker daemon answers"):
            SealedBench(bench, "cpu", look=lambda image, device: NO_DAEMON).measure(submission)
        assert not (bench.work / submission.name).exists()

    def test_only_its_study_says_that_code_may_run(self, submission):
        protocol = load("trial")
        assert protocol.study(submission, own_code=True)["parameters"]["trust_remote_code"] is True
        assert protocol.study(submission)["parameters"]["trust_remote_code"] is False


@pytest.mark.parametrize(
    ("outcome", "state"), [(StudyError("the daemon went away"), "queued"), (MeasurementError("bad tokens"), "rejected")]
)
def test_the_machines_trouble_is_not_the_models(outcome, state, allowed, worker, now, leases):
    leases.pause_s = 30
    own = allowed()
    worker(Fake(outcome=outcome)).run(once=True)
    assert now(own)[0].state == state


class TestFiles:
    def test_second_copies_of_weights_are_left_out(self):
        files = {"config.json": 1, "own.py": 1, "model.safetensors": 5, "pytorch_model.bin": 5, "tf_model.h5": 5}
        assert own_files.choose("a/b", files, 1) == ["config.json", "model.safetensors", "own.py"]
        del files["model.safetensors"]
        assert own_files.choose("a/b", files, 1) == ["config.json", "own.py", "pytorch_model.bin"]
        assert own_files.choose("a/b", {"model.gguf": 1, "tables/x.npz": 1}, 1) == ["model.gguf", "tables/x.npz"]

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({"config.json": 1}, "no weights"),
            ({"model.bin": 1, "../../etc/cron.d/x": 1}, "leads out"),
            ({"model.bin": 1, "/etc/passwd": 1}, "leads out"),
            ({"model.bin": 900_000_000, "more.npz": 200_000_000}, "1.1 GB of files"),
        ],
    )
    def test_what_cannot_be_fetched_is_refused(self, files, said):
        with pytest.raises(ModelError, match=said):
            own_files.choose("a/b", files, 1)
