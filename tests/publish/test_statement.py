"""The statement: every sentence true of records that were repeated, measured once, imported, estimated, unrated."""

from __future__ import annotations

import re

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from release_builders import record_of, released
from typer.testing import CliRunner

from energylab import release
from energylab.cli import app
from energylab.publish import chromium, page, statement, text
from energylab.publish.emissions import Grid

GRID = Grid("", "somewhere", 100.0, "a table")


def said(html):
    """Return what a page's tables say: heading to label to value."""
    soup = BeautifulSoup(html, "html.parser")
    return {
        table.find_previous("h2").text: {
            row.find_all("td")[0].text: row.find_all("td")[1].text for row in table.find_all("tr") if row.find("td")
        }
        for table in soup.find_all("table")
    }


def of(made, name):
    return said(statement.html(made, *page.find(made, name), GRID))


def test_says_what_purchasing_asks_for(official):
    _, model = page.find(official, "org/model-3")
    found = of(official, "org/model-3")
    assert found["Energy"]["Per 1,000 queries"] == "13.5 Wh, measured by a hardware counter or sensor"
    assert found["Energy"]["Repeatability"].endswith("Wh, from 3 sessions")
    span = f"{model.expanded.low_wh:.1f} – {model.expanded.high_wh:.1f} Wh"
    assert found["Energy"]["95 % interval"] == f"{span}, including the sensor’s gain error of up to ±5 %"
    assert found["Energy"]["Meter"] == "nvml: nvmlDeviceGetTotalEnergyConsumption (measured)"
    assert "cooling" in found["Energy"]["Not included"]
    assert found["Energy"]["Invalid windows"] == "thermal_slowdown; not included"
    assert found["Rating"]["Stars"].startswith(f"{model.stars} of 5 stars, with probability")
    assert found["Rating"]["Rank by energy"].startswith("4 of 8")
    assert found["Energy"]["Standby"] == "70.0 W with the weights loaded"
    assert found["Rating"]["Official"] == "yes"
    ran = found["Setup"]
    assert ran["Hardware"] == "1 x NVIDIA H100 80GB HBM3"
    assert (ran["Precision"], ran["Quantisation"], ran["Driver"]) == ("float16", "none recorded", "570.1")
    assert ran["Data"] == "hub EnergyStarAI/text_generation"
    assert ran["Queries"].startswith("3 sessions of 2 runs of 20 queries, protocol")
    assert found["Emissions"]["Per 1,000 queries"].startswith("1.35 g CO2e (1.27 – 1.43 by the energy’s interval)")
    assert found["Evidence"]["Release sha256"] == official.digest()
    digests = [value.removeprefix("sha256 ") for key, value in found["Evidence"].items() if key.startswith("Record")]
    assert digests == [session.digest for session in model.sessions]


def test_markdown_and_page_say_the_same(official, published):
    for made, name in ((official, "org/model-3"), (published, "distilbert/distilgpt2")):
        markdown = statement.markdown(made, *page.find(made, name), GRID)
        rendered = MarkdownIt("commonmark").enable(["table"]).render(markdown)
        assert said(rendered) == of(made, name)


def test_records_measured_once_claim_no_repeats(tmp_path):
    records = [record_of(f"org/m{n}", 4.0 + n) for n in range(3)]
    found = of(released(records, tmp_path, draws=200, noise=0.02), "org/m1")
    assert "from 1 session" not in found["Energy"]["Repeatability"]
    assert "assuming a noise of 2 %" in found["Rating"]["Stars"]
    assert re.search("not repeated|not from repeats", found["Energy"]["Repeatability"])
    bare = of(released(records, tmp_path), "org/m1")
    assert "not from repeats of this model" in bare["Energy"]["Repeatability"]


def test_imported_figures_are_said_to_be_imported(published):
    html = statement.html(published, *page.find(published, "distilbert/distilgpt2"), GRID)
    assert "Imported figures, not measured here" in BeautifulSoup(html, "html.parser").blockquote.text
    found = said(html)
    assert found["Energy"]["Repeatability"].endswith("assumed (noise of 1 %): not repeated")
    for section, row in (("Rating", "Stars"), ("Rating", "Rank by energy"), ("Energy", "95 % interval")):
        assert "assuming a noise of 1 %" in found[section][row]
    assert found["Setup"]["Quantisation"] == found["Setup"]["Settings"] == "not stated"
    assert found["Rating"]["Official"].startswith("no: energy is imported")


def test_an_estimate_has_no_sensor(tmp_path):
    records = [record_of(f"org/m{n}", 4.0 + n, s, kind="estimated", device="Example CPU", data="sample")
               for n in range(3) for s in range(3)]  # fmt: skip
    found = of(released(records, tmp_path), "org/m1")
    assert "instead of a sensor’s gain error; it does not cover" in found["Energy"]["95 % interval"]
    assert "factor of two" in found["Energy"]["95 % interval"]
    assert found["Setup"]["Data"] == "sample text_generation", "its kind once"
    assert found["Energy"]["Not included"].startswith("memory, accelerators and the rest of the host")


def test_hardware_that_is_not_stated_is_not_claimed(tmp_path):
    (tmp_path / "t.csv").write_text("task,model,energy_j,queries\nqa,a,3600,1000\nqa,b,9000,1000\n")
    made = release.make([tmp_path / "t.csv"], name="csv", date="2026-03-05", draws=200, noise=0.01)
    found = of(made, "a")
    assert found["Setup"]["Hardware"] == "not stated"
    assert found["Energy"]["Not included"] == page.UNKNOWN


def test_hostile_names_are_text(hostile, hostile_names):
    for name in hostile_names.values():
        html = statement.html(hostile, *page.find(hostile, name), GRID)
        soup = BeautifulSoup(html, "html.parser")
        assert soup.h1.text == f"Energy statement: {text.one_line(name)}"
        assert not soup.find_all(["script", "img", "a", "iframe"])
        assert len(soup.find_all("table")) == 5
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", html)


def test_command(official, tmp_path):
    path = release.write(official, tmp_path)
    words = ["statement", str(path), "org/model-3", "--country", "USA", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    html, markdown = done.output.split()
    assert "United States" in (tmp_path / "out" / html.rpartition("/")[2]).read_text()
    assert markdown.endswith(".md")


@pytest.mark.skipif(chromium.find() is None, reason="Chromium is not installed")
def test_fits_one_sheet(official, published, tmp_path):
    for made, name in ((official, "org/model-3"), (published, "distilbert/distilgpt2")):
        html, _ = statement.write(made, *page.find(made, name), GRID, tmp_path)
        chromium.print_pdf(html, html.with_suffix(".pdf"))
        assert re.findall(rb"/Count (\d+)", html.with_suffix(".pdf").read_bytes()) == [b"1"]
