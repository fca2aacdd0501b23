"""Studies on a real Slurm of one node: run, cancel, detach, requeue, a node that dies."""

from __future__ import annotations

import json
import os
import signal
from functools import partial

import one_node_slurm
import pytest
from builders import wait_for

from energylab.errors import StudyError
from energylab.studies import slurm
from energylab.studies.plan import SlurmSettings
from energylab.studies.run import marked, run

pytestmark = pytest.mark.skipif(
    bool(one_node_slurm.missing()), reason=f"no Slurm on this machine: {', '.join(one_node_slurm.missing())} missing"
)


@pytest.fixture(scope="module")
def cluster():
    with one_node_slurm.OneNode() as node:
        yield node


@pytest.fixture
def queue(cluster, monkeypatch):
    """Make Slurm's commands talk to the test's cluster, and leave its queue empty."""
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    yield cluster
    cluster.run("scancel", "--user=root", check=False)
    wait_for(lambda: not cluster.run("squeue", "-h").stdout.strip())


def executor(detach=False, **changes):
    settings = {"exclusive": False, "gres": "gpu", "cpus": 1, "time_limit_min": 10, "signal_delay_s": 20, **changes}
    return partial(slurm.slurm, settings=SlurmSettings(**settings), detach=detach, poll_s=0.3, patience_s=3)


def by_model(states):
    return {job.parameters.model: state for job, state in states.items()}


def test_a_study_runs_as_an_array_one_job_a_device(study, queue, ledger, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.5")
    planned, folder = study(sweeps=[{"model": ["a", "b", "raise"]}, {"model": "w", "gpus": 2}])
    states = by_model(run(planned, folder, executor()).states)
    ends = {model: state.status for model, state in states.items()}
    assert ends == {"a": "done", "b": "done", "w": "done", "raise": "failed"}
    last = {line["job"]: line["time_s"] for line in ledger("record")}
    held = [(x["time_s"], last.get(x["job"], x["time_s"]), set(x["devices"].split(","))) for x in ledger("begin")]
    assert sorted(len(devices) for *_, devices in held) == [1, 1, 1, 2]
    assert not [(x, y) for x in held for y in held if x is not y and x[2] & y[2] and x[0] < y[1] and y[0] < x[1]]
    assert run(planned, folder, executor()).attempts == 0


def test_a_detached_study_is_taken_up_not_submitted_again(study, queue, ledger, workplace):
    planned, folder = study(sweeps=[{"model": ["wait-a", "wait-b"]}])
    first = run(planned, folder, executor(detach=True))
    assert first.attempts == 2
    assert len(slurm.living(folder)) == 2
    (workplace / "open").touch()
    second = run(planned, folder, executor())
    assert second.attempts == 0
    assert {state.status for state in second.states.values()} == {"done"}
    assert len(ledger("begin")) == 2


def test_a_local_runner_leaves_jobs_in_slurm_alone(study, queue, local, ledger, workplace):
    planned, folder = study(sweeps=[{"model": ["wait-a", "wait-b"]}])
    run(planned, folder, executor(detach=True), limit=1)
    wait_for(lambda: ledger("begin"))
    summary = run(planned, folder, local, on_event=lambda *_: (workplace / "open").touch())
    assert summary.attempts == 1
    run(planned, folder, executor())
    assert {state.status for state in folder.states(planned).values()} == {"done"}
    assert len(ledger("begin")) == 2


def test_cancelling_ends_the_jobs_and_leaves_them_to_do(study, queue, ledger):
    planned, folder = study(sweeps=[{"model": ["hang-a", "hang-b", "hang-c"]}])

    def interrupt(folder, ids):
        if not ids:
            return {}
        patch.undo()
        wait_for(lambda: len(ledger("begin")) == 2)
        raise KeyboardInterrupt

    patch = pytest.MonkeyPatch()
    patch.setattr(slurm, "ask_states", interrupt)
    summary = run(planned, folder, executor())
    assert summary.interrupted
    assert [state.status for state in summary.states.values()] == ["left"] * 3
    assert slurm.living(folder) == {}


def preempt(queue, folder):
    queue.run("sbatch", "--partition=urgent", "--gres=gpu:2", "-o", "/dev/null", "--wrap", "sleep 3")


def warn_of_the_time_limit(queue, folder):
    (slurm_id,) = slurm.living(folder)
    for pid in marked(folder.path):  # Slurm warns every process of the job, in any order
        os.kill(pid, signal.SIGUSR2)
    queue.run("scancel", "--signal=USR2", slurm_id)


def pull_the_plug(queue, folder):
    queue.kill_node()
    wait_for(lambda: queue.node_state() == "down")
    queue.start_node()


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (preempt, "preempted, or its node was lost"),
        (warn_of_the_time_limit, "Slurm took the node: preemption or time limit"),
        (pull_the_plug, "Slurm "),
    ],
)
def test_a_job_that_slurm_takes_back_is_requeued_and_measured_once(disturb, reason, study, queue, ledger):
    planned, folder = study(sweeps=[{"model": "hang-once"}])

    def disturbed(event, job, state):
        if event == "start":
            wait_for(lambda: ledger("begin"))
            disturb(queue, folder)

    (state,) = run(planned, folder, executor(partition="main"), on_event=disturbed).states.values()
    assert (state.status, state.attempts) == ("done", 2)
    first, second = (attempt.outcome for attempt in folder.job(planned.jobs[0]).attempts())
    assert (first.end, second.end) == ("infrastructure", "finished")
    assert reason in first.reason
    assert len(ledger("record")) == 1


def test_a_job_that_is_cancelled_in_slurm_is_left_and_said(study, queue, ledger):
    planned, folder = study(sweeps=[{"model": "hang"}])

    def cancel(event, job, state):
        if event == "start":
            wait_for(lambda: ledger("begin"))
            queue.run("scancel", *slurm.living(folder))

    (state,) = run(planned, folder, executor(), on_event=cancel).states.values()
    assert state.status == "left"
    assert "cancelled in Slurm" in state.reason


def test_impossible_settings_are_refused_with_slurms_own_words(study, queue):
    planned, folder = study(sweeps=[{"model": "a"}])
    with pytest.raises(StudyError, match=r"Slurm refused the jobs: .*nowhere|Slurm refused the jobs"):
        run(planned, folder, executor(partition="nowhere"))


def test_ids_that_are_other_peoples_jobs_by_now_are_not_the_studys(study, queue):
    planned, folder = study(sweeps=[{"model": "a"}])
    folder.prepare(planned)
    slurm_id = queue.run("sbatch", "--parsable", "--hold", "-o", "/dev/null", "--wrap", "sleep 1").stdout.strip()
    noted = {slurm_id: {"job": planned.jobs[0].id, "name": "energylab-fake-0"}}
    (folder.path / "slurm.json").write_text(json.dumps(noted))
    assert slurm.living(folder) == slurm.waiting(folder) == {}
    noted[slurm_id]["name"] = "wrap"
    (folder.path / "slurm.json").write_text(json.dumps(noted))
    assert slurm.living(folder) == {slurm_id: planned.jobs[0].id}


def test_more_jobs_than_an_array_may_have_are_several_arrays(study, queue, monkeypatch):
    assert slurm.array_size() == 1001  # Slurm's own default
    planned, folder = study(sweeps=[{"model": ["a", "b", "c"]}])
    monkeypatch.setattr(slurm, "array_size", lambda: 2)
    summary = run(planned, folder, executor(detach=True, max_parallel=2))
    assert summary.attempts == 3
    assert len({slurm_id.split("_")[0] for slurm_id in slurm.living(folder)}) == 2
    states = run(planned, folder, executor()).states
    assert {state.status for state in states.values()} == {"done"}
