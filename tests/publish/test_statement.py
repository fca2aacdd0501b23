"""The statement: what purchasing asks for, on one page, from the release alone, whatever the name."""

from __future__ import annotations

import json
import re

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from energylab import release
from energylab.cli import app
from energylab.errors import ParameterError, UnknownNameError
from energylab.publish import carbon, chromium, labels, names, statement
from energylab.publish.statement import markdown_text

GRID = carbon.Intensity(100.0, "somewhere", "a table")


def made(given, name, grid=GRID):
    cohort, model = labels.find(given, name)
    return statement.statement(given, cohort, model, grid), cohort, model


def rendered_markdown(text):
    """Return Markdown as a reader of tables renders it."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def facts(page):
    """Return what a statement's page says, section by section, label to value."""
    soup = BeautifulSoup(page, "html.parser")
    return {
        part.h2.text: {pair.dt.text: pair.dd.text for pair in part.select("dl > div")}
        for part in soup.select("section")
    }


def tables(text):
    """Return what a Markdown statement's tables say, as a reader renders them."""
    soup = BeautifulSoup(rendered_markdown(text), "html.parser")
    return {
        table.find_previous("h2").text: {
            row.find_all("td")[0].text: row.find_all("td")[1].text for row in table.tbody.find_all("tr")
        }
        for table in soup.find_all("table")
    }


def test_says_what_purchasing_asks_for(official):
    page, cohort, model = made(official, "org/model-3")
    said = facts(page.html())
    assert said["Energy"]["Per 1,000 queries"] == "13.5 Wh, measured by a hardware counter or sensor"
    low, high = model.expanded.low_wh, model.expanded.high_wh
    assert said["Energy"]["95 % interval"] == f"{low:.1f} – {high:.1f} Wh with the sensor’s error"
    assert said["Energy"]["Metered by"] == "nvml: nvmlDeviceGetTotalEnergyConsumption (measured)"
    assert "cooling" in said["Energy"]["Never included"]
    assert said["Energy"]["Invalid windows"] == "thermal_slowdown; they do not count"
    assert said["Rating"]["Stars"].startswith(f"{model.stars} of 5 stars, with probability")
    assert said["Rating"]["Scheme"] == "equal_width 1, methodology 1"
    assert said["Rating"]["Release"] == "official-2026-03, 5 March 2026"
    assert said["Rating"]["Official"] == "yes"
    ran = said["What ran"]
    assert ran["Hardware"] == "1 x NVIDIA H100 80GB HBM3"
    assert (ran["Precision"], ran["Quantisation"], ran["Driver"]) == ("float16", "none on record", "570.1")
    assert ran["Optimisations"] == "attention: default, compiled: no, batch size: 1, settings: as published"
    assert ran["Queries"] == "3 sessions of 2 runs of 20 queries, protocol 1"
    assert ran["Data"] == "EnergyStarAI/text_generation (hub)"
    assert said["Emissions"]["Grid assumed"] == "100 g CO2e per kWh, somewhere (a table)"
    assert said["Emissions"]["Per 1,000 queries"] == "1.35 g CO2e, of the device’s electricity alone"
    assert said["Evidence"]["Release sha256"] == official.digest()
    assert [v.removeprefix("sha256 ") for k, v in said["Evidence"].items() if k.startswith("Record")] == [
        session.digest for session in model.sessions
    ]


def test_markdown_says_the_same(official, published):
    for given, name in ((official, "org/model-3"), (published, "distilbert/distilgpt2")):
        page, _, _ = made(given, name)
        assert tables(page.markdown()) == {k: v for k, v in facts(page.html()).items() if k != "How to verify"}


def test_unofficial_pages_carry_their_band(published, hostile):
    page, cohort, _ = made(published, "distilbert/distilgpt2")
    assert "Imported: somebody else’s figures" in BeautifulSoup(page.html(), "html.parser").select_one(".band").text
    assert "> **Imported: somebody else’s figures" in page.markdown()
    said = facts(page.html())
    assert said["What ran"]["Quantisation"] == said["What ran"]["Optimisations"] == "not stated"
    assert said["Rating"]["Official"].startswith("no: energy is imported")
    page = made(hostile, "javascript:alert(1)")[0]
    assert page.band.startswith("Not for publication: data source is sample")


def test_hostile_names_are_text(hostile, hostile_names):
    for name in hostile_names.values():
        page, _, _ = made(hostile, name)
        soup = BeautifulSoup(page.html(), "html.parser")
        assert soup.h1.text == names.one_line(name)
        assert not soup.find_all(["script", "img", "a", "iframe"])
        rendered = BeautifulSoup(rendered_markdown(page.markdown()), "html.parser")
        assert not rendered.find_all(["script", "img", "a", "iframe"])
        assert rendered.h1.text == f"Energy statement: {' '.join(names.one_line(name).split(' '))}"
        assert len(rendered.find_all("table")) == 5
        for text in (page.html(), page.markdown()):
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", text)


@pytest.mark.parametrize(
    "text",
    ["a|b", "*b*", "[x](javascript:y)", "<b>", "`c`", "https://e.org", "www.e.org", "a@b.org", "&lt;", "~~s~~", "\\"],
)
def test_markdown_text_is_shown_as_it_is(text):
    rendered = rendered_markdown(markdown_text(text))
    assert BeautifulSoup(rendered, "html.parser").p.decode_contents() == (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def test_equal_input_gives_equal_bytes(official, tmp_path):
    written = []
    for folder in ("a", "b"):
        again = type(official).model_validate_json(official.to_bytes())
        cohort, model = labels.find(again, "org/model-3")
        written.append([p.read_bytes() for p in statement.write(again, cohort, model, GRID, tmp_path / folder)])
    assert written[0] == written[1]


def test_refers_to_nothing_outside(official):
    page = made(official, "org/model-3")[0].html()
    assert not re.search(r"(?:src|href|url|@import)\s*[=(]", page)


def test_grid_intensities():
    assert carbon.intensity().g_per_kwh == 475.0
    assert carbon.intensity().where == "world average"
    france = carbon.intensity("fra")
    assert france.where == "France"
    assert 20 < france.g_per_kwh < 100
    assert "CodeCarbon" in france.source
    assert carbon.intensity("FRA", 12.0).g_per_kwh == 12.0
    assert carbon.Intensity(400.0, "", "").grams(250.0) == 100.0
    with pytest.raises(UnknownNameError, match="unknown country 'FRANCE'"):
        carbon.intensity("FRANCE")
    with pytest.raises(ParameterError, match=r"grid intensity -1.0: must be"):
        carbon.intensity(g_per_kwh=-1.0)


def test_command(official, tmp_path):
    path = release.write(official, tmp_path)
    words = ["statement", str(path), "org/model-3", "--country", "USA", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    page, text = done.output.split()
    assert "United States" in (tmp_path / "out" / page.rpartition("/")[2]).read_text()
    assert text.endswith(".md")
    assert json.loads(path.read_text())["name"] == "official-2026-03"


@pytest.mark.skipif(chromium.find() is None, reason="Chromium is not installed")
def test_fits_one_sheet(official, published, tmp_path):
    for given, name in ((official, "org/model-3"), (published, "distilbert/distilgpt2")):
        cohort, model = labels.find(given, name)
        page, _ = statement.write(given, cohort, model, GRID, tmp_path)
        chromium.print_pdf(page, page.with_suffix(".pdf"))
        assert re.findall(rb"/Count (\d+)", page.with_suffix(".pdf").read_bytes()) == [b"1"]


def test_what_the_stars_rest_on_is_said_beside_them(published):
    cohort = next(each for each in published.cohorts if each.models[0].stars is not None)
    model = cohort.models[0].model_copy(update={"note": "thin group of 3 models: a star means little"})
    cohort = cohort.model_copy(update={"models": (model, *cohort.models[1:])})
    assert "thin group of 3 models" in statement.statement(published, cohort, model, GRID).markdown()
