"""Files as people have them, one folder a situation: each gives the right value, or is refused with one sentence."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import energylab
from energylab.energy import model_energies
from energylab.errors import CohortError, DataError, FormatError, StudyError
from energylab.formats import Asked, import_files, study_table
from energylab.studies import plan as planning

CASES = Path(__file__).parent / "fixtures" / "cases"
ASKED = {"task": "translation", "queries": 1000}


def imported(tmp_path, *names, output="out", **asked):
    """Import files of the cases one call each, and return all records that are there afterwards by model."""
    for name in names:
        import_files([CASES / name], tmp_path / output, Asked(**{**ASKED, **asked}))
    return energylab.read(tmp_path / output)


def test_rows_that_grow_under_one_run_are_its_sums_so_far(tmp_path):
    table = imported(tmp_path, "codecarbon-flush/emissions.csv", model_column="project_name")
    models = model_energies(table).models.set_index("model")
    assert models.energy_wh["small"] == pytest.approx(12.0)
    assert (models.sessions == 1).all()


def test_rows_that_do_not_grow_are_tasks_of_one_run(tmp_path):
    table = imported(tmp_path, "codecarbon-task/emissions_base.csv", model_column="task_name")
    assert model_energies(table).models.set_index("model").energy_wh.to_dict() == pytest.approx(
        {"infer": 4.0, "load": 0.4}
    )
    table = imported(tmp_path, "codecarbon-task/emissions_base.csv", output="one", model="m")
    models = model_energies(table).models.sort_values("energy_wh")
    assert models.energy_wh.tolist() == pytest.approx([0.4, 4.0]), "never one as the other's repeat"
    assert models.sessions.tolist() == [1, 1]


@pytest.mark.parametrize(
    "name",
    [
        "codecarbon-other-ending/emissions.csv.bak",
        "codecarbon-semicolons/emissions.csv",
        "codecarbon-padded/emissions.csv",
    ],
)
def test_a_sound_file_is_read_whatever_its_ending_its_separators_and_its_blanks(name, tmp_path):
    for format in (None, "codecarbon"):
        [found] = import_files([CASES / name], tmp_path / str(format), Asked(**ASKED, model="small"), format)
        assert (found.rated.with_wh, found.record.queries) == (pytest.approx(4.0), 1000)
    with pytest.raises(FormatError, match="does not have the format ml-energy"):
        import_files([CASES / name], tmp_path, Asked(**ASKED, model="small"), "ml-energy")


def test_two_unlike_gpus_in_one_cell_are_no_invented_board(tmp_path):
    [found] = import_files([CASES / "codecarbon-two-gpus/emissions.csv"], tmp_path, Asked(**ASKED, model="small"))
    assert [device.name for device in found.record.devices] == [None, None]
    assert "names cannot be told apart" in found.record.extra["import"]["notes"][1]
    assert found.rated.with_wh == pytest.approx(4.0)


def test_a_file_that_has_grown_counts_each_run_once(tmp_path):
    names = ("grown-file/monday.csv", "grown-file/friday.csv")
    table = imported(tmp_path, *names, model_column="project_name")
    models = model_energies(table).models.set_index("model")
    assert models.energy_wh["small"] == pytest.approx(11.6)
    assert models.sessions.to_dict() == {"large": 1, "small": 2}
    rated = energylab.rate(table, noise=None).set_index("model")
    assert pd.isna(rated.repeatability_low["large"]), "one session, no interval"


def test_a_run_that_went_on_replaces_its_earlier_sum(tmp_path):
    lines = (CASES / "codecarbon-flush/emissions.csv").read_text().splitlines(keepends=True)
    early = tmp_path / "emissions.csv"
    for rows in (2, 4, 3):  # once more from an older copy
        early.write_text("".join(lines[:rows]))
        import_files([early], tmp_path / "out", Asked(**ASKED, model="small"))
    [model] = model_energies(energylab.read(tmp_path / "out")).models.itertuples()
    assert (model.energy_wh, model.sessions) == (pytest.approx(12.0), 1)


def test_a_run_in_two_files_is_one_session(tmp_path):
    for output, together in (("one", True), ("two", False)):
        files = [CASES / "same-run-in-two-files" / name for name in ("gpqa.json", "org__a__gpqa.json")]
        for some in [files] if together else [[file] for file in files]:
            import_files(some, tmp_path / output)
        sessions = model_energies(energylab.read(tmp_path / output)).models.set_index("model").sessions
        assert sessions.to_dict() == {"org/a": 1, "org/b": 1, "org/c": 1}


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path):
    with pytest.raises(StudyError, match=r"study.yaml: the key 'sweeps' is repeated in line 9"):
        planning.load(CASES / "duplicate-key-yaml/study.yaml")
    with pytest.raises(FormatError, match=r"benchmark_report.json: the key 'forward' is repeated in line 2"):
        imported(tmp_path, "duplicate-key-json/benchmark_report.json", model="m")
    tabbed = tmp_path / "tabbed.json"
    tabbed.write_text('{\n\t"forward": 1,\n\t"forward": 2\n}')  # which YAML's reader cannot place
    with pytest.raises(FormatError, match=r"tabbed.json: the key 'forward' is repeated"):
        import_files([tabbed], tmp_path)


@pytest.mark.parametrize("order", [("mine", "theirs"), ("theirs", "mine")])
def test_kind_and_hardware_that_a_file_does_not_state_are_not_its_neighbours(order):
    table = energylab.read(*(CASES / "kind-not-stated" / f"{name}.csv" for name in order)).set_index("model")
    assert table.loc["theirs", "energy_kind"] == "not stated"
    assert pd.isna(table.loc["theirs", "device"])
    with pytest.raises(CohortError, match="mixes energy_kind: measured, not stated"):
        model_energies(table.reset_index())


HEADER = "task,model,energy_j,queries"


@pytest.mark.parametrize(
    ("text", "energies_wh"),
    [
        (f"{HEADER},session,valid\nt,small,3600,1000,a,TRUE\nt,small,12,1000,b,FALSE\n", {"small": 1}),
        (f"{HEADER},session,valid\nt,small,3600,1000,a,yes\nt,small,12,1000,b,no\n", {"small": 1}),
        (f"{HEADER},session,valid\nt,small,3600,1000,a,1\nt,small,12,1000,b,0\n", {"small": 1}),
        ("\ufefftask;model;energy_j;queries\nt; small ;0,36;1\n\nt;large;0,72;1\n", {"small": 0.1, "large": 0.2}),
        (f"{HEADER}\nt,3.1,3600,1000\nt,3.10,7200,1000\nt,4,10800,1000\n", {"3.1": 1, "3.10": 2, "4": 3}),
        (f"{HEADER},cohort\nt,s,3600,1000,1\nt,l,7200,1000,2\n", {"s": 1, "l": 2}),
        (f"{HEADER},dtype\nt,s,3600,1000,16\nt,l,7200,1000,16\n", {"s": 1, "l": 2}),
    ],
    ids=["TRUE", "yes", "1", "decimal commas", "numbers as names", "numbers as cohorts", "numbers as dtypes"],
)  # fmt: skip
def test_a_table_of_ones_own_is_read(text, energies_wh, tmp_path):
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8")
    rated = energylab.rate(energylab.read(tmp_path / "mine.csv")).set_index("model")
    assert rated.energy_wh.to_dict() == pytest.approx(energies_wh)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (b"\xff\xfe\x00\x01,,\n\x00", "is not UTF-8 text"),
        ("task,model\nt,m\n", "lacks .energy_j., .queries.; it needs task"),
        (f"{HEADER}\na,b,1,2\na,b,1\n", "row 3: 3 cells where the header has 4; separate all cells by"),
        (f"{HEADER}\na,b,1,2,\n", "row 2: 5 cells .* no comma after the last cell"),
        (f"{HEADER}\na,b,1,2,5\n", "row 2: 5 cells where the header has 4; write decimals with a"),
        (f"{HEADER},\na,b,1,2,\n", "row 1: has a column without a name"),
        ("task,model,model,energy_j,queries\na,b,b,1,2\n", "row 1: names 'model' twice"),
        (f'{HEADER}\na,"b,1,2\n', "cannot be read"),
        (f"{HEADER}\na,b,1,2.5\n", "row 2: queries=2.5 is not a whole number"),
        (f"{HEADER}\na,b,1,2\n,,,\n\na,b,inf,2\n", "row 5: energy_j='inf' is not a number"),
        (f"{HEADER},parameters\na,b,1,2,7B\n", "parameters='7B' is not a number"),
        (f'{HEADER},quality\na,b,1,2,"30,1"\n', "quality='30,1' is not a number: write 30.1"),
        (f"{HEADER},valid\na,b,1,2,WAHR\n", "row 2: valid='WAHR' is neither yes nor no; write true or false"),
    ],
)
def test_what_is_not_a_table_says_why_and_where(content, message, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as error:
        energylab.read(path)
    assert "mine.csv" in str(error.value)


def test_names_that_begin_like_a_formula_are_none_in_the_csv_and_come_back(tmp_path):
    names = ["@cf/meta/llama-3.1-8b-instruct", "large", "-minus", "=SUM(A1)"]
    mine = tmp_path / "mine.csv"
    mine.write_text("\n".join([HEADER, *(f"translation,{name},100,1000" for name in names)]))
    table, parquet, _ = study_table.write([mine], tmp_path / "out")
    assert pd.read_csv(table)["model"].tolist() == [name if name == "large" else f"'{name}" for name in names]
    for path in (table, parquet):
        assert energylab.read(path)["model"].tolist() == names


def test_a_misspelt_column_is_named(tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("task,model,energy_j,queries,enery_kind,comment\ntranslation,a,100,1000,measured,good\n")
    with pytest.warns(UserWarning, match="column 'enery_kind' is not used; did you mean 'energy_kind'") as found:
        energylab.read(mine)
    assert len(found) == 1


def test_every_case_is_tried():
    text = Path(__file__).read_text(encoding="utf-8")
    assert [folder.name for folder in CASES.iterdir() if folder.name not in text] == []
