"""A worker checks and measures; what goes wrong is the submission's or this try's, never the worker's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from release_builders import record_of
from sqlalchemy.exc import OperationalError

from energylab.errors import MeasurementError, ModelError, PortalError, StudyError, UnknownNameError
from energylab.studies import plan
from energylab_portal import child, tables
from energylab_portal.inspection import Finding, check_files, in_the_portal
from energylab_portal.leases import Interrupted, Leases
from energylab_portal.submissions import OpenSubmission
from energylab_portal.worker import Measuring, Worker, load_measuring

FOUND = Finding("c" * 40, ("exists", "text_generation: 1 B parameters, class A"))


@dataclass
class Bench:
    """A bench that returns records, or raises what it is given."""

    outcome: object = None
    measuring: Measuring = Measuring(title="test")
    params: str | None = None
    work: Path = Path("/nowhere")
    seen: list = field(default_factory=list)

    def measure(self, submission):
        self.seen.append((submission.model, submission.commit))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome or [record_of(submission.model, 10.0, number) for number in range(2)]


@pytest.fixture
def worker(database, leases):
    def make(outcome=None, found=FOUND, asked=None, leases=leases):
        def inspect(question, environment):
            if asked is not None:
                asked.append((question, environment))
            if isinstance(found, BaseException):
                raise found
            return found

        return Worker(database, Bench(outcome), "cpu", inspect=inspect, leases=leases, name="worker test")

    return make


def test_checked_queued_measured(submit, worker, now):
    name, asked = submit().name, []
    working = worker(asked=asked)
    working.run(once=True)
    one, records, lines = now(name)
    assert [line.after for line in lines] == ["received", "checked", "queued", "measuring", "measured"]
    assert {line.actor for line in lines[1:]} == {"worker test"}
    assert (one.commit, one.lease, one.worker) == ("c" * 40, None, None)
    assert one.facts == "exists\ntext_generation: 1 B parameters, class A"
    assert [record.energy_wh for record in records] == pytest.approx([10.0, 10.0], rel=0.05)
    assert working.bench.seen == [("org/model", "c" * 40)]  # measured at the commit that was checked
    question, environment = asked[0]
    assert environment["CUDA_VISIBLE_DEVICES"] == ""  # the check sees the worker's devices alone
    assert question["tasks"] == ("text_generation",)


def test_checks_and_measurements_take_turns(submit, worker, now):
    """Thirty checks a minute keep no measurement waiting for longer than one of them."""
    names = [submit(f"org/{letter}").name for letter in "abc"]
    working = worker()
    for _ in range(4):
        assert working.step()
    assert [now(name)[0].state for name in names] == ["measured", "measured", "received"]


def test_clients_take_turns(portal, worker, database):
    """One who sends many delays another by one job at most."""
    asked = lambda model: OpenSubmission(model=model, tasks=("reasoning",), contact="a@example.org")  # noqa: E731
    for number in range(6):
        portal.queue.take_open(asked(f"many/{number}"), f"key of many, {number:08d}", "1.1.1.1")
    working = worker()
    for _ in range(6):
        working.step()
    portal.queue.take_open(asked("one/model"), "key of the one client", "2.2.2.2")
    for _ in range(4):
        working.step()
    order = [model for model, _ in working.bench.seen]
    assert order.index("one/model") <= 4  # three were measured before it came


def test_what_cannot_be_measured_hears_why_and_what_to_do(submit, worker, now):
    name = submit().name
    worker(found=Finding(None, (), "the model is gated on the hub: open it")).run(once=True)
    one, records, _ = now(name)
    assert (one.state, one.reason, records) == ("rejected", "the model is gated on the hub: open it", [])


def test_a_check_that_dies_is_a_fault_of_ours_and_is_made_again(submit, worker, now, database, clock):
    name, patient = submit().name, Leases(database, lease_s=60, pause_s=30)
    for _ in range(4):
        worker(found=child.ChildDied("no answer within 5 s"), leases=patient).run(once=True)
        clock.now += 4000
    assert now(name)[0].state == "received"
    worker().run(once=True)
    assert now(name)[0].state == "measured"


@pytest.mark.parametrize("error", [MeasurementError("window lost"), ModelError("no weights for score.weight")])
def test_a_model_that_fails_is_rejected_with_its_words(submit, worker, now, error):
    name = submit().name
    worker(error).run(once=True)
    assert now(name)[0].reason == f"the measurement failed: {error}"


@pytest.mark.parametrize("error", [StudyError("only 3 MB are free"), RuntimeError("a fault of ours"), OSError("disk")])
def test_the_machines_trouble_is_tried_again_three_times(submit, worker, now, error):
    name = submit().name
    worker(error).run(once=True)
    one, _, lines = now(name)
    assert one.state == "rejected"
    assert str(error) in one.reason
    assert sum(line.after == "measuring" for line in lines) == 3


def test_a_hub_that_is_away_is_waited_for(submit, worker, now, database, clock):
    """Neither a check nor a measurement is lost to a hub that does not answer for a while."""
    away = "model 'org/model' could not be fetched from the hub (ConnectError); check the network and run again"
    name = submit().name
    patient = Leases(database, lease_s=60, pause_s=30)
    checking = worker(found=Finding(None, (), in_the_portal(away), again=True), leases=patient)
    checking.run(once=True)
    assert (now(name)[0].state, now(name)[0].tries) == ("received", 1)
    clock.now += 31
    measuring = worker(ModelError(away), leases=patient)
    measuring.run(once=True)
    assert (now(name)[0].state, now(name)[0].tries) == ("queued", 1)
    clock.now += 31
    worker(leases=patient).run(once=True)
    assert now(name)[0].state == "measured"
    assert any("when the hub answers" in line.words for line in now(name)[2])


def test_a_database_that_is_away_is_waited_for(submit, worker, now):
    name, working, waits = submit().name, worker(), []
    steps = [OperationalError("SELECT", {}, OSError("refused")), None]

    def step():
        trouble = steps.pop(0) if steps else None
        if trouble is not None:
            raise trouble
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
    first = submit("org/a").name
    record = record_of("org/a")
    worker([record]).run(once=True)
    second = submit("org/b").name
    worker([record]).run(once=True)
    assert now(first)[0].state == "measured"
    assert "was submitted before" in now(second)[0].reason


def test_a_result_under_a_lost_lease_is_dropped(submit, worker, now, leases, clock):
    """The worker hangs, another takes over and finishes; then the first comes back with its own result."""
    name = submit().name
    slow = worker()
    slow.step()

    class Hanging(Bench):
        def measure(self, submission):
            clock.now += 61
            worker([record_of("org/model", 5.0)]).step()
            return [record_of("org/model", 99.0, 1)]

    slow.bench = Hanging()
    slow.step()
    one, records, lines = now(name)
    assert one.state == "measured"
    assert [round(record.energy_wh) for record in records] == [5]
    assert sum(line.after == "measured" for line in lines) == 1


class TestFiles:
    def test_safetensors_are_needed(self):
        with pytest.raises(ModelError, match="safetensors"):
            check_files("a/b", {"config.json": 10, "pytorch_model.bin": 10}, 1)
        with pytest.raises(ModelError, match="safetensors"):  # a name that the loader would not read
            check_files("a/b", {"other.safetensors": 10, "pytorch_model.bin": 10}, 1)

    @pytest.mark.parametrize(
        "files",
        [
            {"model.safetensors": 5, "pytorch_model.bin": 5},
            {"model-00001-of-00002.safetensors": 5, "model-00002-of-00002.safetensors": 5},
            {"model_index.json": 1, "unet/diffusion_pytorch_model.safetensors": 5},
        ],
    )
    def test_what_the_loaders_read_passes(self, files):
        assert "safetensors" in check_files("a/b", files, 1)[0]

    def test_the_too_large_is_refused(self):
        with pytest.raises(ModelError, match="2.0 GB of weights, more than the 1 GB"):
            check_files("a/b", {"model.safetensors": 2_000_000_000}, 1)
        with pytest.raises(ModelError, match="MB of configuration"):
            check_files("a/b", {"model.safetensors": 5, "vocab.json": 400_000_000}, 1)


class TestProtocol:
    @pytest.mark.parametrize("name", ["published", "trial"])
    def test_ours_plan_a_study(self, name, submit, database):
        accepted = submit(tasks=("text_generation", "reasoning"))
        with database.reading() as session:
            one = tables.by_name(session, accepted.name)
        one.commit = "c" * 40
        measuring = load_measuring(name)
        study = yaml.safe_dump(measuring.study(one.name, one.model, one.commit, one.task_names))
        jobs, _ = plan.expand(plan.parse(study))
        assert len(jobs) == 2 * measuring.repeats
        for job in jobs:
            p = job.parameters
            assert (p.model, p.revision, p.model_source) == ("org/model", "c" * 40, "hub")
            assert not p.trust_remote_code

    def test_what_comes_from_the_submission_cannot_be_set(self, tmp_path):
        file = tmp_path / "x.yaml"
        file.write_text("title: x\nparameters: {trust_remote_code: true}\n")
        with pytest.raises(PortalError, match="given by the portal"):
            load_measuring(file)
        with pytest.raises(UnknownNameError, match="did you mean 'published'"):
            load_measuring("publishd")
