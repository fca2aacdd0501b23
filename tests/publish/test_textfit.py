"""Names of any length and script fit their box, whatever font the reader has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energylab.publish.textfit import fit, right_to_left, width, wrap

BOX = (228.0, 40.0, 17.0, 7.5)


def inside(text, box_width, box_height, largest, smallest):
    fitted = fit(text, box_width, box_height, largest, smallest)
    assert smallest <= fitted.size <= largest
    assert len(fitted.lines) * fitted.line_height <= box_height + 0.1
    assert all(width(line) * fitted.size <= box_width + 0.01 for line in fitted.lines)
    return fitted


@settings(max_examples=150)
@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=320))
def test_anything_fits(text):
    inside(text, *BOX)


def test_longest_published_names_are_whole(published):
    for name in sorted({model.model for _, model in published.rated()}, key=len)[-10:]:
        assert "".join(inside(name, *BOX).lines).replace(" ", "") == name.replace(" ", "")


def test_short_names_are_large_and_long_ones_break_after_separators():
    assert fit("gpt2", *BOX).size == 17.0
    lines = fit("organisation-with-a-long-name/model-with-a-long-name", *BOX).lines
    assert len(lines) > 1
    assert all(line[-1] in "-/" for line in lines[:-1])


def test_what_cannot_fit_keeps_head_and_tail():
    lines = "".join(fit("head" + "x" * 400 + "tail", *BOX).lines)
    assert lines.startswith("head")
    assert lines.endswith("tail")
    assert "…" in lines


def test_wide_scripts_count_as_wide():
    assert width("模型") > 2
    assert width("e\u0301") == width("e")


@pytest.mark.parametrize(("text", "right"), [("نموذج", True), ("דגם-1", True), ("model نموذج", False), ("123", False)])
def test_direction(text, right):
    assert right_to_left(text) == right


def test_a_combining_mark_stays_with_its_base():
    assert all(not line.startswith("\u0301") for line in wrap("e\u0301" * 30, 3.0))
