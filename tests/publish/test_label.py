"""The label: everything it must say, inside its margins, whatever the name."""

from __future__ import annotations

import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest

from energylab.errors import MissingExtraError, ReleaseError, UnknownNameError
from energylab.publish import chromium, label, page

SVG = "{http://www.w3.org/2000/svg}"


def drawn(release, cohort, model):
    return ElementTree.fromstring(label.svg(release, cohort, model))


def texts(root):
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def test_says_everything(official):
    cohort = official.cohorts[0]
    model = cohort.models[2]
    root = drawn(official, cohort, model)
    said = " | ".join(texts(root))
    for part in (
        "org/model-2", "Text generation, class A", f"{model.stars} of 5 stars", "rank 3", "9.00", "95 %", "measured",
        "Wh per 1,000 queries", "NVIDIA H100 80GB HBM3", "March 2026", "official-2026-03", "Standby 70.0 W",
        "Scheme equal width", "Not included: host, cooling, PUE",
    ):  # fmt: skip
        assert part in said
    assert "NOT FOR PUBLICATION" not in said
    assert root.find(f"{SVG}title").text == "Energy label of org/model-2"
    assert "9.00 Wh per 1,000 queries" in root.find(f"{SVG}desc").text


def test_as_many_stars_are_filled_as_are_given(published):
    cohort = next(cohort for cohort in published.cohorts if cohort.key == "text_generation-A")
    assert {model.stars for model in cohort.models} == {1, 2, 3, 4, 5}
    for model in cohort.models:
        filled = [star.get("fill") for star in drawn(published, cohort, model).iter(f"{SVG}polygon")]
        assert [colour == "#0a6a62" for colour in filled] == [n < model.stars for n in range(5)]
    unrated = cohort.models[0].model_copy(update={"stars": None})
    assert not list(drawn(published, cohort, unrated).iter(f"{SVG}polygon")), "five empty stars would look like none"


def test_unofficial_labels_carry_a_band(published, hostile):
    assert "IMPORTED FIGURES, NOT MEASURED HERE" in texts(drawn(published, *next(published.rated())))
    said = " ".join(texts(drawn(hostile, *next(hostile.rated()))))
    assert "NOT FOR PUBLICATION: estimated energy, random weights" in said


def test_hostile_names_are_text_and_nothing_outside_is_referred_to(hostile, hostile_names):
    titles = set()
    for cohort, model in hostile.rated():
        svg = label.svg(hostile, cohort, model)
        titles.add(ElementTree.fromstring(svg).find(f"{SVG}title").text)
        assert not re.search(r"<(image|script|style|use|a|foreignObject)\b", svg)
        assert not re.search(r"\b(href|src|style|on\w+)\s*=", re.sub(r">[^<]*<", "><", svg))
        assert "url(" not in svg
    assert {"Energy label of <script>alert(1)</script>", "Energy label of safe/⟨U+202E⟩gnp.exe"} <= titles
    assert len(titles) == len(hostile_names)


def test_its_code_says_the_address_or_what_proves_the_label(official, published):
    said = label.qr_text(official, official.cohorts[0].models[0])
    assert re.fullmatch(r"https://example\.org/energy/models/org-model-0-[0-9a-f]{8}\.html", said)
    said = label.qr_text(published, published.cohorts[0].models[0])
    assert said.startswith("energylab release published-2025-02 models/")
    assert said.endswith(published.digest()[:16])


def test_a_name_that_is_not_there_and_one_that_is_rated_twice(published):
    with pytest.raises(UnknownNameError, match="did you mean 'openai-community/gpt2'"):
        page.find(published, "openai-comunity/gpt2")
    with pytest.raises(ReleaseError, match="Question answering, Summarization"):
        page.find(published, "google-t5/t5-base")
    assert page.find(published, "google-t5/t5-base", task="summarization")[0].task == "summarization"


def test_without_chromium_the_way_out_is_named(official, tmp_path, monkeypatch):
    monkeypatch.setattr(chromium, "find", lambda: None)
    with pytest.raises(MissingExtraError, match="apt-get install chromium"):
        label.write(official, *next(official.rated()), "png", tmp_path / "label.png")


@pytest.mark.skipif(chromium.find() is None, reason="Chromium is not installed")
def test_png_and_pdf_have_its_size_and_a_scanner_reads_its_code(official, tmp_path):
    from PIL import Image

    cohort, model = next(official.rated())
    pdf = label.write(official, cohort, model, "pdf", tmp_path / "label.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert [float(side) * 96 / 72 for side in box.groups()] == pytest.approx([260, 364], abs=1)
    png = label.write(official, cohort, model, "png", tmp_path / "label.png")
    assert Image.open(png).size == (1040, 1456)
    if shutil.which("zbarimg") is None:
        pytest.skip("zbarimg is not installed (Debian: apt-get install zbar-tools)")
    read = subprocess.run(["zbarimg", "-q", "--raw", str(png)], capture_output=True, text=True, check=True)
    assert read.stdout.strip() == label.qr_text(official, model)
