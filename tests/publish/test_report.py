"""The report: self-contained, complete, and text where strangers' names stand."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from energylab import release
from energylab.publish import chromium, report, text
from energylab.publish.report import Report


@pytest.fixture(scope="module")
def html(official):
    return report.render(official)


def assert_self_contained(html):
    page = BeautifulSoup(html, "html.parser")
    assert not page.select("script, link, iframe, object, embed, base, audio, video, [srcset]")
    for element in page.select("[src], [href]"):
        assert re.match(r"data:image/svg\+xml;base64,|#", element.get("src") or element.get("href"))
    for image in page.select("img"):
        assert image["alt"]
        for element in ElementTree.fromstring(base64.b64decode(image["src"].partition(",")[2])).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "image", "foreignObject", "a", "animate", "set")
            assert not any(name.startswith("on") for name in element.attrib)


def test_holds_method_limits_machines_and_every_session(html, official):
    assert_self_contained(html)
    page = BeautifulSoup(html, "html.parser")
    said = page.get_text(" ")
    for heading in ("What this release shows", "Models", "What moved", "Method", "Limits", "Machines and software",
                    "Sessions", "How to make it again"):  # fmt: skip
        assert heading in [title.get_text() for title in page.select("h2")]
    for _, model in official.rated():
        assert model.model in said
        assert all(session.digest in said for session in model.sessions)
    assert "energylab report results/releases/official-2026-03.json" in said
    assert "transformers 5.17.0" in said
    assert "up to ±5" in said
    assert not re.search(r"/tmp/|execution_count|ipykernel", html)


def test_hostile_names_are_text(hostile, hostile_names):
    html = report.render(hostile)
    assert_self_contained(html)
    page = BeautifulSoup(html, "html.parser")
    shown = {cell.get_text() for cell in page.select("tbody td")}
    assert {text.one_line(name) for name in hostile_names.values()} <= shown
    assert "Not for publication" in page.select_one(".band").get_text()
    assert "<b>qa</b>" in page.get_text()


@pytest.mark.skipif(chromium.find() is None, reason="Chromium is not installed")
def test_pdf(official, tmp_path, monkeypatch, html):
    monkeypatch.setattr(report, "render", lambda release: html)
    path = report.write(official, tmp_path / "report.html", pdf=True)
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


class TestParts:
    def test_summary_counts(self, published):
        said = Report(published).summary().data
        assert "166 models in 12 cohorts" in said
        assert f"{sum(model.stars == 5 for _, model in published.rated())} of these have five" in said

    def test_without_machines_or_sessions_it_says_so(self, published):
        assert "No machine is on record" in Report(published).machines().data
        assert "No session is on record" in Report(published).sessions().data

    def test_a_release_without_stars(self, tmp_path):
        (tmp_path / "one.csv").write_text("task,model,energy_j,queries\nqa,a,36,10\n")
        shown = Report(release.make([tmp_path / "one.csv"], name="r", date="2026-01-02"))
        assert "No model of this release has a star" in shown.star_counts().data
        assert "No stars: " in shown.models().data

    def test_what_moved(self, published):
        earlier = published.model_copy(update={"name": "earlier", "cohorts": published.cohorts[1:]})
        now = published.model_copy(update={"previous": release.since(earlier, published)})
        assert "What moved since earlier" in Report(now).moved().data
