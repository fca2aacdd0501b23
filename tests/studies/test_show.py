"""The study commands as a user meets them: what they print, write and answer."""

from __future__ import annotations

import dataclasses
import json

import builders
import pandas as pd
import pytest
from typer.testing import CliRunner

from energylab import cli, store
from energylab.errors import EnergylabError, UnknownNameError
from energylab.studies import runner, show
from energylab.studies.folder import Outcome

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
    planned, folder = study(sweeps=[{"model": ["a", "b", "c", "d", "e"]}])
    folder.prepare(planned)
    for job, energy_j in zip(planned.jobs[:2], (2.0, 4.0), strict=True):
        attempt = folder.job(job.id).new_attempt()
        store.write(builders.record(job.parameters, energy_j), attempt.path)
        attempt.notebook.write_text("{}")
        attempt.close(Outcome.now("finished", duration_s=30.0))
    folder.job(planned.jobs[2].id).new_attempt().close(Outcome.now("cell_error", "ValueError: as asked (cell 2)"))
    folder.job(planned.jobs[3].id).new_attempt()
    return planned, folder


def test_plan_shows_every_job_its_state_and_the_cost(measured, workplace):
    planned, _ = measured
    shown = study_command("plan", "fake.yaml").output
    assert all(job.id in shown for job in planned.jobs)
    assert "3 jobs to do: about 4 s" in shown  # three like the two measured: 1.5 s from first to last reading
    assert "3 jobs by records of other models on the same task" in shown


def test_status_counts_and_gives_reasons(measured):
    planned, _ = measured
    shown = study_command("status", "fake").output
    assert "5 jobs: 2 done, 1 failed, 2 left; 0.00389 Wh simulated spent" in shown
    assert "about 1 min 00 s for the 2 jobs left" in shown
    assert f"failed  {planned.jobs[2].id}" in shown
    assert "ValueError: as asked (cell 2)" in shown


def test_status_says_running_only_while_a_runner_is_there(measured):
    _, folder = measured
    with runner.exclusive(folder):
        assert "1 running" in study_command("status", "fake").output
    assert "running" not in study_command("status", "fake").output


def test_status_names_jobs_that_an_edited_study_no_longer_plans(measured, study):
    old, folder = measured
    planned, _ = study(sweeps=[{"model": ["a", "b"]}])
    folder.prepare(planned)
    gone = {job.id for job in old.jobs[:4]} - {job.id for job in planned.jobs}
    shown = study_command("status", "fake").output
    assert gone
    assert all(job_id in shown.splitlines()[-1] for job_id in gone)


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_the_table_is_the_tidy_table_in_every_format(measured, workplace, format):
    _, folder = measured
    target = workplace / f"out.{format}"
    study_command("table", "fake", "--format", format, "--output", str(target))
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[format](target)
    expected = store.read(folder.path)
    assert list(read.columns) == list(expected.columns)
    assert read.energy_j.tolist() == expected.energy_j.tolist()


def test_the_table_on_the_terminal_is_whole_lines(measured):
    _, folder = measured
    lines = study_command("table", "fake").output.splitlines()
    assert len(lines) == 1 + len(store.read(folder.path))
    assert json.loads(study_command("table", "fake", "--format", "json").output)[0]["task"] == "sentence_similarity"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "fke"), "did you mean 'fake'"),
        (("table", "fake", "--format", "cvs"), "did you mean 'csv'"),
        (("run", "fake.yaml", "--executor", "locl"), "did you mean 'local'"),
        (("run", "fake.yaml", "--retry", "fail"), "did you mean 'failed'"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(measured, arguments, words):
    with pytest.raises(UnknownNameError, match=words):
        study_command(*arguments)


def test_run_prints_results_notebooks_and_what_is_missing(study, local, monkeypatch):
    study(sweeps=[{"model": ["a", "b", "raise"]}])
    monkeypatch.setattr(show.EXECUTORS, "get", lambda name: Placed(local))
    result = study_command("run", "fake.yaml")
    assert result.exit_code == 1
    assert "failed  sentence_similarity · raise: ValueError: as asked" in result.output
    assert result.output.count("notebook.ipynb") == 2
    assert "figures/energies.png" in result.output
    assert "3 jobs: 2 done, 1 failed" in result.output
    assert study_command("run", "fake.yaml", "--limit", "1").exit_code == 1


@dataclasses.dataclass
class Placed:
    """Gives the tests' executor, on their warm process, whatever the study says."""

    make: object

    def from_study(self, study, devices, cold):
        return self.make()


def test_pack_writes_the_archive_and_asks_for_authors(measured, workplace):
    shown = study_command("pack", "fake").output
    assert (workplace / "fake.tar.gz").is_file()
    assert "--author NAME" in shown
    assert "--author" not in study_command("pack", "fake", "--author", "A. Researcher").output


def test_every_command_and_option_is_documented():
    import click
    import typer

    def walk(command, name):
        assert command.help, f"{name} has no help"
        for option in command.params:
            assert getattr(option, "help", None), f"{name} {option.name} has no help"
        if isinstance(command, click.Group):
            for child, sub in command.commands.items():
                walk(sub, f"{name} {child}")

    walk(typer.main.get_command(cli.app), "energylab")
