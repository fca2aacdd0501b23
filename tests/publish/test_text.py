"""Names made by strangers come out as text, and figures as people read them."""

from __future__ import annotations

import re
import unicodedata

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from energylab.errors import ParameterError, UnknownNameError
from energylab.publish import emissions, text
from energylab.publish.textfit import fit, width, wrap

ANY = st.text(st.characters(exclude_categories=()))
BOX = (228.0, 40.0, 17.0, 7.5)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("模型/モデル-نموذج 👩‍🔬", "模型/モデル-نموذج 👩‍🔬"),
        ("a\x00b", "a⟨U+0000⟩b"),
        ("a\u202egnp", "a⟨U+202E⟩gnp"),
        ("a\ud800b", "a⟨U+D800⟩b"),
        ("a\uffffb", "a⟨U+FFFF⟩b"),
    ],
)
def test_what_hides_is_written_out(given, shown):
    assert text.visible(given) == shown


@given(ANY)
def test_visible_text_is_legal_everywhere(given):
    shown = text.one_line(given)
    shown.encode("utf-8")
    assert not any(unicodedata.category(mark) in ("Cc", "Cs", "Zl", "Zp") for mark in shown)
    assert text.one_line(shown) == shown


@given(ANY, ANY)
def test_slugs_are_file_names_and_differ(one, other):
    assert re.fullmatch(r"[a-z0-9-]{1,40}-[0-9a-f]{8}", text.slug(one))
    assert (text.slug(one) == text.slug(other)) == (one == other)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "|", "＝"])
def test_no_formula_in_a_cell(start):
    assert text.csv_text(f"{start}1+1").startswith("'")
    assert text.csv_text("org/model-1") == "org/model-1"


@pytest.mark.parametrize(
    "given", ["a|b", "*b*", "[x](javascript:y)", "<b>", "`c`", "https://e.org", "www.e.org", "a@b.org", "&lt;", "\\"]
)
def test_markdown_shows_text_as_it_is(given):
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text.markdown_text(given))
    escaped = given.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert BeautifulSoup(rendered, "html.parser").p.decode_contents() == escaped


@pytest.mark.parametrize(
    ("write", "shown"),
    [
        (text.figure, {0.0554: "0.0554", 1.313333: "1.31", 9.996: "10.00", 10.0: "10.0", 178: "178", 1639.8: "1,640"}),
        (text.percent, {1.0: "> 99 %", 0.99: "99 %", 0.5: "50 %", 0.009: "< 1 %"}),
        (text.count, {999: "999", 22_713_216: "22.7 M", 999_999_999: "1 B"}),
    ],
    ids=["three significant digits", "no probability is certain", "parameters"],
)  # fmt: skip
def test_numbers_as_people_read_them(write, shown):
    assert {number: write(number).replace("\u00a0", " ") for number in shown} == shown


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=320))
def test_any_name_fits_its_box(name):
    fitted = fit(name, *BOX)
    assert len(fitted.lines) * fitted.line_height <= 40.1
    assert all(width(line) * fitted.size <= 228.01 for line in fitted.lines)


def test_names_break_after_separators_and_lose_their_middle():
    lines = fit("organisation-with-a-long-name/model-with-a-long-name", *BOX).lines
    assert len(lines) > 1
    assert all(line[-1] in "-/" for line in lines[:-1])
    cut = "".join(fit("head" + "x" * 400 + "tail", *BOX).lines)
    assert (cut[:4], cut[-4:], "…" in cut) == ("head", "tail", True)
    assert all(not line.startswith("\u0301") for line in wrap("e\u0301" * 30, 3.0))


def test_grids():
    assert emissions.grid_of().g_per_kwh == 475.0
    assert emissions.grid_of("fra") == emissions.grid_of("France")
    assert 0 < emissions.grid_of("FRA").g_per_kwh < 150 < emissions.grid_of("POL").g_per_kwh
    assert emissions.grid_of("FRA", 400.0).grams(250.0) == 100.0
    with pytest.raises(UnknownNameError, match="did you mean 'France'"):
        emissions.grid_of("Frnce")
    with pytest.raises(ParameterError, match=r"grid intensity -1.0: give grams"):
        emissions.grid_of(g_per_kwh=-1.0)
