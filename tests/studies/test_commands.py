"""The study commands as a user meets them: what they print, write and answer."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import builders
import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from energylab import cli, release, store
from energylab.errors import EnergylabError, StudyError, UnknownNameError
from energylab.publish import report
from energylab.studies import commands, pack
from energylab.studies.run import run
from energylab.studies.state import JobState, Outcome, StudyFolder, planned_roots

call = CliRunner()


def study_command(*arguments: str):
    """Run ``energylab study …``; an error of energylab is raised."""
    result = call.invoke(cli.app, ["study", *arguments])
    if isinstance(result.exception, EnergylabError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


@pytest.fixture
def measured(study):
    """A study of five jobs: two done, one failed, one whose runner was killed, one left."""
    planned, folder = study(
        title="Five models", authors=["A. Researcher"], sweeps=[{"model": ["a", "b", "c", "d", "e"]}]
    )
    folder.prepare(planned)
    for job, energy_j in zip(planned.jobs[:2], (2.0, 4.0), strict=True):
        attempt = folder.job(job).new_attempt()
        store.write(builders.record(job.parameters, energy_j), attempt.path)
        attempt.notebook.write_text("{}")
        attempt.close(Outcome.now("finished", duration_s=30.0))
    folder.job(planned.jobs[2]).new_attempt().close(Outcome.now("cell_error", "ValueError: as asked (cell 2)"))
    folder.job(planned.jobs[3]).new_attempt()
    return planned, folder


def test_plan_shows_every_job_its_state_the_cost_and_each_way_to_measure(measured, study):
    planned, _ = measured
    shown = study_command("plan", "fake.yaml").output
    assert all(job.id in shown for job in planned.jobs)
    assert "3 jobs to do: about 4 s" in shown  # three like the two measured: 1.5 s from first to last reading
    assert "3 jobs estimated from records of other models on the same task" in shown
    assert shown.count("2 x 16") == 5
    ways = [{"window_s": 10.0, "runs": 10}, {"protocol": "published-2025-02"}]
    study(sweeps=[{"model": ["a", "b"], "settings": ways}])
    shown = study_command("plan", "fake.yaml").output
    assert "2 jobs measured with protocol steady, windows of at least 10 s, warm-up 0.3 to 5 s" in shown
    assert "2 jobs measured with protocol published-2025-02, windows and warm-up as" in shown


def test_status_counts_and_gives_reasons(measured, study):
    planned, folder = measured
    shown = study_command("status", "fake").output
    assert "5 jobs: 2 done, 1 failed, 2 left; 0.00389 Wh simulated spent" in shown
    assert "2 jobs left: about 1 min 00 s, one at a time" in shown
    assert f"failed  {planned.jobs[2].id}" in shown
    assert "ValueError: as asked (cell 2)" in shown
    with folder.exclusive():
        assert "1 running" in study_command("status", "fake").output
    planned, folder = study("one", sweeps=[{"model": "a"}])
    folder.prepare(planned)
    shown = study_command("status", "one").output.splitlines()
    assert shown == ["1 job: 1 left", "1 job left; time unknown until one finishes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "fke"), "did you mean 'fake'"),
        (("run", "fake.yaml", "--executor", "locl"), "did you mean 'local'"),
        (("run", "fake.yaml", "--retry", "fail"), "did you mean 'failed'"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(measured, arguments, words):
    with pytest.raises(UnknownNameError, match=words):
        study_command(*arguments)


def test_run_prints_results_notebooks_and_what_is_missing(study, instant, monkeypatch):
    study(sweeps=[{"model": ["a", "b"], "batch_size": [1, 8]}])
    monkeypatch.setattr(commands, "executor_for", lambda *_: (instant(failures=9), 1))
    result = study_command("run", "fake.yaml")
    assert result.exit_code == 1
    assert "left  sentence_similarity" in result.output
    assert "JOB/attempt-N/" in result.output
    assert "4 jobs: 3 done, 1 left" in result.output
    assert "setting" in result.output, "two cohorts of one task are told apart"
    assert result.output.count("batch=8") + result.output.count("batch=1") == 3


def test_what_a_study_plans_no_more_is_neither_rated_nor_published(study, instant, workplace, monkeypatch):
    monkeypatch.setattr(report, "render", lambda made: f"<title>{made.name}</title>")  # the notebook has its own tests
    planned, folder = study(sweeps=[{"model": ["a", "b", "c"]}])
    run(planned, folder, instant())
    planned, folder = study(sweeps=[{"model": ["a", "b"]}])
    folder.prepare(planned)
    assert "no longer in study.yaml: 1 job in" in study_command("status", "fake").output
    for root in (folder.path, workplace / "results"):
        assert set(store.read(*planned_roots([root])).model) == {"a", "b"}
    assert set(store.read(folder.path).model) == {"a", "b", "c"}, "reading shows everything"
    other = workplace / "elsewhere"
    assert planned_roots([other, "published:2025-02"]) == [other, "published:2025-02"]
    made = call.invoke(cli.app, ["release", "make", "--from", str(folder.path), "--name", "r", "--date", "2026-01-01"])
    assert "2 models" in made.output, made.output
    console = Console(file=io.StringIO(), width=300)
    commands._print_results(console, planned, folder)
    assert "no longer in the study: 1 job in" in console.file.getvalue()
    done = call.invoke(cli.app, ["publish", str(folder.path), "--output", "out"])
    assert done.exit_code == 0, done.output
    (path,) = Path("out/releases").glob("*.json")
    assert {model.model for cohort in release.read(path).cohorts for model in cohort.models} == {"a", "b"}
    assert len(list(Path("out/leaderboard/records").iterdir())) == 2


def test_two_files_of_one_name_do_not_share_a_folder(study, instant, workplace):
    planned, folder = study(sweeps=[{"model": "a"}])
    run(planned, folder, instant())
    (workplace / "other").mkdir()
    Path("other/fake.yaml").write_text(Path("fake.yaml").read_text().replace("model: a", "model: b"))
    for command in ("plan", "run"):
        with pytest.raises(StudyError, match=r"results/fake holds the study .*/fake.yaml, and .*/other/fake.yaml has"):
            study_command(command, "other/fake.yaml")
    planned, folder = study(sweeps=[{"model": ["a", "b"]}])  # the same file, edited
    run(planned, folder, instant())
    assert yaml.safe_load(folder.study_file.read_text())["sweeps"] == [{"model": ["a", "b"]}]
    Path("fake.yaml").rename("other/fake.yaml")  # moved: still the same study
    assert "2 jobs" in study_command("plan", "other/fake.yaml").output


def test_pack_writes_an_archive_that_opens_again(measured, workplace):
    planned, folder = measured
    assert "--author" not in study_command("pack", "fake").output
    with tarfile.open("fake.tar.gz") as tar:
        tar.extractall("out", filter="data")
    top = workplace / "out/fake"
    assert (top / "study.yaml").read_text() == planned.text
    assert store.read(top).energy_j.tolist() == pytest.approx(store.read(folder.path).energy_j.tolist())
    assert store.read(top / "table.csv").job_id.nunique() == 2
    cited = yaml.safe_load((top / "CITATION.cff").read_text())
    assert (cited["title"], cited["authors"]) == ("Five models", [{"name": "A. Researcher"}])
    assert "2 records of 5 planned jobs" in (top / "README.md").read_text()
    shutil.rmtree("results")
    assert "5 jobs: 2 done, 3 left" in study_command("status", "fake", "--results", "out").output
    assert "2 jobs left" not in study_command("plan", "fake", "--results", "out").output
    reopened = StudyFolder("fake", "out")
    again = pack.pack(planned, reopened, reopened.states(planned), workplace / "again.tar.gz")
    assert again.read_bytes() == Path("fake.tar.gz").read_bytes(), "the same bytes, whoever packs it"


def test_a_study_without_a_record_is_not_packed_and_versions_that_differ_are_all_named(study, tmp_path):
    planned, folder = study(sweeps=[{"model": "a"}])
    with pytest.raises(StudyError, match="no records yet; run it first"):
        pack.pack(planned, folder, folder.states(planned), tmp_path / "s.tar.gz")
    hosts = [builders.record().host.model_copy(update={"packages": {"torch": v}}) for v in ("2.11", "2.12", "2.12")]
    assert pack.versions([builders.record(host=host) for host in hosts]) == "python==3\ntorch==2.11\ntorch==2.12\n"


def test_slurm_that_is_not_here_is_one_sentence(study, monkeypatch):
    study(sweeps=[{"model": "a"}])
    done = subprocess.run(
        [sys.executable, "-m", "energylab.cli", "study", "run", "fake.yaml", "--executor", "slurm"],
        capture_output=True, text=True, env={**os.environ, "PATH": "/nowhere"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: scontrol is not installed here; use a login node")
    assert len(done.stderr.splitlines()) == 1


def test_a_slurm_study_is_read_off_the_cluster(study, monkeypatch):
    planned, folder = study(sweeps=[{"model": ["a", "b"]}])
    folder.prepare(planned)
    noted = {"12_0": {"job": planned.jobs[0].id, "name": "energylab-fake-1"}}
    (folder.path / "slurm.json").write_text(json.dumps(noted))
    monkeypatch.setenv("PATH", "/nowhere")
    shown = study_command("status", "fake").output
    assert "2 jobs: 2 left" in shown
    assert "Slurm's state is unknown here (no squeue)" in shown
    assert "12_0 UNKNOWN" in shown
    assert planned.jobs[0].id in study_command("plan", "fake.yaml").output
    with pytest.raises(StudyError, match=r"1 job of this study submitted to Slurm .* or delete .*slurm\.json"):
        study_command("run", "fake.yaml")
    (folder.path / "slurm.json").write_text(json.dumps({"12_0": planned.jobs[0].id}))  # as first versions wrote it
    for command in ("status", "plan", "run"):
        with pytest.raises(StudyError, match=r"slurm\.json is not a valid list of submitted jobs .*delete it"):
            study_command(command, *["fake" if command == "status" else "fake.yaml"])


def test_kinds_of_energy_are_never_added_up(study):
    planned, _ = study(sweeps=[{"model": ["a", "b", "c"]}])
    kinds = zip(planned.jobs, ("measured", "estimated", "estimated"), strict=True)
    states = {job: JobState("done", record=builders.record(job.parameters, energy_kind=kind)) for job, kind in kinds}
    console = Console(file=io.StringIO(), width=300)
    commands.print_counts(console, states)
    assert console.file.getvalue() == "3 jobs: 3 done; 0.00278 Wh estimated + 0.00139 Wh measured spent\n"


def test_time_left_is_of_jobs_own_times_not_of_their_wait_in_a_queue(study):
    planned, _ = study(sweeps=[{"model": ["a", "b", "c", "d"]}])
    text = io.StringIO()
    states = dict.fromkeys(planned.jobs, JobState("left"))
    with commands.Watch(states, 2, Console(file=text, width=400)) as watch:
        for job in planned.jobs:
            watch("start", job, states[job])  # Slurm takes all at once
        watch("end", planned.jobs[0], JobState("done", last=Outcome.now("finished", duration_s=600.0)))
        watch("end", planned.jobs[1], JobState("failed", reason="it\nbroke " + "x" * 500))
        assert watch._bar.tasks[0].fields["note"] == "2 jobs left: about 10 min 00 s, 2 at once"
    assert [line.split()[0] for line in text.getvalue().splitlines()] == ["done", "failed"]


def test_every_command_and_option_is_documented():
    def walk(command, name):
        assert command.help, f"{name} has no help"
        for option in command.params:
            assert getattr(option, "help", None), f"{name} {option.name} has no help"
        for child, sub in getattr(command, "commands", {}).items():
            walk(sub, f"{name} {child}")

    walk(typer.main.get_command(cli.app), "energylab")


def test_a_command_loads_its_own_group_only():
    program = (
        "import sys; from energylab import cli; sys.argv = ['energylab', 'task', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'energylab.studies.commands', 'torch', 'pandas', 'rich.progress'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
