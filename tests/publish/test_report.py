"""The report: self-contained, complete, and text where strangers' names stand; energy of right answers on all pages."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from release_builders import QUERIES, record_of, released

from energylab import release
from energylab.figures import release as figures
from energylab.publish import chromium, leaderboard, page, report, text
from energylab.publish.report import Report, what_it_cost


@pytest.fixture(scope="module")
def html(official):
    return report.render(official)


def assert_self_contained(html):
    soup = BeautifulSoup(html, "html.parser")
    assert not soup.select("script, link, iframe, object, embed, base, audio, video, [srcset]")
    for element in soup.select("[src], [href]"):
        assert re.match(r"data:image/svg\+xml;base64,|#", element.get("src") or element.get("href"))
    for image in soup.select("img"):
        assert image["alt"]
        for element in ElementTree.fromstring(base64.b64decode(image["src"].partition(",")[2])).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "image", "foreignObject", "a", "animate", "set")
            assert not any(name.startswith("on") for name in element.attrib)


def test_holds_method_limits_machines_and_every_session(html, official):
    assert_self_contained(html)
    soup = BeautifulSoup(html, "html.parser")
    said = soup.get_text(" ")
    for heading in ("What this release shows", "Models", "Changes", "Method", "Limits", "Machines and software",
                    "Sessions", "How to reproduce it"):  # fmt: skip
        assert heading in [title.get_text() for title in soup.select("h2")]
    for _, model in official.rated():
        assert model.model in said
        assert all(session.digest in said for session in model.sessions)
    assert "energylab report results/releases/official-2026-03.json" in said
    assert "transformers 5.17.0" in said
    assert not re.search(r"/tmp/|execution_count|ipykernel", html)


def test_hostile_names_are_text_and_the_kernel_warns_of_nothing(hostile, hostile_names, capfd):
    html = report.render(hostile)
    assert "WARNING" not in capfd.readouterr().err
    assert_self_contained(html)
    soup = BeautifulSoup(html, "html.parser")
    shown = {cell.get_text() for cell in soup.select("tbody td")}
    assert {text.one_line(name) for name in hostile_names.values()} <= shown
    assert "Not for publication" in soup.select_one(".band").get_text()
    assert "<b>qa</b>" in soup.get_text()


@pytest.mark.skipif(chromium.find() is None, reason="Chromium is not installed")
def test_pdf(official, tmp_path, monkeypatch, html):
    monkeypatch.setattr(report, "render", lambda release: html)
    path = report.write(official, tmp_path / "report.html", pdf=True)
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_imported_figures_without_machines_or_sessions(published):
    parts = Report(published)
    assert "166 models in 12 cohorts" in parts.summary().data
    assert "below 95 %, assuming a noise of 1 %" in parts.summary().data
    assert "No machine is recorded" in parts.machines().data
    assert "No session is recorded" in parts.sessions().data
    earlier = published.model_copy(update={"name": "earlier", "cohorts": published.cohorts[1:]})
    now = published.model_copy(update={"previous": release.since(earlier, published)})
    assert "Changes since earlier" in Report(now).moved().data


def test_a_release_without_stars(tmp_path):
    (tmp_path / "one.csv").write_text("task,model,energy_j,queries\nqa,a,36,10\n")
    shown = Report(release.make([tmp_path / "one.csv"], name="r", date="2026-01-02"))
    assert "No model of this release has stars" in shown.star_counts().data
    assert "No stars: " in shown.models().data


def test_right_answers_have_a_column_stars_of_their_own_and_a_front(tmp_path):
    def record(name, wh, right, session):
        made = record_of(f"org/{name}", wh, session)
        scores = {"value": right / QUERIES, "scores": (1.0,) * right + (0.0,) * (QUERIES - right)}
        return made.model_copy(update={"quality": (made.quality[0].model_copy(update=scores),)})

    models = (("cheap", 2.0, 5), ("good", 6.0, 18), ("worst", 9.0, 10), ("heavy", 30.0, 19))
    records = [record(*model, session) for model in models for session in range(3)]
    made = released(records, tmp_path / "records", draws=200)
    _, good = page.find(made, "org/good")
    assert good.per_right.energy_wh == pytest.approx(good.energy_wh * 20 / 18, rel=1e-4)
    _, worst = page.find(made, "org/worst")
    assert worst.stars != worst.per_right.stars  # two rows of stars, never mixed
    leaderboard.build(made, tmp_path / "site", with_labels=False)
    index = BeautifulSoup((tmp_path / "site" / "index.html").read_text(), "html.parser")
    row = next(row for row in index.select("tbody tr") if "org/good" in row.get_text())
    assert text.figure(good.per_right.energy_wh) in row.select_one("td.right").get_text()
    own = (tmp_path / "site" / "models" / f"{text.slug('org/good')}.html").read_text()
    assert f"{text.figure(good.per_right.energy_wh)} Wh per 1,000 right answers" in own
    drawn = figures.right_answers(made.cohorts[0])
    assert {note.get_text() for note in drawn.axes[0].texts} == {"org/cheap", "org/good", "org/heavy"}
    assert "measured" in drawn.axes[0].get_xlabel()
    wh = sum(model.spent.wh for model in made.cohorts[0].models)
    assert f"took {text.figure(wh)} Wh (measured)" in what_it_cost(made)
    assert "Wh per 1,000 right" in Report(made).models().data
