"""A Parquet copy of a folder's tidy table, kept true by looking at what changed.

The copy lies in ``ROOT/.energylab/``: the table, and an index of every folder and record file with its time of change
and size. A refresh asks the file system for those again and reads only records that are new or differ, whoever wrote
them. A folder named ``attempt-N`` holds one record and nothing below it is searched.
"""

# ruff: noqa: PTH116, PTH118, PTH120 - plain strings: a tree has hundreds of thousands of paths
from __future__ import annotations

import functools
import hashlib
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FOLDER = ".energylab"

#: A change that is younger than this when looked at may be followed by one with the same time: it is looked at again.
RACY_NS = 2_000_000_000

#: Fewer records than this are read faster than a cache is kept, and their folder stays clean.
LEAST_RECORDS = 100

_ATTEMPT = re.compile(r"attempt-\d+")
_UNSURE = -1  # in place of a time: look again
_GONE = -2
_FOLDER_SIZE = -1

Entry = tuple[int, int]  # time of change in ns, size in bytes


@dataclass(frozen=True)
class Listing:
    """What a folder tree held when it was looked at: one entry a searched folder and a record file.

    Attributes
    ----------
    names : numpy.ndarray of str
        Paths relative to the root.
    mtime_ns : numpy.ndarray of int
        Times of change.
    size : numpy.ndarray of int
        Bytes of a record file, -1 for a folder.
    """

    names: np.ndarray
    mtime_ns: np.ndarray
    size: np.ndarray

    def entries(self) -> dict[str, Entry]:
        """Return time of change and size by name."""
        return dict(zip(self.names.tolist(), zip(self.mtime_ns.tolist(), self.size.tolist(), strict=True), strict=True))

    @classmethod
    def of(cls, entries: dict[str, Entry]) -> Listing:
        """Return the listing of `entries`."""
        import numpy as np

        facts = np.array(list(entries.values()), dtype=np.int64).reshape(-1, 2)
        return cls(np.array(list(entries), dtype=object), facts[:, 0], facts[:, 1])


def look(root: Path, file_name: str, known: Listing | None = None) -> Listing:
    """List the record files under `root`; folders that have not changed since `known` are not searched again.

    Parameters
    ----------
    root : pathlib.Path
    file_name : str
        Name of a record file.
    known : Listing, optional
        What an earlier look found.

    Returns
    -------
    Listing
        `known` itself when nothing has changed.
    """
    now_ns = time.time_ns()
    found: dict[str, Entry] = {}
    search = [""]
    if known is not None:
        now = _stat_all(root, known)
        same = (now.mtime_ns == known.mtime_ns) & (now.size == known.size)
        if same.all():
            return known
        found = {name: entry for name, entry in now.entries().items() if entry[0] != _GONE}
        changed = [(name, size) for name, size in zip(known.names[~same], known.size[~same], strict=True)]
        search = [name if size == _FOLDER_SIZE else _parent(name) for name, size in changed]
    _search(root, file_name, search, found)
    return Listing.of({name: (_sure(mtime_ns, now_ns), size) for name, (mtime_ns, size) in found.items()})


def _parent(name: str) -> str:
    return name.rpartition(os.sep)[0]


def _search(root: Path, file_name: str, folders: list[str], found: dict[str, Entry]) -> None:
    """Search `folders`, and everything below them that `found` does not know yet; note in `found` what is there."""
    while folders:
        name = folders.pop()
        path = root / name
        try:
            mtime_ns = path.stat().st_mtime_ns
            entries = list(os.scandir(path))
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed since it was listed
        has_record = any(entry.name == file_name for entry in entries)
        is_attempt = _ATTEMPT.fullmatch(path.name) is not None
        if has_record:
            found[os.path.join(name, file_name)] = _facts(path / file_name)
        if has_record and is_attempt:
            found.pop(name, None)  # its record is looked at, and nothing else can come into it
            continue
        found[name] = (mtime_ns, _FOLDER_SIZE)
        below = [] if is_attempt else [os.path.join(name, entry.name) for entry in entries if _searchable(entry)]
        folders += [child for child in below if child not in found]


def _facts(file: Path) -> Entry:
    """Return time and size of a record; of one that is gone again, or a link to nowhere, that it must be looked at."""
    try:
        facts = file.stat()
    except FileNotFoundError:
        return _UNSURE, 0
    return facts.st_mtime_ns, facts.st_size


def _searchable(entry: os.DirEntry) -> bool:
    return entry.name != FOLDER and entry.is_dir(follow_symlinks=False)


def _sure(mtime_ns: int, now_ns: int) -> int:
    return mtime_ns if now_ns - mtime_ns > RACY_NS else _UNSURE


def _stat_all(root: Path, known: Listing) -> Listing:
    """Ask for every entry's time and size again; an entry that is gone has the time `_GONE`."""
    import numpy as np

    names = known.names.tolist()
    part = max(len(names) // 4 + 1, 1000)
    descriptor = os.open(root, os.O_RDONLY)  # names relative to it are resolved faster than whole paths
    try:
        with ThreadPoolExecutor(4) as pool:
            starts = range(0, len(names), part)
            parts = list(pool.map(lambda start: _stat_some(descriptor, names[start : start + part]), starts))
    finally:
        os.close(descriptor)
    facts = np.array([entry for some in parts for entry in some], dtype=np.int64).reshape(-1, 2)
    return Listing(known.names, facts[:, 0], np.where(known.size == _FOLDER_SIZE, _FOLDER_SIZE, facts[:, 1]))


def _stat_some(descriptor: int, names: list[str]) -> list[Entry]:
    facts = []
    for name in names:
        try:
            stat = os.stat(name or ".", dir_fd=descriptor)
            facts.append((stat.st_mtime_ns, stat.st_size))
        except (FileNotFoundError, NotADirectoryError):
            facts.append((_GONE, 0))
    return facts


def read(
    root: Path,
    file_name: str,
    rows_of: Callable[[Path], list[dict[str, Any]]],
    frame_of: Callable[[list[dict[str, Any]]], pd.DataFrame],
) -> pd.DataFrame:
    """Return the tidy table of all records under `root`, from the cache as far as it is still true.

    Parameters
    ----------
    root : pathlib.Path
        An existing folder.
    file_name : str
        Name of a record file.
    rows_of : callable
        Reads one record file into rows; an unreadable one gives none, and is read again each time.
    frame_of : callable
        Makes the typed table of rows.

    Returns
    -------
    pandas.DataFrame
        As `frame_of` makes it, sorted by path; ``path`` starts with `root`.
    """
    cached = _load(root)
    listing = look(root, file_name, cached.listing if cached else None)
    if cached and listing is cached.listing:
        return _below(root, cached.table)
    before = cached.files() if cached else {}
    now = {name: entry for name, entry in listing.entries().items() if entry[1] != _FOLDER_SIZE}
    fresh = [name for name, entry in now.items() if before.get(name) != entry or entry[0] == _UNSURE]
    rows = {name: rows_of(root / name) for name in sorted(fresh)}
    new = frame_of([{**row, "path": name} for name, some in rows.items() for row in some])
    stale = {*fresh, *(before.keys() - now.keys())}
    table = _joined(cached.table[~cached.table["path"].isin(stale)], new) if cached else new
    unreadable = {name for name, some in rows.items() if not some}
    if len(now) >= LEAST_RECORDS:
        _save(
            root,
            Listing.of({n: e if n not in unreadable else (_UNSURE, e[1]) for n, e in listing.entries().items()}),
            table,
        )
    return _below(root, table)


def _joined(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    if new.empty:
        return old
    return pd.concat([old, new], ignore_index=True).sort_values("path", kind="stable", ignore_index=True)


def _below(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(path=f"{root}{os.sep}" + table["path"]).reset_index(drop=True)


@dataclass(frozen=True)
class _Cached:
    listing: Listing
    table: pd.DataFrame

    def files(self) -> dict[str, Entry]:
        return {name: entry for name, entry in self.listing.entries().items() if entry[1] != _FOLDER_SIZE}


@functools.cache
def _version() -> str:
    """Return a digest of the code that turns records into rows: other code may give other rows."""
    from energylab import cohort, record, tables

    text = b"".join(Path(module.__file__).read_bytes() for module in (record, cohort, tables))
    return hashlib.sha256(text).hexdigest()


def _load(root: Path) -> _Cached | None:
    """Return what the cache holds, or None when there is none that this version wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = root / FOLDER
    try:
        index = pq.read_table(folder / "index.parquet", page_checksum_verification=True)
        table = pq.read_table(folder / "table.parquet", page_checksum_verification=True)
    except (OSError, pa.ArrowException):  # none yet, cut short or damaged: it is made anew
        return None
    said = [t.schema.metadata or {} for t in (index, table)]
    stamps = {(one.get(b"stamp"), one.get(b"version")) for one in said}
    if len(stamps) > 1 or stamps.pop()[1] != _version().encode():
        return None
    columns = (index.column(name).to_numpy() for name in ("name", "mtime_ns", "size"))
    return _Cached(Listing(*columns), table.to_pandas())


def _save(root: Path, listing: Listing, table: pd.DataFrame) -> None:
    """Write both files under one stamp; a folder that may not be written to simply has no cache."""
    import pyarrow as pa

    names = pa.array(listing.names, pa.string())
    index = pa.table({"name": names, "mtime_ns": listing.mtime_ns, "size": listing.size})
    stamp = {b"version": _version().encode(), b"stamp": os.urandom(8).hex().encode()}
    try:
        (root / FOLDER).mkdir(exist_ok=True)
        _write(root / FOLDER / "table.parquet", pa.Table.from_pandas(table, preserve_index=False), stamp)
        _write(root / FOLDER / "index.parquet", index, stamp)
    except OSError:
        return


def _write(path: Path, table: Any, stamp: dict[bytes, bytes]) -> None:
    import pyarrow.parquet as pq

    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        pq.write_table(
            table.replace_schema_metadata({**(table.schema.metadata or {}), **stamp}),
            temporary,
            write_page_checksum=True,
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
