"""What is shown while a study runs: states, time left, energy with its kind."""

from __future__ import annotations

import io

import builders
import pytest
from rich.console import Console

from energylab.record import IdleLevel
from energylab.studies import progress
from energylab.studies.folder import JobState


def test_all_energy_of_a_session_counts_invalid_windows_and_idle_too():
    windows = (builders.window(0, 2.0), builders.window(0, None), builders.window(1, 3.0, valid=False, reasons=("x",)))
    idle = (IdleLevel(level="no_context", power_w=1.0, duration_s=4.0, energy_j=4.0),)
    record = builders.record(windows=windows, idle=idle)
    assert progress.spent_j(record) == 2.0 + 3.0 + 4.0 + 1.0  # windows, idle, warm-up


def test_kinds_of_energy_are_never_added_up(study):
    planned, _ = study(sweeps=[{"model": ["a", "b", "c"]}])
    kinds = ("measured", "estimated", "estimated")
    states = {
        job: JobState("done", record=builders.record(job.parameters, energy_kind=kind))
        for job, kind in zip(planned.jobs, kinds, strict=True)
    }
    each = progress.spent_j(builders.record(planned.jobs[0].parameters))
    assert progress.spent_by_kind(states) == {"measured": each, "estimated": 2 * each}
    assert progress.format_energy({"measured": 3600.0, "estimated": 7200.0}) == "2 Wh estimated + 1 Wh measured"
    assert progress.format_energy({}) == "no energy yet"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (4.4, "4 s"), (61, "1 min 01 s"), (3_600, "1 h 00 min"), (90_061, "25 h 01 min")]
)
def test_times_are_said_as_people_say_them(seconds, text):
    assert progress.format_time(seconds) == text


def test_time_left_follows_from_the_jobs_that_ended_and_the_devices():
    assert progress.time_left_s([], 4) is None
    assert progress.time_left_s([10.0, 20.0], 6, parallel=2) == 45.0


def test_each_job_leaves_one_line_with_its_reason(study):
    planned, _ = study(sweeps=[{"model": ["a", "b"]}])
    first, second = planned.jobs
    text = io.StringIO()
    states = dict.fromkeys(planned.jobs, JobState("left"))
    with progress.Watch(states, console=Console(file=text, width=400)) as watch:
        for job, state in ((first, JobState("done")), (second, JobState("failed", reason="it\nbroke " + "x" * 500))):
            watch("start", job, states[job])
            watch("end", job, state)
    lines = text.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["done", "failed"]
    assert "it broke" in lines[1]
    assert len(lines[1]) < 300
