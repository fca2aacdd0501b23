"""What a study publishes by itself, and the commands."""

from __future__ import annotations

import pytest
import typer
from release_builders import record_of, write_all
from typer.testing import CliRunner

from energylab.errors import ReleaseError
from energylab.publish import report
from energylab.publish.commands import mount
from energylab.publish.study import publish_study


@pytest.fixture
def quick_report(monkeypatch):
    """Leave out the notebook, which has tests of its own."""
    monkeypatch.setattr(report, "render", lambda release: f"<title>{release.name}</title>")


def records(folder, sources):
    """Write one unofficial record a model."""
    facts = {"kind": "estimated", "task": "qa", "model_class": None}
    return write_all(
        [record_of(name, 3.0 + n, source=s, **facts) for n, (name, s) in enumerate(sources.items())], folder
    )


MODELS = {"a": "random", "b": "random", "c": "random", "real": "path"}


class TestStudy:
    def test_release_leaderboard_and_report_are_made_once_and_a_changed_study_is_numbered(self, tmp_path, quick_report):
        folder, out = records(tmp_path / "my study", MODELS), tmp_path / "out"
        done = publish_study(folder, out)
        assert done.release_file == out / "releases" / "my-study-2026-03-01.json"
        assert done.leaderboard == out / "leaderboard" / "index.html"
        assert done.report.read_text() == "<title>my-study-2026-03-01</title>"
        assert "Not for publication" in done.leaderboard.read_text()
        assert [left.model for left in done.release.left_out] == ["real"]
        assert len(list((out / "leaderboard" / "records").iterdir())) == 3
        assert publish_study(folder, out) == done
        records(folder / "more", {"d": "random"})
        assert publish_study(folder, out).release.name == "my-study-2026-03-01-2"
        assert done.release_file.is_file()

    def test_nothing_measured(self, tmp_path):
        with pytest.raises(ReleaseError, match="run the study first"):
            publish_study(tmp_path, tmp_path / "out")


class TestCommands:
    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        app = typer.Typer()
        mount(app)
        monkeypatch.chdir(tmp_path)

        def run(*words):
            result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
            assert result.exit_code == 0, result.output
            return result.output

        return run

    def test_from_records_to_pages(self, run, tmp_path, study, quick_report):
        out = run("release", "make", "--from", study, "--name", "first", "--date", "2026-03-05", "--draws", "200")
        assert "text_generation-A: 8 models, official" in out
        assert (tmp_path / "results" / "releases" / "first.json").is_file()
        out = run("release", "make", "--from", study, "--name", "second", "--date", "2026-04-05", "--draws", "200",
                  "--scheme", "log_width", "--previous", "first")  # fmt: skip
        assert "changed star: org/model-" in out
        assert "changed star: org/model-" in run("release", "compare", "first", "second")
        assert "no changes" in run("release", "compare", "first", "first")
        run("leaderboard", "build", "first", "--output", "site", "--records", study, "--no-labels")
        assert (tmp_path / "site" / "index.html").is_file()
        path = run("label", "first", "org/model-2", "--output", "label.svg").strip()
        assert (tmp_path / path).read_text().startswith("<svg")
        assert run("report", "first").strip() == "reports/first.html"

    def test_publish_names_what_it_left_out(self, run, tmp_path, quick_report):
        told = " ".join(run("publish", records(tmp_path / "study", MODELS)).split())
        assert "left out: 1 record of qa, of another cohort: model source=path" in told
        assert told.count("left out:") == 1
