"""A study is run to its end through real papermill and real kernels, whatever its jobs do."""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import builders
import pytest

import energylab
from energylab import release, store
from energylab.errors import StudyError
from energylab.studies import run as running
from energylab.studies.run import marked, run
from energylab.studies.state import Attempt, JobState, Outcome, StudyFolder, planned_roots

REPOSITORY = Path(__file__).resolve().parents[2]


def by_model(states):
    return {job.parameters.model: state for job, state in states.items()}


def test_one_failure_does_not_cancel_the_rest_and_nothing_is_measured_twice(study, local, ledger):
    planned, folder = study(sweeps=[{"model": ["a", "raise", "die-once", "invalid-once", "child"]}])
    first = by_model(run(planned, folder, local).states)
    assert {model: state.status for model, state in first.items()} == {
        "a": "done", "raise": "failed", "die-once": "failed", "invalid-once": "invalid", "child": "done",
    }  # fmt: skip
    assert "ValueError: as asked" in first["raise"].reason
    assert "signal 9: most often the machine ran out of memory" in first["die-once"].reason
    assert first["invalid-once"].reason == "run 0: forward has no total: no_tick"
    assert marked(folder.path) == {}, "a process that a notebook left behind is ended"
    again = by_model(run(planned, folder, local, again=("invalid",)).states)
    assert {model: state.status for model, state in again.items()} == {
        "a": "done", "raise": "failed", "die-once": "done", "invalid-once": "done", "child": "done",
    }  # fmt: skip
    measured = [line["job"] for line in ledger("begin")]
    assert sorted(measured.count(job.id) for job in planned.jobs) == [1, 1, 1, 2, 2]
    assert len(list(folder.path.glob("*/attempt-*/record.json"))) == 5, "an invalid record is kept"


def test_a_notebook_that_hangs_is_stopped_with_its_children(study, local):
    planned, folder = study(sweeps=[{"model": "hang"}], time_limit_s=8)
    (state,) = run(planned, folder, local).states.values()
    assert state.status == "failed"
    assert "time limit of 8 s" in state.reason
    assert marked(folder.path) == {}


def test_a_fault_after_the_record_is_rendered_again_not_measured_again(study, local, ledger):
    fault = "if record is None: raise ValueError('plot')"
    planned, folder = study(sweeps=[{"model": "a"}], cells=(fault,))
    (state,) = run(planned, folder, local).states.values()
    assert state.status == "done"
    assert [line["what"] for line in ledger()] == ["begin", "record", "render"]
    assert (state.record_path.parent.name, state.notebook_path.parent.name) == ("attempt-0", "attempt-1")


def test_a_plot_that_always_fails_is_given_up_and_can_be_asked_for_again(study, local, ledger):
    planned, folder = study(sweeps=[{"model": "a"}], cells=("raise ValueError('plot')",))
    (state,) = run(planned, folder, local).states.values()
    assert (state.status, state.measured) == ("measured", True)
    assert run(planned, folder, local).attempts == 0
    assert state.due(("failed",)) == "render"
    assert len(ledger("record")) == 1


def test_plain_papermill_on_the_same_parameters_leaves_the_same_record(study, local, workplace):
    figure = "from matplotlib import pyplot\npyplot.plot([1, 2])"
    planned, folder = study(sweeps=[{"model": "a"}], cells=(figure,))
    (state,) = run(planned, folder, local).states.values()
    attempt = Attempt(state.record_path.parent)
    assert [path.name for path in attempt.figures.glob("*.png")] == ["01.png"]
    values = {**attempt.request.parameters, "output_folder": str(workplace / "by-hand")}
    (workplace / "values.yaml").write_text(json.dumps(values))
    command = ["-m", "papermill", str(planned.notebook), "out.ipynb", "-f", "values.yaml"]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    facts = {"created_utc": True, "parameters": {"output_folder"}}
    assert store.read_record(workplace / "by-hand").model_dump(exclude=facts) == state.record.model_dump(exclude=facts)


def test_two_devices_never_hold_two_jobs_at_once(study, ledger, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    planned, folder = study(sweeps=[{"model": ["k", "l", "m"]}, {"model": "w", "gpus": 2}, {"model": "x", "gpus": 3}])
    summary = run(planned, folder, partial(running.local, devices="7,9"))
    assert list(summary.refused.values()) == ["needs 3 devices, 2 here (7, 9)"]
    begins, ends = (sorted(ledger(what), key=lambda line: line["job"]) for what in ("begin", "record"))
    held = [(b["time_s"], e["time_s"], set(b["devices"].split(","))) for b, e in zip(begins, ends, strict=True)]
    assert [(x, y) for x in held for y in held if x is not y and x[0] < y[1] and y[0] < x[1] and x[2] & y[2]] == []
    assert sorted(sorted(devices) for *_, devices in held).count(["7", "9"]) == 1
    assert {name for *_, devices in held for name in devices} == {"7", "9"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_running_job_and_leaves_nothing_behind(number, study, workplace, ledger):
    study(sweeps=[{"model": ["hang-a", "hang-b"]}])
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        process = subprocess.Popen(
            [sys.executable, "-m", "energylab.cli", "study", "run", "fake.yaml", "--devices", "cpu"],
            stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts, env={**os.environ, "TMPDIR": temporary},
        )  # fmt: skip
        try:
            builders.wait_for(lambda: ledger("begin"))
            process.send_signal(number)
            output, _ = process.communicate()
        finally:
            process.kill()
        assert list(Path(temporary).iterdir()) == []
    assert process.returncode == 130
    assert "2 jobs: 2 left" in output
    assert marked(workplace / "results/fake") == {}
    (outcome,) = [Attempt(path).outcome for path in Path("results/fake").glob("*/attempt-*")]
    reason = "stopped by the user" if number == signal.SIGINT else "stopped by SIGTERM"
    assert (outcome.end, outcome.reason) == ("interrupted", reason)


def heed_interrupts():
    """Undo what a test run in the background passes on: interrupts ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_jobs_are_taken_in_the_planned_order_up_to_the_limit(study, instant):
    planned, folder = study(sweeps=[{"model": ["a", "b", "c"]}], repeats=2)
    events = []
    summary = run(planned, folder, instant(), limit=4, on_event=lambda *event: events.append(event[:2]))
    assert [job for what, job in events if what == "start"] == list(planned.jobs[:4])
    assert [state.status for state in summary.states.values()] == ["done"] * 4 + ["left"] * 2


def test_infrastructure_is_retried_twice_with_every_attempt_kept(study, instant):
    planned, folder = study(sweeps=[{"model": ["a", "b"]}])
    summary = run(planned, folder, instant(failures=5))
    assert summary.attempts == 6
    assert [len(folder.job(job).attempts()) for job in planned.jobs] == [3, 3]
    assert sorted(state.status for state in summary.states.values()) == ["done", "left"]


def test_a_record_truncated_by_hand_is_named_and_measured_again(study, instant):
    planned, folder = study(sweeps=[{"model": "a"}])
    (state,) = run(planned, folder, instant()).states.values()
    text = state.record_path.read_text()
    state.record_path.write_text(text[: len(text) // 2])
    (broken,) = folder.states(planned).values()
    assert "truncated" in broken.reason
    assert str(state.record_path) in broken.reason
    (again,) = run(planned, folder, instant()).states.values()
    assert (again.status, again.attempts) == ("done", 2)


def test_a_second_runner_is_told_of_the_first(study, instant):
    planned, folder = study(sweeps=[{"model": "a"}])
    folder.prepare(planned)
    with folder.exclusive(), pytest.raises(StudyError, match=rf"already being run by process {os.getpid()} on"):
        run(planned, folder, instant())


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_flock_is_locked_by_a_file(code, study, instant, monkeypatch):
    def refuse(*_):
        raise OSError(getattr(errno, code), "not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    planned, folder = study(sweeps=[{"model": "a"}])
    (state,) = run(planned, folder, instant()).states.values()
    assert state.status == "done"
    with folder.exclusive():
        assert folder.is_running()
        with pytest.raises(StudyError, match="already being run"):
            run(planned, folder, instant())
    assert not folder.is_running()


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


def test_a_job_is_not_measured_when_its_record_might_not_fit(study, instant, small_disk):
    planned, _ = study(sweeps=[{"model": ["a", "b", "c"]}])
    folder, events = StudyFolder("fake", small_disk), []

    def fill_after_the_first(event, job, state):
        events.append(event)
        if events == ["start", "end"]:
            fill(small_disk, running.LEAST_FREE_BYTES // 2)

    with pytest.raises(StudyError, match=r"only \d+ MB are free in .*small.*free space or choose another folder"):
        run(planned, folder, instant(), on_event=fill_after_the_first)
    (small_disk / "filler").unlink()
    assert {state.status for state in run(planned, folder, instant()).states.values()} == {"done"}
    assert len(list(folder.path.glob("*/attempt-*"))) == 3


def test_a_disk_that_fills_up_meanwhile_leaves_no_half_record(study, local, small_disk, monkeypatch):
    monkeypatch.setattr(running, "LEAST_FREE_BYTES", 0)
    planned, _ = study(sweeps=[{"model": ["a", "b", "c", "d"]}])
    folder = StudyFolder("fake", small_disk)
    folder.prepare(planned)
    filler = fill(small_disk, 80_000)
    with pytest.raises(StudyError, match=r"No space left on device; free space or choose another folder"):
        run(planned, folder, local)
    for path in small_disk.rglob("record.json"):
        store.read_record(path)
    filler.unlink()
    assert {state.status for state in run(planned, folder, local, again=("failed",)).states.values()} == {"done"}


def test_a_results_folder_that_may_not_be_written_is_named(study, instant):
    planned, _ = study(sweeps=[{"model": "a"}])
    with pytest.raises(StudyError, match=r"cannot write /proc/fake/study\.yaml: .*--results"):
        run(planned, StudyFolder("fake", "/proc"), instant())  # nobody may make a folder here, not even root


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
    assert JobState(status, last=last, last_kind=kind).due(again) == expected


def test_a_loop_of_papermill_by_hand_gives_a_record_a_run(workplace):
    (workplace / "params").symlink_to(REPOSITORY / "params")  # results lie beside it
    notebook = builders.write_notebook(workplace / "by-hand.ipynb", builders.MEASURE)
    for model in ("google/bert_uncased_L-2_H-128_A-2", "tiny-bert"):
        given = {"model": model, "task": "sentence_similarity", "model_source": "random", "data_source": "sample",
                 "samples": 4, "runs": 1, "window_s": 0.2, "meter": "estimate"}  # fmt: skip
        values = [word for name, value in given.items() for word in ("-p", name, str(value))]
        command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", *values]
        subprocess.run(command, check=True, capture_output=True)
    assert energylab.read("results/notebook").model.nunique() == 2
    made = release.make(planned_roots(["results/notebook"]), name="by-hand", date="2026-01-01", draws=0)
    assert sum(len(cohort.models) for cohort in made.cohorts) == 2


@pytest.mark.slow
def test_killed_at_random_moments_every_job_is_done_exactly_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    faults = importlib.import_module("faults")
    report = faults.run(tmp_path, jobs=5, kills=3, seed=11)
    assert report.faults == []
    assert report.kills.total() == 3
