"""The leaderboard's pages as files: what they say, and that strangers' names stay text."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from release_builders import record_of, released

from energylab import release as releases
from energylab.errors import ReleaseError
from energylab.publish import leaderboard, text
from energylab.publish.leaderboard import to_csv, to_json


def soup(path):
    return BeautifulSoup(path.read_bytes(), "html.parser")


class TestIndex:
    def test_every_model_has_its_row(self, sites, published):
        page = soup(sites / "published" / "index.html")
        tables = page.select("section.cohort table")
        assert len(tables) == len(published.cohorts) == 12
        for table, cohort in zip(tables, published.cohorts, strict=True):
            rows = table.select("tbody tr")
            assert [row.th.get_text() for row in rows] == [model.model for model in cohort.models]
            for row, model in zip(rows, cohort.models, strict=True):
                cells = [cell.get_text() for cell in row.select("td")]
                assert cells[0] == f"{model.stars}{text.percent(model.star_probability)}"
                assert row.select_one("td.wh").get_text() == text.figure(model.energy_wh)
                low, high = (
                    float(part.replace(",", "")) for part in row.select_one("td.bar span").get_text().split(" – ")
                )
                assert (low, high) == pytest.approx((model.expanded.low_wh, model.expanded.high_wh), rel=0.01)

    def test_kind_device_what_is_assumed_and_what_is_left_out_are_said(self, sites):
        page = soup(sites / "published" / "index.html")
        captions = [caption.get_text() for caption in page.select("section.cohort caption")]
        for words in ("on NVIDIA H100", "imported, not measured here", "assume a noise of 1 %"):
            assert all(words in caption for caption in captions)
        thin = sum("one model more or less" in caption for caption in captions)
        assert thin == 3  # object detection, classes B and C
        assert "CPU and host (unless shown apart), cooling, fans and the building’s overhead (PUE)" in page.get_text()

    def test_a_warning_is_explained_where_it_is_shown(self, tmp_path):
        made = record_of("org/busy", 2.0, kind="estimated")
        busy = tuple(window.model_copy(update={"marks": ("busy_host",)}) for window in made.windows)
        records = [made.model_copy(update={"windows": busy}), record_of("org/quiet", 1.0, kind="estimated")]
        leaderboard.build(released(records, tmp_path / "records"), tmp_path / "site")
        (busy_page,) = (tmp_path / "site").glob("**/org-busy*.html")
        for page in (tmp_path / "site" / "index.html", busy_page):
            assert "Busy host: other programs used the processor: an estimate may be many times too high" in (
                soup(page).get_text()
            )

    def test_bars_stand_where_the_figures_say(self, sites, official):
        rows = soup(sites / "official" / "index.html").select("tbody tr")
        starts = [float(row.rect["x"].rstrip("%")) for row in rows]
        centres = [float(row.circle["cx"].rstrip("%")) for row in rows]
        assert centres == sorted(centres)
        assert all(start < centre for start, centre in zip(starts, centres, strict=True))
        gaps = [b - a for a, b in zip(centres, centres[1:], strict=False)]
        assert gaps == pytest.approx([gaps[0]] * len(gaps), abs=0.1)  # energies grow by the same factor

    def test_bands(self, sites):
        assert soup(sites / "official" / "index.html").select(".band") == []
        assert "Imported" in soup(sites / "published" / "index.html").select_one(".band").get_text()
        estimated = soup(sites / "hostile" / "index.html").select_one(".band").get_text()
        assert "Not for publication" in estimated
        assert "energy is estimated" in estimated
        for path in (sites / "hostile" / "models").glob("*.html"):
            assert "Not for publication" in soup(path).select_one(".band").get_text()

    def test_moves_are_shown(self, published, tmp_path):
        earlier = published.model_copy(update={"name": "earlier", "cohorts": published.cohorts[1:]})
        now = published.model_copy(update={"previous": releases.since(earlier, published)})
        leaderboard.build(now, tmp_path / "site", with_labels=False)
        moved = soup(tmp_path / "site" / "index.html").select_one("#moved").get_text()
        assert "Changes since earlier" in moved
        assert "Google: pix2struct base" in moved
        assert "joined" in moved


class TestModelPage:
    @pytest.fixture
    def page(self, sites):
        return soup(sites / "official" / "models" / f"{text.slug('org/model-3')}.html")

    def test_phases_windows_evidence_rest_and_cost(self, page, official):
        model = official.cohorts[0].models[3]
        said = page.get_text(" ")
        assert text.figure(model.energy_wh) in said
        assert "thermal_slowdown" in said
        assert len(page.select("figure.strip")) == len(page.select("figure.strip rect.bad")) == 3
        for session in model.sessions:
            assert {session.record_id, session.digest, session.job_id} <= set(said.split())
        assert f"{text.figure(model.standby.power_w)} W with the model loaded" in said
        rest = page.find("h3", string="Standby and part load").find_next("p").get_text()
        assert re.findall(r"([\d.]+) Wh at", rest) == [text.figure(wh) for wh in model.standby.wh_at_load]
        assert f"{text.figure(model.energy_wh)} Wh at 100\xa0% load" in rest, "a board that never rests"
        assert f"took {text.figure(model.spent.wh)} Wh" in said
        assert f"{0.475 * model.energy_wh:.3g} g CO2e (" in said

    def test_models_that_cannot_be_told_apart_are_named_and_what_is_assumed_is_said(self, sites, published):
        first, second, *_ = next(each for each in published.cohorts if each.key == "image_captioning").models
        assert first.rank_high >= second.rank_low
        said = soup(sites / "published" / "models" / f"{text.slug(first.model)}.html").get_text()
        assert f"Cannot be distinguished from {second.model}" in said
        assert said.count("assuming a noise of 1 %") >= 4  # interval, star, rank, and what measuring again would change

    def test_advice_agrees_with_the_bands(self, page, official):
        cohort = official.cohorts[0]
        edge = cohort.edges_wh[5 - cohort.models[3].stars]
        assert f"above {text.figure(edge)} Wh" in page.get_text()

    def test_records_are_offered_only_with_the_right_digest(self, sites, official, study, tmp_path):
        offered = {path.name for path in (sites / "official" / "records").iterdir()}
        assert len(offered) == 24
        first = official.cohorts[0].models[0].sessions[0]
        changed = tmp_path / "records" / "one"
        changed.mkdir(parents=True)
        record = json.loads(next(p for p in study.rglob("record.json") if first.record_id in p.read_text()).read_text())
        record["windows"][0]["energy_j"] *= 0.5
        (changed / "record.json").write_text(json.dumps(record))
        leaderboard.build(official, tmp_path / "site", records=[tmp_path / "records"], with_labels=False)
        assert not (tmp_path / "site" / "records").exists()

    def test_a_model_of_three_tasks_has_one_page(self, sites):
        page = soup(sites / "published" / "models" / f"{text.slug('google-t5/t5-base')}.html")
        tasks = ["question_answering", "summarization", "text_classification"]
        assert [article["id"] for article in page.select("article")] == tasks
        assert len(page.select("a.label")) == 3


@pytest.mark.parametrize("site", ["published", "official", "hostile"])
def test_every_link_leads_somewhere(sites, site):
    for path in (sites / site).rglob("*.html"):
        links = re.findall(r'<[^>]*\b(?:href|src)="([^"]*)"', path.read_text(encoding="utf-8"))
        for target in {link.split("#")[0] for link in links} - {""}:
            assert not re.match(r"[a-z]+:|//", target), target
            assert (path.parent / target).resolve().is_file(), target


class TestHostile:
    def test_nothing_in_them_acts(self, sites):
        for path in [sites / "hostile" / "index.html", *(sites / "hostile" / "models").glob("*.html")]:
            page = soup(path)
            assert [script.get("src") for script in page.select("script")] in ([], ["leaderboard.js"])
            assert not page.select("img[onerror], iframe, object, embed, base, form[action], style, [style]")
            for element in page.find_all(True):
                assert not [name for name in element.attrs if name.startswith("on")]
                assert not element.get("href", "").lower().startswith(("javascript:", "data:"))
            assert not re.search("[\x00\u202a-\u202e]", path.read_text(encoding="utf-8"))

    def test_commands_stay_one_word_a_name(self, sites, hostile_names):
        for name in hostile_names.values():
            page = soup(sites / "hostile" / "models" / f"{text.slug(name)}.html")
            words = shlex.split(page.select_one("pre").get_text())
            assert words[:2] == ["papermill", "notebooks/01-benchmark.ipynb"]
            assert words[words.index("model") + 1] == text.visible(name)

    def test_csv_has_no_formula_and_json_the_names_as_they_are(self, hostile, hostile_names):
        rows = list(csv.reader(io.StringIO(to_csv(hostile).decode())))
        assert {len(row) for row in rows} == {len(rows[0])}
        cells = [cell for row in rows[1:] for cell in row if not re.fullmatch(r"-?[\d.e+-]*", cell)]
        assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@", "|"))]
        assert len(rows) == len(hostile_names) + 1
        models = json.loads(to_json(hostile))["cohorts"][0]["models"]
        assert {model["model"] for model in models} == set(hostile_names.values())


def test_csv_json_and_the_release_beside_them_agree(official, sites):
    rows = list(csv.DictReader(io.StringIO(to_csv(official).decode())))
    content = json.loads(to_json(official))
    for row, item, model in zip(rows, content["cohorts"][0]["models"], official.cohorts[0].models, strict=True):
        assert row["model"] == item["model"] == model.model
        for energy_wh in (float(row["energy_wh_per_1000_queries"]), item["energy_wh_per_1000_queries"]):
            assert energy_wh == pytest.approx(model.energy_wh, rel=1e-5)
        assert int(row["stars"]) == item["stars"] == model.stars
        assert (row["official"], row["quality_metric"], row["sessions"]) == ("True", "accuracy", "3")
    assert content["release_sha256"] == official.digest()
    assert releases.read(sites / "official" / "release.json") == official


class TestFolder:
    def test_replaces_only_its_own(self, official, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(ReleaseError, match="holds other files"):
            leaderboard.build(official, tmp_path, with_labels=False)
        assert (tmp_path / "thesis.txt").read_text() == "years of work"

    def test_a_second_build_leaves_nothing_of_the_first(self, official, tmp_path):
        leaderboard.build(official, tmp_path / "site")
        smaller = official.cohorts[0].model_copy(update={"models": official.cohorts[0].models[:2]})
        leaderboard.build(official.model_copy(update={"cohorts": (smaller,)}), tmp_path / "site", with_labels=False)
        assert len(list((tmp_path / "site" / "models").iterdir())) == 2
        assert not (tmp_path / "site" / "labels").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["site"]


def luminance(colour):
    """Relative luminance of WCAG 2."""
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_colours_have_enough_contrast():
    style = Path(leaderboard.__file__).parent / "templates" / "leaderboard" / "style.css"
    modes = re.findall(r":root \{(.*?)\}", style.read_text(), flags=re.DOTALL)
    assert len(modes) == 2
    for mode in modes:
        light = {name: luminance(colour) for name, colour in re.findall(r"--([\w-]+): (#[0-9a-f]{6});", mode)}
        pairs = [(front, back) for front in ("ink", "quiet", "mark") for back in ("ground", "raised")]
        for pair in [*pairs, ("warn-ink", "warn-ground"), ("bad", "ground"), ("ground", "mark")]:
            low, high = sorted(light[name] for name in pair)
            assert (high + 0.05) / (low + 0.05) >= 4.5, pair
