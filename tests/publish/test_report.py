"""The report: self-contained, complete, and the committed example is what is made today."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from energylab import release
from energylab.publish import chromium, drawing, names, render
from energylab.publish.report import Report

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def html(official):
    return render.render(official)


@pytest.fixture(scope="module")
def page(html):
    return BeautifulSoup(html, "html.parser")


def assert_self_contained(html):
    page = BeautifulSoup(html, "html.parser")
    assert not page.select("script, link, iframe, object, embed, base, audio, video, [srcset]")
    for element in page.select("[src], [href]"):
        assert re.match(r"data:image/svg\+xml;base64,|#", element.get("src") or element.get("href"))
    for style in page.select("style, [style]"):
        assert not re.search(r"url\(|@import|@font-face", style.string or style.get("style") or "")
    for image in page.select("img"):
        assert_inert(base64.b64decode(image["src"].partition(",")[2]).decode())


def assert_inert(svg):
    for element in ElementTree.fromstring(svg).iter():
        assert element.tag.rpartition("}")[2] not in ("script", "image", "foreignObject", "a", "animate", "set")
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert not name.endswith("href") or value.startswith("#")
            assert "url(" not in value or value.startswith("url(#")


def test_self_contained(html):
    assert_self_contained(html)


def test_figures_and_tables_are_numbered_in_order(page):
    captions = [bold.get_text() for bold in page.select("figcaption b, caption b")]
    for kind in ("Figure", "Table"):
        found = [int(caption.strip(". ").split()[1]) for caption in captions if caption.startswith(kind)]
        assert found == list(range(1, len(found) + 1))
        assert found
    assert all(image["alt"] for image in page.select("img"))


def test_holds_method_limits_machines_and_every_session(page, official):
    text = page.get_text(" ")
    for heading in ("What this release shows", "Models", "What moved", "Method", "Limits", "Machines and software",
                    "Sessions", "How to make it again"):  # fmt: skip
        assert heading in [title.get_text() for title in page.select("h2")]
    for _, model in official.rated():
        assert model.model in text
        for session in model.sessions:
            assert session.job_id in text
            assert session.digest in text
    assert "energylab report results/releases/official-2026-03.json" in text
    assert "transformers 5.17.0" in text
    assert "up to ±5" in text


def test_says_nothing_of_the_run_itself(html):
    assert "papermill" not in html.replace("papermill notebooks/01-benchmark.ipynb", "")
    assert not re.search(r"/tmp/|execution_count|ipykernel", html)


def test_hostile_names_are_text(hostile, hostile_names):
    html = render.render(hostile)
    assert_self_contained(html)
    page = BeautifulSoup(html, "html.parser")
    shown = {cell.get_text() for cell in page.select("tbody th")}
    assert {names.one_line(name) for name in hostile_names.values()} <= shown
    assert "Not for publication" in page.select_one(".band").get_text()
    assert not page.select("img:not([alt]), b:has(*)")
    assert "<b>qa</b>" in page.get_text()


def test_committed_example_is_what_is_made(tmp_path):
    made = release.read("published-2025-02")
    path = render.report(made, tmp_path / "report.html")
    assert path.read_bytes() == (REPOSITORY / "reports" / "example" / "published-2025-02.html").read_bytes()


@pytest.mark.skipif(chromium.find() is None, reason="Chromium is not installed")
def test_pdf(official, tmp_path, monkeypatch, html):
    monkeypatch.setattr(render, "render", lambda release: html)
    path = render.report(official, tmp_path / "report.html", pdf=True)
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


class TestParts:
    def test_summary_counts(self, published):
        text = Report(published).summary()._repr_html_()
        assert "166 models in 12 cohorts" in text
        assert f"{sum(model.stars == 5 for _, model in published.rated())} of these have five" in text

    def test_numbers_stay_when_a_part_is_shown_again(self, official):
        report = Report(official)
        first = report.cohorts()._repr_html_()
        report.machines()
        assert report.cohorts()._repr_html_() == first

    def test_without_machines_or_sessions_it_says_so(self, published):
        report = Report(published)
        assert "No machine is on record" in report.machines()._repr_html_()
        assert "No session is on record" in report.sessions()._repr_html_()

    def test_a_release_without_stars(self, tmp_path):
        (tmp_path / "one.csv").write_text("task,model,energy_j,queries\nqa,a,36,10\n")
        made = release.make([tmp_path / "one.csv"], name="r", date="2026-01-02")
        report = Report(made)
        assert "No model of this release has a star" in report.star_counts()._repr_html_()
        assert "No stars: " in report.models()._repr_html_()

    def test_what_moved(self, published):
        earlier = published.model_copy(update={"name": "earlier", "cohorts": published.cohorts[1:]})
        now = published.model_copy(update={"previous": release.since(earlier, published)})
        assert "What moved since earlier" in Report(now).moved()._repr_html_()


def test_a_drawing_is_the_same_twice(official):
    import matplotlib.pyplot as plt

    from energylab.figures import release as figures

    def draw():
        with plt.rc_context(drawing.SETTINGS):
            return drawing.to_svg(figures.cohort(official.cohorts[0]))

    assert draw() == draw()
    assert draw().startswith("<svg")
    assert plt.get_fignums() == []
