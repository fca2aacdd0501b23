"""The Parquet copy of a table says what the records say, whatever happened to them since."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import builders
import pandas as pd
import pytest

from energylab import store
from energylab.parameters import Parameters
from energylab.table import record_rows, tidy_frame


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A results folder of 12 jobs, with the cache kept from the first record on."""
    monkeypatch.setattr(store, "LEAST_RECORDS", 1)
    monkeypatch.setattr(store, "RACY_NS", 0)
    for number in range(12):
        put(tmp_path / "results", number)
    return tmp_path / "results"


def put(root: Path, number: int, attempt: int = 0, energy_j: float | None = 2.0) -> Path:
    parameters = Parameters(model=f"m{number}", attempt=attempt)
    return store.write(builders.record(parameters, energy_j), root / "s" / f"job{number:02d}" / f"attempt-{attempt}")


@pytest.fixture
def reads(monkeypatch):
    """Record files that were read since this was last emptied."""
    seen = []
    original = store.read_record
    monkeypatch.setattr(store, "read_record", lambda path: (seen.append(Path(path)), original(path))[1])
    return seen


def plain(root: Path) -> pd.DataFrame:
    """Read every file, without the cache."""
    rows = [row for path in sorted(root.rglob("record.json")) for row in record_rows(store.read_record(path), path)]
    return tidy_frame(rows)


def test_a_second_read_reads_no_record_and_a_new_one_is_one_read(tree, reads):
    first = store.read(tree)
    assert len(reads) == 12
    pd.testing.assert_frame_equal(first, plain(tree))
    reads.clear()
    pd.testing.assert_frame_equal(store.read(tree), first)
    moved = tree.rename(tree.with_name("moved"))
    assert store.read(moved).path.str.startswith(f"{moved}/s/job").all()
    assert reads == []
    new = put(moved, 99)
    store.read(moved)
    assert reads == [new]


THIRD = "s/job03/attempt-0/record.json"


def change_in_place(tree, modified_ns=None):
    path = tree / THIRD
    path.write_text(path.read_text().replace('"energy_j": 2.0', '"energy_j": 4.0'))  # the same size
    if modified_ns is not None:
        os.utime(path, ns=(modified_ns, modified_ns))


def removed_record_that_comes_back(tree):
    text = (tree / THIRD).read_text()
    (tree / THIRD).unlink()
    assert len(store.read(tree).job_id.unique()) == 11
    (tree / THIRD).write_text(text)


def job_that_was_moved_in(tree):
    put(tree.parent / "elsewhere", 50)
    shutil.copytree(tree.parent / "elsewhere/s/job50", tree / "s/job50")


def record_below_a_record(tree):
    store.write(builders.record(Parameters(model="top")), tree / "notebook")
    store.read(tree)
    store.write(builders.record(Parameters(model="below")), tree / "notebook/deeper")


CHANGES = {
    "changed in place": change_in_place,
    "changed, and older than before": lambda tree: change_in_place(tree, 10**9),
    "new attempt in a known job": lambda tree: put(tree, 3, attempt=1, energy_j=5.0),
    "record into a known empty attempt": lambda tree: put(tree, 77, energy_j=5.0),
    "removed job": lambda tree: shutil.rmtree(tree / "s/job03"),
    "removed record that comes back": removed_record_that_comes_back,
    "job that was moved in": job_that_was_moved_in,
    "record below a record": record_below_a_record,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_seen(tree, name):
    (tree / "s/job77/attempt-0").mkdir(parents=True)
    before = store.read(tree)
    time.sleep(0.02)  # the clock of file times ticks
    CHANGES[name](tree)
    after = store.read(tree)
    pd.testing.assert_frame_equal(after, plain(tree))
    assert (name == "removed record that comes back") == before.equals(after)


def test_a_change_within_the_same_tick_is_seen(tree, monkeypatch):
    monkeypatch.setattr(store, "RACY_NS", 2_000_000_000)
    store.read(tree)
    change_in_place(tree, (tree / THIRD).stat().st_mtime_ns)
    pd.testing.assert_frame_equal(store.read(tree), plain(tree))


def test_an_unreadable_record_is_named_every_time(tree):
    (tree / THIRD).write_text("{")
    for _ in range(2):
        with pytest.warns(UserWarning, match="job03/attempt-0/record.json is truncated"):
            assert len(store.read(tree).job_id.unique()) == 11


@pytest.mark.parametrize("name", ["index.parquet", "table.parquet"])
def test_a_damaged_cache_is_made_anew(tree, name):
    first = store.read(tree)
    path = tree / store.FOLDER / name
    whole = path.read_bytes()
    wrong_bits = [
        whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :] for at in range(4, len(whole), len(whole) // 40)
    ]
    for damaged in [whole[:50], *wrong_bits]:
        path.write_bytes(damaged)
        pd.testing.assert_frame_equal(store.read(tree), first)
    path.unlink()
    pd.testing.assert_frame_equal(store.read(tree), first)


def test_a_cache_of_two_writers_is_never_mixed(tree):
    store.read(tree)
    old = (tree / store.FOLDER / "index.parquet").read_bytes()
    put(tree, 99)
    expected = store.read(tree)
    (tree / store.FOLDER / "index.parquet").write_bytes(old)
    pd.testing.assert_frame_equal(store.read(tree), expected)


def test_rows_of_other_code_are_not_believed(tree, reads, monkeypatch):
    store.read(tree)
    reads.clear()
    monkeypatch.setattr(store, "_version", lambda: "other")
    store.read(tree)
    assert len(reads) == 12


def test_few_records_leave_no_cache_behind(tmp_path):
    put(tmp_path, 1)
    store.read(tmp_path)
    assert not (tmp_path / store.FOLDER).exists()
