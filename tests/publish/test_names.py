"""Names made by strangers come out as text."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylab.publish import names


def test_plain_names_stay():
    assert names.visible("meta-llama/Llama-3.1-8B") == "meta-llama/Llama-3.1-8B"
    assert names.visible("模型/モデル-نموذج 👩‍🔬") == "模型/モデル-نموذج 👩‍🔬"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a⟨U+0000⟩b"),
        ("a\u202egnp", "a⟨U+202E⟩gnp"),
        ("a\ufeffb", "a⟨U+FEFF⟩b"),
        ("a\ud800b", "a⟨U+D800⟩b"),
        ("a\uffffb", "a⟨U+FFFF⟩b"),
        ("a\x1b[31m", "a⟨U+001B⟩[31m"),
    ],
)
def test_what_hides_is_written_out(text, shown):
    assert names.visible(text) == shown


def test_one_line():
    assert names.one_line("a\nb\tc") == "a⟨U+000A⟩b⟨U+0009⟩c"


@given(st.text(st.characters(exclude_categories=())))
def test_visible_text_is_legal_everywhere(text):
    shown = names.one_line(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(mark) in ("Cc", "Cs", "Zl", "Zp") for mark in shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\ufffe\uffff]", shown)
    assert names.one_line(shown) == shown


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_slugs_are_file_names_and_differ(one, other):
    assert re.fullmatch(r"[a-z0-9-]{1,40}-[0-9a-f]{8}", names.slug(one))
    assert (names.slug(one) == names.slug(other)) == (one == other)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "|", "＝"])
def test_no_formula_in_a_cell(start):
    assert names.csv_text(f"{start}1+1").startswith("'")


def test_ordinary_cells_stay():
    assert names.csv_text("org/model-1") == "org/model-1"


def test_anchor():
    assert names.anchor("text_generation-A") == "text_generation-A"
    assert re.fullmatch(r"[a-z0-9-]+", names.anchor('"><script>'))
