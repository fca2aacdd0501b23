"""The strict reader of tables: the right value, or one sentence that names the file, the row and the fix."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import energylab
from energylab.csv_reader import read_sheet
from energylab.energy import model_energies
from energylab.errors import DataError


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("yes", "no"), [("TRUE", "FALSE"), ("yes", "no"), ("1", "0")])
def test_a_row_that_is_not_valid_is_no_session(tmp_path, yes, no):
    rows = f"task,model,session,energy_j,queries,valid\nt,small,a,820,1000,{yes}\nt,small,b,12,1000,{no}\n"
    (model,) = model_energies(energylab.read(written(tmp_path, rows))).models.itertuples()
    assert (model.energy_wh, model.sessions) == (pytest.approx(0.82 / 3.6), 1)


def test_semicolons_and_decimal_commas_are_read(tmp_path):
    content = "\ufefftask;model;energy_j;queries\nt; small ;0,25;1000\n\nt;small;0,75;1000\n"
    table = energylab.read(written(tmp_path, content))
    assert table["energy_j"].tolist() == [0.25, 0.75]
    assert set(table["model"]) == {"small"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (b"\xff\xfe\x00\x01,,\n\x00", "is not UTF-8 text"),
        (
            "task,model,energy_j,queries\na,b,1,2\na,b,1\n",
            "row 3: 3 cells where the header has 4; separate every cell by",
        ),
        ("task,model,energy_j,queries\na,b,1,2,\n", "row 2: 5 cells .* no comma after the last cell"),
        ("task,model,energy_j,queries,\na,b,1,2,\n", "row 1: has a column without a name"),
        ("task,model,model,energy_j,queries\na,b,b,1,2\n", "row 1: names 'model' twice"),
        ('task,model,energy_j,queries\na,"b,1,2\n', "cannot be read"),
        ("task,model,energy_j,queries\na,b,1,2.5\n", "row 2: queries=2.5 is not a whole number"),
        ("task,model,energy_j,queries\na,b,inf,2\n", "row 2: energy_j='inf' is not a number"),
    ],
)
def test_what_is_not_a_table_says_why_and_where(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as error:
        energylab.read(written(tmp_path, content))
    assert "mine.csv" in str(error.value)


def test_importers_read_cells_by_the_same_rules():
    sheet = read_sheet(Path("x.csv"), b"a ,b\n 1 , two \n,\n3,four\n")
    assert sheet.columns == ("a", "b")
    assert sheet.numbers("a").dropna().to_dict() == {2: 1.0, 4: 3.0}
    assert sheet.texts("b").dropna().to_dict() == {2: "two", 4: "four"}
    pd.testing.assert_index_equal(sheet.cells.index, pd.Index([2, 4]))
