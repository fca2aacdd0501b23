"""Energy of right answers on the pages: a column, a second row of stars, and the Pareto front, from scored records."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from release_builders import QUERIES, record_of

from energylab import release, store
from energylab.figures import release as figures
from energylab.publish import leaderboard, page, text
from energylab.publish.report import Report, what_it_cost

SHARES = {"org/cheap": (2.0, 5), "org/good": (6.0, 18), "org/worst": (9.0, 10), "org/heavy": (30.0, 19)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A release whose models answer 5, 18, 10 and 19 of 20 queries right."""
    root = tmp_path_factory.mktemp("scored")
    for name, (wh, right) in SHARES.items():
        scores = (1.0,) * right + (0.0,) * (QUERIES - right)
        for session in range(3):
            record = record_of(name, wh, session)
            quality = record.quality[0].model_copy(update={"value": right / QUERIES, "scores": scores})
            store.write(record.model_copy(update={"quality": (quality,)}), root / f"{name[4:]}-{session}")
    return release.make([root], name="scored", date="2026-03-05", draws=200)


def test_the_release_carries_energy_by_right_answers_and_stars_of_its_own(made):
    models = {model.model: model for model in made.cohorts[0].models}
    for name, (_, right) in SHARES.items():
        found = models[name].per_right
        assert found.energy_wh == pytest.approx(models[name].energy_wh * QUERIES / right, rel=1e-4)
        assert found.low_wh < found.energy_wh < found.high_wh
    energies = {name: model.per_right.energy_wh for name, model in models.items()}
    least, most = min(energies.values()), max(energies.values())
    for name, model in models.items():
        assert model.per_right.stars == 5 - min(int(5 * (energies[name] - least) / (most - least)), 4)
    assert models["org/worst"].stars != models["org/worst"].per_right.stars  # two rows of stars, never mixed


def test_pages_show_it_with_its_interval(made, tmp_path):
    leaderboard.build(made, tmp_path / "site", with_labels=False)
    index = BeautifulSoup((tmp_path / "site" / "index.html").read_text(), "html.parser")
    _, model = page.find(made, "org/good")
    row = next(row for row in index.select("tbody tr") if "org/good" in row.get_text())
    assert text.figure(model.per_right.energy_wh) in row.select_one("td.right").get_text()
    own = (tmp_path / "site" / "models" / f"{text.slug('org/good')}.html").read_text()
    assert f"{text.figure(model.per_right.energy_wh)} Wh per 1,000 right answers" in own


def test_the_front_holds_what_none_beats(made):
    drawn = figures.right_answers(made.cohorts[0])
    named = {note.get_text() for note in drawn.axes[0].texts}
    assert named == {"org/cheap", "org/good", "org/heavy"}
    assert "measured" in drawn.axes[0].get_xlabel()


def test_the_report_says_what_the_rating_cost(made):
    wh = sum(model.spent.wh for model in made.cohorts[0].models)
    assert f"took {text.figure(wh)} Wh" in what_it_cost(made)
    assert "ten full runs" in Report(made).summary().data
    assert "Wh per 1,000 right" in Report(made).models().data
