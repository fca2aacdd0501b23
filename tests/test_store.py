"""The store: whole files or none, and one table of everything that can be read."""

from __future__ import annotations

import json

import builders
import pandas as pd
import pytest

import energylab
from energylab import store
from energylab.errors import RecordError, StudyError
from energylab.table import COLUMNS


def test_records_are_read_alike_from_files_folders_and_memory(tmp_path):
    records = [builders.record(), builders.record(energy_j=None)]
    paths = [store.write(one, tmp_path / "new" / str(number)) for number, one in enumerate(records)]
    assert store.read_record(paths[0]) == store.read_record(paths[0].parent) == records[0]
    assert [file.name for file in paths[0].parent.iterdir()] == ["record.json"]
    table = energylab.read(records)
    assert list(table.columns) == list(COLUMNS)
    assert table.energy_j.dropna().tolist() == [2.0] * records[0].protocol.runs  # a row a run and phase
    assert table.energy_j.isna().tolist() == (~table.valid).tolist()  # unavailable, never zero
    of_files = energylab.read(*(path.parent for path in paths))
    pd.testing.assert_frame_equal(table.drop(columns="path"), of_files.drop(columns="path"))
    windows = store.read_windows(tmp_path)
    assert windows.valid.tolist() == [window.valid for record in records for window in record.windows]


def test_what_is_no_root_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store.write(builders.record(), tmp_path / "results")  # the default, which an empty list is not
    for roots, message in [
        ([[]], "the list of records is empty"),
        ([[3]], r"3 \(int\) is neither a path nor a record; give paths or records"),
        (["nowhere"], "nowhere does not exist"),
    ]:
        with pytest.raises(RecordError, match=message):
            energylab.read(*roots)


def test_a_failed_write_leaves_no_debris(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(StudyError, match="No space left on device"):
        store.write(builders.record(), tmp_path)
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "truncated or not JSON"),
        (lambda text: "{}", "not an energylab record"),
        (lambda text: json.dumps({**json.loads(text), "schema_version": 99}), "reads up to 3: update energylab"),
        (lambda text: json.dumps({**json.loads(text), "windows": 5}), "windows"),
        (None, "cannot read"),
    ],
    ids=["cut short", "no record", "newer schema", "wrong type", "link to nowhere"],
)
def test_a_bad_file_is_named_and_skipped_in_a_table_and_raised_alone(tmp_path, change, message):
    good, bad = store.write(builders.record(), tmp_path / "good"), tmp_path / "bad" / "record.json"
    bad.parent.mkdir()
    if change:
        bad.write_text(change(good.read_text()))
    else:
        bad.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RecordError, match=message):
        store.read_record(bad)
    with pytest.raises(RecordError, match=message if change else "does not exist"):
        store.read(bad)
    with pytest.warns(UserWarning, match=message):
        assert set(store.read(tmp_path)["path"]) == {str(good)}
