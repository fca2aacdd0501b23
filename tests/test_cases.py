"""Files as people have them, one folder a situation: each gives the right value, or is refused with one sentence."""

from __future__ import annotations

import shutil
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


@pytest.mark.parametrize("format", [None, "codecarbon"])
def test_a_sound_file_of_another_ending_is_read(format, tmp_path):
    asked = Asked(**ASKED, model="small")
    [found] = import_files([CASES / "codecarbon-other-ending/emissions.csv.bak"], tmp_path, asked, format)
    assert found.new
    assert (found.rated.with_wh, found.record.queries) == (pytest.approx(4.0), 1000)
    with pytest.raises(FormatError, match="is not of format ml-energy"):
        import_files([CASES / "codecarbon-other-ending/emissions.csv.bak"], tmp_path, asked, "ml-energy")


@pytest.mark.parametrize("name", ["codecarbon-semicolons", "codecarbon-padded"])
def test_semicolons_decimal_commas_and_padded_cells_are_read(name, tmp_path):
    [model] = model_energies(imported(tmp_path, f"{name}/emissions.csv", model="small")).models.itertuples()
    assert model.energy_wh == pytest.approx(4.0)


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


def test_a_decimal_comma_is_never_a_hundred_times_more(tmp_path):
    with pytest.raises(FormatError, match="GPU_ENERGY_WH.txt is of no known format"):
        imported(tmp_path, "decimal-comma-text/GPU_ENERGY_WH.txt", model="m")


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path):
    with pytest.raises(StudyError, match=r"study.yaml: the key 'sweeps' stands twice, again in line 9"):
        planning.load(CASES / "duplicate-key-yaml/study.yaml")
    with pytest.raises(FormatError, match=r"benchmark_report.json: the key 'forward' stands twice, again in line 2"):
        imported(tmp_path, "duplicate-key-json/benchmark_report.json", model="m")
    tabbed = tmp_path / "tabbed.json"
    tabbed.write_text('{\n\t"forward": 1,\n\t"forward": 2\n}')  # which YAML's reader cannot place
    with pytest.raises(FormatError, match=r"tabbed.json: the key 'forward' stands twice"):
        import_files([tabbed], tmp_path)


def test_decimal_commas_never_shift_a_column():
    with pytest.raises(DataError, match=r"mine\.csv, row 2: 6 cells where the header has 5; write decimals with a"):
        energylab.read(CASES / "decimal-comma-row/mine.csv")


def test_truth_in_another_language_is_refused():
    with pytest.raises(DataError, match=r"row 2: valid='WAHR' is neither yes nor no; write true or false"):
        energylab.read(CASES / "valid-in-german/mine.csv")


def test_numbers_that_are_names_stay_names():
    table = energylab.read(CASES / "numeric-names/mine.csv")
    assert model_energies(table).models["model"].tolist() == ["3.1", "3.10", "4"]


@pytest.mark.parametrize("name", ["cohort", "dtype"])
def test_more_columns_are_read(name):
    assert len(energylab.rate(energylab.read(CASES / "more-columns" / f"{name}.csv"))) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [("parameters", "parameters='7B' is not a number"), ("quality", "quality='30,1' is not a number: write 30.1")],
)
def test_more_columns_that_are_no_numbers_are_refused(name, message):
    with pytest.raises(DataError, match=message):
        energylab.read(CASES / "more-columns" / f"{name}.csv")


@pytest.mark.parametrize("order", [("mine", "theirs"), ("theirs", "mine")])
def test_kind_and_hardware_that_a_file_does_not_state_are_not_its_neighbours(order):
    table = energylab.read(*(CASES / "kind-not-stated" / f"{name}.csv" for name in order)).set_index("model")
    assert table.loc["theirs", "energy_kind"] == "not stated"
    assert pd.isna(table.loc["theirs", "device"])
    with pytest.raises(CohortError, match="mixes energy_kind: measured, not stated"):
        model_energies(table.reset_index())


def test_names_that_begin_with_at_or_minus_come_back(tmp_path):
    mine = tmp_path / "mine.csv"
    shutil.copy(CASES / "names-with-at/mine.csv", mine)
    mine.write_text(mine.read_text() + "translation,-minus,100,1000\n")
    names = ["@cf/meta/llama-3.1-8b-instruct", "@cf/mistral/mistral-7b", "large", "-minus"]
    for path in study_table.write([mine], tmp_path / "out")[:2]:
        assert energylab.read(path)["model"].tolist() == names


def test_every_case_is_tried():
    text = Path(__file__).read_text(encoding="utf-8")
    assert [folder.name for folder in CASES.iterdir() if folder.name not in text] == []
