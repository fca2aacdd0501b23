"""A study is run to its end through real papermill and real kernels, whatever its jobs do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import builders
import pytest

from energylab import store
from energylab.errors import StudyError
from energylab.studies import policy, runner
from energylab.studies.executors.base import Ended, Executor
from energylab.studies.folder import Attempt, JobState, Outcome, StudyFolder
from energylab.studies.processes import marked


def by_model(states):
    return {job.parameters.model: state for job, state in states.items()}


def test_one_failure_does_not_cancel_the_rest_and_nothing_is_measured_twice(study, local, ledger):
    planned, folder = study(sweeps=[{"model": ["a", "b", "raise"]}])
    states = by_model(runner.run(planned, folder, local()).states)
    assert {model: state.status for model, state in states.items()} == {"a": "done", "b": "done", "raise": "failed"}
    assert "ValueError: as asked" in states["raise"].reason
    before = ledger()
    assert runner.run(planned, folder, local()).attempts == 0
    assert ledger() == before
    assert sorted(store.read(folder.path).groupby("model").job_id.nunique().items()) == [("a", 1), ("b", 1)]


def test_jobs_run_in_the_planned_order(study, local, ledger):
    planned, folder = study(sweeps=[{"model": ["a", "b", "c"]}], repeats=2)
    runner.run(planned, folder, local())
    assert [line["job"] for line in ledger("begin")] == [job.id for job in planned.jobs]


def test_a_fault_after_the_record_is_rendered_again_not_measured_again(study, local, ledger):
    fault = "if record is None: raise ValueError('plot')"
    planned, folder = study(sweeps=[{"model": "a"}], cells=(fault,))
    (state,) = runner.run(planned, folder, local()).states.values()
    assert state.status == "done"
    assert [line["what"] for line in ledger()] == ["begin", "record", "render"]
    assert state.record_path.parent.name == "attempt-0"
    assert state.notebook_path.parent.name == "attempt-1"


def test_a_plot_that_always_fails_is_given_up_and_can_be_asked_for_again(study, local, ledger):
    planned, folder = study(sweeps=[{"model": "a"}], cells=("raise ValueError('plot')",))
    (state,) = runner.run(planned, folder, local()).states.values()
    assert (state.status, state.measured) == ("measured", True)
    assert runner.run(planned, folder, local()).attempts == 0
    assert runner.run(planned, folder, local(), again=("failed",)).attempts == 1
    assert len(ledger("record")) == 1


def test_an_error_in_a_cell_is_retried_only_when_asked(study, local, ledger):
    planned, folder = study(sweeps=[{"model": "raise-once"}])
    runner.run(planned, folder, local())
    assert runner.run(planned, folder, local()).attempts == 0
    (state,) = runner.run(planned, folder, local(), again=("failed",)).states.values()
    assert (state.status, state.attempts) == ("done", 2)


def test_an_invalid_record_is_kept_and_measured_again_only_when_asked(study, local, ledger):
    planned, folder = study(sweeps=[{"model": "invalid-once"}])
    (state,) = runner.run(planned, folder, local()).states.values()
    assert (state.status, state.reason) == ("invalid", "run 0: forward has no total: no_tick")
    assert runner.run(planned, folder, local()).attempts == 0
    (state,) = runner.run(planned, folder, local(), again=("invalid",)).states.values()
    assert state.status == "done"
    assert len(list(folder.path.glob("*/attempt-*/record.json"))) == 2


def test_a_kernel_killed_for_memory_is_said_and_the_next_run_takes_it_up(study, local, ledger):
    planned, folder = study(sweeps=[{"model": ["die-once", "a"]}])
    first = by_model(runner.run(planned, folder, local()).states)
    assert first["a"].status == "done"
    assert first["die-once"].status == "failed"
    assert "signal 9: most often the machine ran out of memory" in first["die-once"].reason
    second = by_model(runner.run(planned, folder, local()).states)
    assert second["die-once"].status == "done"


def test_a_notebook_that_hangs_is_stopped_with_its_children(study, local):
    planned, folder = study(sweeps=[{"model": "hang"}], time_limit_s=3)
    (state,) = runner.run(planned, folder, local()).states.values()
    assert state.status == "failed"
    assert "time limit of 3 s" in state.reason
    assert marked(folder.path) == {}


def test_processes_that_a_notebook_left_behind_are_ended(study, local):
    planned, folder = study(sweeps=[{"model": "child"}])
    (state,) = runner.run(planned, folder, local()).states.values()
    assert state.status == "done"
    assert marked(folder.path) == {}


def test_the_limit_counts_jobs(study, local):
    planned, folder = study(sweeps=[{"model": ["a", "b", "c"]}])
    states = runner.run(planned, folder, local(), limit=1).states
    assert [state.status for state in states.values()] == ["done", "left", "left"]


def test_cold_and_warm_start_leave_the_same_record_and_the_same_outputs(study, local):
    figure = "from matplotlib import pyplot\nfigure, axes = pyplot.subplots()\naxes.plot([1, 2])"
    table = "import pandas\npandas.DataFrame({'x': [1]})"
    records, outputs = [], []
    for name, cold in (("warm", False), ("cold", True)):
        planned, folder = study(name=name, sweeps=[{"model": "a"}], cells=(figure, table, "figure"))
        place = local(cold=True, forge=None) if cold else local()
        (state,) = runner.run(planned, folder, place).states.values()
        records.append(state.record.model_dump(exclude={"created_utc": True, "parameters": {"output_folder"}}))
        cells = json.loads(state.notebook_path.read_text())["cells"]
        outputs.append([sorted(output.get("data", output)) for cell in cells for output in cell.get("outputs", ())])
        assert len(list((state.notebook_path.parent / "figures").glob("*.png"))) == 2
    assert records[0] == records[1]
    assert outputs[0] == outputs[1]
    assert ["image/png", "text/plain"] in outputs[0]


def test_plain_papermill_on_the_same_parameters_leaves_the_same_record(study, local, workplace):
    planned, folder = study(sweeps=[{"model": "a"}])
    (state,) = runner.run(planned, folder, local()).states.values()
    attempt = Attempt(state.record_path.parent)
    values = {**attempt.request.parameters, "output_folder": str(workplace / "by-hand")}
    (workplace / "values.yaml").write_text(json.dumps(values))
    command = ["-m", "papermill", str(planned.notebook), "out.ipynb", "-f", "values.yaml"]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    by_hand = store.read_record(workplace / "by-hand")
    facts = {"created_utc": True, "parameters": {"output_folder"}}
    assert by_hand.model_dump(exclude=facts) == state.record.model_dump(exclude=facts)


def test_two_devices_never_hold_two_jobs_at_once(study, local, ledger, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    planned, folder = study(sweeps=[{"model": [f"m{n}" for n in range(6)]}, {"model": ["w0", "w1"], "gpus": 2}])
    summary = runner.run(planned, folder, local("7,9"))
    assert {state.status for state in summary.states.values()} == {"done"}
    held = [(b["time_s"], e["time_s"], set(b["devices"].split(","))) for b, e in zip(*spans(ledger), strict=True)]
    clashes = [(x, y) for x in held for y in held if x is not y and x[0] < y[1] and y[0] < x[1] and x[2] & y[2]]
    assert clashes == []
    assert sorted(sorted(devices) for *_, devices in held).count(["7", "9"]) == 2
    assert {name for *_, devices in held for name in devices} == {"7", "9"}


def spans(ledger):
    begins = sorted(ledger("begin"), key=lambda line: line["job"])
    return begins, sorted(ledger("record"), key=lambda line: line["job"])


def test_a_job_that_needs_more_devices_than_there_are_is_refused_and_the_rest_runs(study, local):
    planned, folder = study(sweeps=[{"model": "a"}, {"model": "b", "gpus": 3}])
    summary = runner.run(planned, folder, local("0,1"))
    assert by_model(summary.states)["a"].status == "done"
    assert [why for why in summary.refused.values()] == ["needs 3 devices, 2 here (0, 1)"]
    assert by_model(summary.states)["b"].status == "left"


def test_a_second_runner_is_told_of_the_first(study, local):
    planned, folder = study(sweeps=[{"model": "a"}])
    folder.prepare(planned)
    with runner.exclusive(folder), pytest.raises(StudyError, match=rf"already being run by process {os.getpid()} on"):
        runner.run(planned, folder, local())


def test_a_record_truncated_by_hand_is_named_and_measured_again(study, local, ledger):
    planned, folder = study(sweeps=[{"model": "a"}])
    (state,) = runner.run(planned, folder, local()).states.values()
    text = state.record_path.read_text()
    state.record_path.write_text(text[: len(text) // 2])
    (broken,) = folder.states(planned).values()
    assert "truncated" in broken.reason
    assert str(state.record_path) in broken.reason
    (again,) = runner.run(planned, folder, local()).states.values()
    assert (again.status, again.attempts) == ("done", 2)
    assert len(ledger("record")) == 2


def test_ctrl_c_stops_the_running_job_and_leaves_the_rest(study, workplace, ledger):
    study(sweeps=[{"model": ["hang-a", "hang-b"]}])
    command = [sys.executable, "-m", "energylab.cli", "study", "run", "fake.yaml", "--devices", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    try:
        wait_for(lambda: ledger("begin"), 120)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "2 left" in output
    assert marked(workplace / "results/fake") == {}
    (outcome,) = [Attempt(path).outcome for path in Path("results/fake").glob("*/attempt-*")]
    assert (outcome.end, outcome.reason) == ("interrupted", "stopped by the user")


def heed_interrupts():
    """Undo what a test run in the background passes on: interrupts ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(condition, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB; unmounted afterwards."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path, leave_bytes):
    """Write a file that leaves so much free, and return it."""
    stat = os.statvfs(path)
    filler = path / "filler"
    filler.write_bytes(bytes(stat.f_bavail * stat.f_frsize - leave_bytes))
    return filler


def test_a_job_is_not_measured_when_its_record_might_not_fit(study, local, small_disk, ledger):
    planned, _ = study(sweeps=[{"model": ["a", "b", "c"]}])
    folder = StudyFolder("fake", small_disk)
    events = []

    def fill_after_the_first(event, job, state):
        events.append(event)
        if events == ["start", "end"]:
            fill(small_disk, runner.LEAST_FREE_BYTES // 2)

    with pytest.raises(StudyError, match=r"only \d+ MB are free in .*small.*free space or choose another folder"):
        runner.run(planned, folder, local(), on_event=fill_after_the_first)
    (small_disk / "filler").unlink()
    states = runner.run(planned, folder, local()).states
    assert {state.status for state in states.values()} == {"done"}
    assert len(ledger("record")) == 3


def test_a_disk_that_fills_up_meanwhile_leaves_no_half_record(study, local, small_disk, monkeypatch):
    monkeypatch.setattr(runner, "LEAST_FREE_BYTES", 0)
    planned, _ = study(sweeps=[{"model": ["a", "b", "c", "d"]}])
    folder = StudyFolder("fake", small_disk)
    folder.prepare(planned)
    filler = fill(small_disk, 80_000)
    with pytest.raises(StudyError, match=r"No space left on device; free space or choose another folder"):
        runner.run(planned, folder, local())
    for path in small_disk.rglob("record.json"):
        store.read_record(path)
    filler.unlink()
    states = runner.run(planned, folder, local(), again=("failed",)).states
    assert {state.status for state in states.values()} == {"done"}


def test_a_results_folder_that_may_not_be_written_is_said(study, local, monkeypatch):
    planned, folder = study(sweeps=[{"model": "a"}])
    read_only = StudyFolder("fake", "/proc")  # nobody may make a folder here, not even root
    with pytest.raises(StudyError, match=r"cannot write /proc/fake/study\.yaml: .*--results"):
        runner.run(planned, read_only, local())


def test_two_roots_are_read_side_by_side(study, local, workplace):
    for root in ("here", "there"):
        planned, _ = study(sweeps=[{"model": ["a", "b"]}])
        runner.run(planned, StudyFolder("fake", workplace / root), local())
    table = store.read(workplace / "here", workplace / "there")
    per_model = table.assign(root=table.path.str.contains("/there/")).pivot_table("energy_j", "model", "root")
    assert per_model.shape == (2, 2)
    assert (per_model[False] == per_model[True]).all()


@pytest.mark.parametrize(
    ("status", "end", "kind", "again", "expected"),
    [
        ("left", None, None, (), "measure"),
        ("left", "interrupted", "measure", (), "measure"),
        ("left", "infrastructure", "measure", (), "measure"),
        ("failed", "kernel_died", "measure", (), "measure"),
        ("failed", "cell_error", "measure", (), None),
        ("failed", "cell_error", "measure", ("failed",), "measure"),
        ("failed", "time_limit", "measure", (), None),
        ("measured", "cell_error", "measure", (), "render"),
        ("measured", "interrupted", "measure", (), "render"),
        ("measured", "interrupted", "render", (), "render"),
        ("measured", "cell_error", "render", (), None),
        ("measured", "cell_error", "render", ("failed",), "render"),
        ("invalid", "finished", "measure", (), None),
        ("invalid", "finished", "measure", ("invalid",), "measure"),
        ("done", "finished", "measure", ("failed", "invalid"), None),
        ("running", None, "measure", (), None),
    ],
)
def test_what_is_due(status, end, kind, again, expected):
    last = Outcome.now(end) if end else None
    assert policy.due(JobState(status, last=last, last_kind=kind), again) == expected


def test_infrastructure_is_retried_twice_with_every_attempt_kept(study):
    planned, folder = study(sweeps=[{"model": ["a", "b"]}])
    executor = Flaky(failures=5)
    summary = runner.run(planned, folder, executor)
    assert summary.attempts == 6
    assert [len(folder.job(job.id).attempts()) for job in planned.jobs] == [3, 3]
    assert sorted(state.status for state in summary.states.values()) == ["done", "left"]


class Flaky(Executor):
    """An executor whose machine fails the first attempts, and measures in the others."""

    name = "flaky"

    @classmethod
    def from_study(cls, study, devices, cold):
        return cls(0)

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.held = []

    def offer(self, work):
        self.held += [(piece, piece.begin(self.name)) for piece in list(work)[:1]] if not self.held else []
        return len(self.held)

    def wait(self, timeout_s):
        ended, self.held = self.held, []
        for work, attempt in ended:
            self.failures -= 1
            if self.failures < 0:
                store.write(builders.record(work.job.parameters), attempt.path)
                attempt.notebook.write_text("{}")
            attempt.close(Outcome.now("infrastructure" if self.failures >= 0 else "finished", "node lost"))
        return [Ended(work, attempt, attempt.outcome) for work, attempt in ended]

    def running(self):
        return [work for work, _ in self.held]

    def cancel(self, reason):
        return []


def test_an_interrupt_between_two_jobs_is_not_an_error(study):
    planned, folder = study(sweeps=[{"model": ["a", "b"]}])
    executor = Flaky(failures=0)

    def interrupt(event, job, state):
        raise KeyboardInterrupt

    summary = runner.run(planned, folder, executor, on_event=interrupt)
    assert summary.interrupted
    assert not runner.is_running(folder)
