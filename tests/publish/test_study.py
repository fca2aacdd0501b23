"""What a study publishes by itself, and the commands."""

from __future__ import annotations

import pytest
import typer
from release_builders import record_of
from typer.testing import CliRunner

from energylab import store
from energylab.errors import ReleaseError
from energylab.publish import report
from energylab.publish.commands import mount
from energylab.publish.study import publish_study


@pytest.fixture
def quick_report(monkeypatch):
    """Leave out the notebook, which has tests of its own."""
    monkeypatch.setattr(report, "render", lambda release: f"<title>{release.name}</title>")


class TestStudy:
    def records(self, folder):
        for n, (model, source) in enumerate([("a", "random"), ("b", "random"), ("c", "random"), ("real", "path")]):
            record = record_of(model, 3.0 + n, source=source, kind="estimated", task="qa", model_class=None)
            store.write(record, folder / str(n))
        return folder

    def test_release_leaderboard_and_report(self, tmp_path, quick_report):
        done = publish_study(self.records(tmp_path / "my study"), tmp_path / "out")
        assert done.release_file == tmp_path / "out" / "releases" / "my-study-2026-03-01.json"
        assert done.leaderboard == tmp_path / "out" / "leaderboard" / "index.html"
        assert done.report.read_text() == "<title>my-study-2026-03-01</title>"
        assert "Not for publication" in done.leaderboard.read_text()
        assert [left.model for left in done.release.left_out] == ["real"]
        assert len(list((tmp_path / "out" / "leaderboard" / "records").iterdir())) == 3

    def test_twice_is_once_and_a_changed_study_is_numbered(self, tmp_path, quick_report):
        folder = self.records(tmp_path / "study")
        first = publish_study(folder, tmp_path / "out")
        assert publish_study(folder, tmp_path / "out") == first
        store.write(record_of("d", 9.0, source="random", kind="estimated", task="qa", model_class=None), folder / "9")
        second = publish_study(folder, tmp_path / "out")
        assert second.release.name == "study-2026-03-01-2"
        assert first.release_file.is_file()

    def test_nothing_measured(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ReleaseError, match="run the study first"):
            publish_study(tmp_path / "empty", tmp_path / "out")


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
        assert "nothing moved" in run("release", "compare", "first", "first")
        run("leaderboard", "build", "first", "--output", "site", "--records", study, "--no-labels")
        assert (tmp_path / "site" / "index.html").is_file()
        path = run("label", "first", "org/model-2", "--output", "label.svg").strip()
        assert (tmp_path / path).read_text().startswith("<svg")
        assert run("report", "first").strip() == "reports/first.html"

    def test_publish_names_what_it_left_out(self, run, tmp_path, quick_report):
        records = TestStudy().records(tmp_path / "study")
        told = " ".join(run("publish", records).split())
        assert "left out: 1 record of qa, of another cohort: model source=path" in told
        assert told.count("left out:") == 1
