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


def test_a_second_read_reads_no_record_and_says_the_same(tree, reads):
    first = store.read(tree)
    assert len(reads) == 12
    reads.clear()
    second = store.read(tree)
    assert reads == []
    pd.testing.assert_frame_equal(first, second)
    pd.testing.assert_frame_equal(second, plain(tree))


def test_one_new_record_is_one_read(tree, reads):
    store.read(tree)
    reads.clear()
    new = put(tree, 99)
    got = store.read(tree)
    assert reads == [new]
    pd.testing.assert_frame_equal(got, plain(tree))


def change_in_place(tree):
    path = tree / "s/job03/attempt-0/record.json"
    text = path.read_text().replace('"energy_j": 2.0', '"energy_j": 4.0')
    path.write_text(text)


def new_attempt_in_a_known_job(tree):
    put(tree, 3, attempt=1, energy_j=5.0)


def record_into_a_known_empty_attempt(tree):
    put(tree, 77, energy_j=5.0)


def removed_job(tree):
    shutil.rmtree(tree / "s/job03")


def removed_record_that_comes_back(tree):
    path = tree / "s/job03/attempt-0/record.json"
    text = path.read_text()
    path.unlink()
    assert len(store.read(tree).job_id.unique()) == 11
    path.write_text(text)


def job_that_was_moved_in(tree):
    put(tree.parent / "elsewhere", 50)
    shutil.copytree(tree.parent / "elsewhere/s/job50", tree / "s/job50")


def record_below_a_record(tree):
    store.write(builders.record(Parameters(model="top")), tree / "notebook")
    store.read(tree)
    store.write(builders.record(Parameters(model="below")), tree / "notebook/deeper")


def older_time_than_before(tree):
    path = tree / "s/job03/attempt-0/record.json"
    change_in_place(tree)
    os.utime(path, (1, 1))


@pytest.mark.parametrize(
    "change",
    [
        change_in_place,
        new_attempt_in_a_known_job,
        record_into_a_known_empty_attempt,
        removed_job,
        removed_record_that_comes_back,
        job_that_was_moved_in,
        record_below_a_record,
        older_time_than_before,
    ],
)
def test_every_change_is_seen(tree, change):
    (tree / "s/job77/attempt-0").mkdir(parents=True)
    before = store.read(tree)
    time.sleep(0.02)  # the clock of file times ticks
    change(tree)
    after = store.read(tree)
    pd.testing.assert_frame_equal(after, plain(tree))
    assert change is removed_record_that_comes_back or not before.equals(after)


def test_a_change_within_the_same_tick_is_seen(tree, monkeypatch):
    monkeypatch.setattr(store, "RACY_NS", 2_000_000_000)
    path = tree / "s/job03/attempt-0/record.json"
    store.read(tree)
    facts = path.stat()
    change_in_place(tree)  # the same size
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size
    pd.testing.assert_frame_equal(store.read(tree), plain(tree))


def test_an_unreadable_record_is_named_every_time(tree):
    path = tree / "s/job03/attempt-0/record.json"
    path.write_text(path.read_text()[:100])
    for _ in range(2):
        with pytest.warns(UserWarning, match="job03/attempt-0/record.json is truncated"):
            assert len(store.read(tree).job_id.unique()) == 11


@pytest.mark.parametrize("name", ["index.parquet", "table.parquet"])
@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(p.read_bytes()[:50]), lambda p: p.unlink()])
def test_a_damaged_cache_is_made_anew(tree, name, damage):
    first = store.read(tree)
    damage(tree / store.FOLDER / name)
    pd.testing.assert_frame_equal(store.read(tree), first)


@pytest.mark.parametrize("name", ["index.parquet", "table.parquet"])
def test_a_cache_with_a_wrong_bit_is_made_anew(tree, name):
    first = store.read(tree)
    path = tree / store.FOLDER / name
    whole = path.read_bytes()
    for place in range(4, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
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


def test_a_folder_that_was_moved_keeps_its_cache(tree, reads):
    store.read(tree)
    reads.clear()
    moved = tree.rename(tree.with_name("moved"))
    table = store.read(moved)
    assert reads == []
    assert table.path.str.startswith(f"{moved}/s/job").all()
