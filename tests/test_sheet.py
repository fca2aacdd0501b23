"""Tables as people have them: each gives the right value, or one sentence that names the file, the row and the fix."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import energylab
from energylab.energy import model_energies
from energylab.errors import CohortError, DataError
from energylab.formats import study_table
from energylab.sheet import read_sheet

CASES = Path(__file__).parent / "fixtures" / "cases"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_decimal_commas_never_shift_a_column():
    with pytest.raises(DataError, match=r"mine\.csv, row 2: 6 cells where the header has 5; write decimals with a"):
        energylab.read(CASES / "decimal-comma-row" / "mine.csv")


def test_truth_in_another_language_is_refused():
    with pytest.raises(DataError, match=r"row 2: valid='WAHR' is neither yes nor no; write true or false"):
        energylab.read(CASES / "valid-in-german" / "mine.csv")


@pytest.mark.parametrize(("yes", "no"), [("TRUE", "FALSE"), ("yes", "no"), ("1", "0")])
def test_a_row_that_is_not_valid_is_no_session(tmp_path, yes, no):
    rows = f"task,model,session,energy_j,queries,valid\nt,small,a,820,1000,{yes}\nt,small,b,12,1000,{no}\n"
    (model,) = model_energies(energylab.read(written(tmp_path, rows))).models.itertuples()
    assert (model.energy_wh, model.sessions) == (pytest.approx(0.82 / 3.6), 1)


def test_numbers_that_are_names_stay_names():
    table = energylab.read(CASES / "numeric-names" / "mine.csv")
    assert table["model"].tolist() == ["3.1", "3.10", "4"]
    assert model_energies(table).models["model"].tolist() == ["3.1", "3.10", "4"]


@pytest.mark.parametrize("name", ["cohort", "dtype"])
def test_columns_beyond_the_four_are_read_as_text(name):
    table = energylab.read(CASES / "more-columns" / f"{name}.csv")
    assert table[name].tolist() == {"cohort": ["1", "2"], "dtype": ["16", "16"]}[name]
    assert len(model_energies(table).models) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("parameters", "row 2: parameters='7B' is not a number"),
        ("quality", "row 2: quality='30,1' is not a number: write 30.1"),
    ],
)
def test_columns_beyond_the_four_that_are_no_numbers_are_refused(name, message):
    with pytest.raises(DataError, match=message):
        energylab.read(CASES / "more-columns" / f"{name}.csv")


@pytest.mark.parametrize("order", [("mine", "theirs"), ("theirs", "mine")])
def test_kind_and_hardware_that_a_file_does_not_state_are_not_its_neighbours(order):
    table = energylab.read(*(CASES / "kind-not-stated" / f"{name}.csv" for name in order)).set_index("model")
    assert table.loc["theirs", "energy_kind"] == "not stated"
    assert pd.isna(table.loc["theirs", "device"])
    assert table.loc["mine", ["energy_kind", "device"]].tolist() == ["measured", "NVIDIA H100 80GB HBM3"]
    with pytest.raises(CohortError, match="mixes energy_kind: measured, not stated"):
        model_energies(table.reset_index())


def test_names_that_begin_like_a_formula_come_back(tmp_path):
    mine = written(tmp_path, (CASES / "names-with-at" / "mine.csv").read_text() + "translation,-minus,100,1000\n")
    names = ["@cf/meta/llama-3.1-8b-instruct", "@cf/mistral/mistral-7b", "large", "-minus"]
    for path in [mine, *study_table.write([mine], tmp_path / "out")[:2]]:
        assert energylab.read(path)["model"].tolist() == names


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
