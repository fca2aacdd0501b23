"""The store: whole files or none, and one table of everything that can be read."""

from __future__ import annotations

import json
import math

import builders
import pandas as pd
import pytest

import energylab
from energylab import store
from energylab.errors import DataError, RecordError, StudyError
from energylab.table import COLUMNS


def test_a_record_is_read_back_from_file_and_folder(tmp_path):
    record = builders.record()
    path = store.write(record, tmp_path / "new" / "folder")
    assert store.read_record(path) == store.read_record(path.parent) == record
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


def test_records_in_memory_are_read_like_their_files(tmp_path, monkeypatch):
    records = [builders.record(), builders.record(energy_j=3.0)]
    folders = [store.write(one, tmp_path / str(number)).parent for number, one in enumerate(records)]
    table, of_files = energylab.read(records), energylab.read(*folders)
    pd.testing.assert_frame_equal(table.drop(columns="path"), of_files.drop(columns="path"))
    with pytest.raises(RecordError, match=r"3 \(int\) cannot be read; give paths or records"):
        energylab.read([3])
    monkeypatch.chdir(tmp_path)
    store.write(records[0], tmp_path / "results")
    with pytest.raises(RecordError, match="the list of records is empty"):
        energylab.read([])


def test_a_failed_write_leaves_no_debris(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(StudyError, match="No space left on device"):
        store.write(builders.record(energy_j=3.0), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_never_overwritten(tmp_path):
    path = store.write(builders.record(), tmp_path)
    before = path.read_bytes()
    assert store.write(store.read_record(path), tmp_path) == path  # the same again changes nothing
    for refused in (lambda: store.write(builders.record(energy_j=3.0), tmp_path), lambda: store.check_folder(tmp_path)):
        with pytest.raises(RecordError, match="never overwritten: set another `repeat`"):
            refused()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def broken(tmp_path, name, text):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "record.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "truncated or not JSON"),
        (lambda text: "{}", "not an energylab record"),
        (lambda text: json.dumps({**json.loads(text), "schema_version": 99}), "newer than 3"),
        (lambda text: json.dumps({**json.loads(text), "windows": 5}), "windows"),
    ],
)
def test_a_bad_file_is_named_and_skipped_in_a_table_and_raised_alone(tmp_path, change, said):
    good = store.write(builders.record(), tmp_path / "good")
    bad = broken(tmp_path, "bad", change(good.read_text()))
    with pytest.raises(RecordError, match=said):
        store.read_record(bad)
    with pytest.raises(RecordError, match=said):
        store.read(bad / "record.json")
    with pytest.warns(UserWarning, match=said):
        table = store.read(tmp_path)
    assert set(table["path"]) == {str(good)}


def test_the_tidy_table_has_one_row_a_run_and_phase(tmp_path):
    store.write(builders.record(energy_j=2.0), tmp_path / "a")
    store.write(builders.record(energy_j=None), tmp_path / "b")
    table = store.read(tmp_path / "a", tmp_path / "b")
    assert list(table.columns) == list(COLUMNS)
    first, second = table[table.path.str.contains("/a/")], table[table.path.str.contains("/b/")]
    assert first.energy_j.tolist() == [2.0] * len(first)
    assert second.energy_j.map(math.isnan).all()  # unavailable, never zero
    assert not second.valid.any()


def test_a_csv_of_ones_own_needs_four_columns(tmp_path):
    file = tmp_path / "mine.csv"
    pd.DataFrame({"task": ["t"], "model": ["m"], "energy_j": [1.5], "queries": [10]}).to_csv(file, index=False)
    assert store.read(file)[["model", "energy_j"]].values.tolist() == [["m", 1.5]]
    pd.DataFrame({"task": ["t"], "model": ["m"]}).to_csv(file, index=False)
    with pytest.raises(DataError, match="lacks .energy_j., .queries.; it needs task"):
        store.read(file)


def test_a_link_to_nowhere_is_named_and_skipped(tmp_path):
    good = store.write(builders.record(), tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning, match="cannot read"):
        assert set(store.read(tmp_path)["path"]) == {str(good)}


def test_a_root_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(RecordError, match="does not exist"):
        store.read(tmp_path / "nowhere")


def test_windows_are_one_row_each_with_their_state(tmp_path):
    record = builders.record()
    store.write(record, tmp_path)
    windows = store.read_windows(tmp_path)
    assert len(windows) == len(record.windows)
    assert windows.energy_j.tolist() == [window.energy_j for window in record.windows]
