"""Records on disk, and the tidy table of all of them.

A folder of many records keeps a Parquet copy of its table in ``ROOT/.energylab/``, beside an index of every folder and
record file with its time of change and size. A refresh asks the file system for those again and reads only records that
are new or differ, whoever wrote them. A folder named ``attempt-N`` holds one record and nothing below it is searched.
"""

# ruff: noqa: PTH116, PTH118, PTH120 - plain strings: a tree has hundreds of thousands of paths
from __future__ import annotations

import functools
import hashlib
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from energylab.errors import RecordError, problem_text
from energylab.record import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "record.json"

#: Endings of tables of one's own.
TABLES = (".csv", ".tsv", ".parquet")


def write(record: Record, folder: str | os.PathLike) -> Path:
    """Write a record so that the file is either whole or not there.

    The text goes to a temporary name in the same folder, is flushed to the disk, and then renamed.

    Parameters
    ----------
    record : Record
    folder : path
        Made if need be.

    Returns
    -------
    pathlib.Path
        ``folder/record.json``.

    Raises
    ------
    RecordError
        If the folder holds another record already or cannot be written to; nothing is left behind.
    """
    folder = Path(folder)
    target = folder / FILE_NAME
    temporary = None
    if target.exists() and read_record(target) == record:
        return target
    check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".record-", suffix=".tmp", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(record.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
        _sync_folder(folder)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise RecordError(
            f"cannot write {target}: {error.strerror}; free space or choose another output_folder"
        ) from error
    return target


def check_free(folder: str | os.PathLike) -> None:
    """Refuse a folder that holds a record already.

    Raises
    ------
    RecordError
        Says how to measure again, and how to show what is there.
    """
    target = Path(folder) / FILE_NAME
    if target.exists():
        raise RecordError(
            f"{target} exists, and a record is never overwritten: set another `repeat` (a further session of the same "
            f"setting) or another `output_folder`; to show what is there, set record={str(target)!r}"
        )


def check_folder(folder: str | os.PathLike) -> None:
    """Make a folder, and see that a record can be written there.

    Raises
    ------
    RecordError
        If it cannot, or holds a record already.
    """
    check_free(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise RecordError(
            f"no record can be written to {folder}: {error.strerror}; choose another output_folder"
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_record(path: str | os.PathLike) -> Record:
    """Read one record file, or the ``record.json`` of a folder.

    Raises
    ------
    RecordError
        If it is missing, truncated, not a record, or of a newer schema; says which.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise RecordError(f"{path} {_what_is_wrong(text, error)}") from None


def _what_is_wrong(text: bytes, error: ValidationError) -> str:
    import json

    try:
        content = json.loads(text)
    except ValueError as fault:
        return f"is truncated or not JSON ({fault}); measure it again or restore a copy"
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        return "is not an energylab record: it has no schema_version"
    if version > SCHEMA_VERSION:
        return f"has schema version {version}, newer than {SCHEMA_VERSION} known here; update energylab"
    first = error.errors()[0]
    return f"is not a valid record: {'.'.join(map(str, first['loc'])) or 'record'}: {problem_text(first)}"


def find(roots: Iterable[str | os.PathLike]) -> Iterator[Path]:
    """Yield every record file under the roots, sorted within each root.

    Raises
    ------
    RecordError
        If a root does not exist.
    """
    for root in roots:
        root = Path(root)
        if root.is_file():
            yield root
        elif root.is_dir():
            yield from sorted(root.rglob(FILE_NAME))
        else:
            raise RecordError(f"{root} does not exist; name a record, a folder of records or a CSV")


def read_records(*roots: str | os.PathLike) -> Iterator[tuple[Path, Record]]:
    """Yield every readable record under the roots; name and skip the others with a warning."""
    for path in find(roots):
        try:
            yield path, read_record(path)
        except RecordError as error:
            warnings.warn(f"skipped: {error}", stacklevel=2)


def read(*roots: str | os.PathLike) -> pd.DataFrame:
    """Read records, folders of records and CSV files into one tidy table.

    Parameters
    ----------
    *roots : path
        Record files, folders (searched for ``record.json``), or CSV files with at least ``task, model, energy_j,
        queries``; ``results/`` by default.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`, one row a record, run and phase. ``energy_j`` is the energy of ``queries`` queries in that
        run and phase, NaN where it is unavailable. Files that cannot be read are named in a warning and skipped.

    Raises
    ------
    RecordError
        If a root does not exist, a CSV lacks a column, or a single record file named by itself cannot be read.
    """
    import pandas as pd

    frames = [_read_root(Path(root)) for root in roots or ("results",)]
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    return pd.concat(frames, ignore_index=True)


def _read_root(root: Path) -> pd.DataFrame:
    from energylab.table import read_table, record_rows, tidy_frame

    if root.suffix.lower() in TABLES and root.is_file():
        return read_table(root)
    if root.is_dir():
        return _read_cached(root)
    if root.is_file():
        return tidy_frame(record_rows(read_record(root), root))
    raise RecordError(f"{root} does not exist; name a record, a folder of records or a CSV")


def _rows_or_warning(path: Path) -> list[dict[str, Any]]:
    from energylab.table import record_rows

    try:
        return record_rows(read_record(path), path)
    except RecordError as error:
        warnings.warn(f"skipped: {error}", stacklevel=2)
        return []


def read_windows(*roots: str | os.PathLike) -> pd.DataFrame:
    """Read every window of every record under the roots into one table, invalid windows included.

    Returns
    -------
    pandas.DataFrame
        One row a window; ``energy_j`` is the whole window's (divide by ``replications`` for its queries once), NaN
        where a meter failed; ``query_ids`` is a tuple; ``temperature_c`` the warmest device's.
    """
    import pandas as pd

    from energylab.table import WINDOW_COLUMNS, window_rows

    rows = [row for path, record in read_records(*(roots or ("results",))) for row in window_rows(record)]
    return pd.DataFrame(rows, columns=list(WINDOW_COLUMNS))


FOLDER = ".energylab"

#: A change that is younger than this when looked at may be followed by one with the same time: it is looked at again.
RACY_NS = 2_000_000_000

#: Fewer records than this are read faster than a cache is kept, and their folder stays clean.
LEAST_RECORDS = 100

_ATTEMPT = re.compile(r"attempt-\d+")
_UNSURE = -1  # in place of a time: look again
_FOLDER_SIZE = -1

Entry = tuple[int, int]  # time of change in ns, size in bytes (of a folder: -1)
Listing = dict[str, Entry]  # every searched folder and record file, by its path relative to the root


def look(root: Path, known: Listing | None = None) -> Listing:
    """List the record files under `root`; folders that have not changed since `known` are not searched again.

    Returns `known` itself when nothing has changed.
    """
    now_ns = time.time_ns()
    found: Listing = {}
    search = [""]
    if known is not None:
        found = _look_again(root, known)
        changed = [name for name, entry in known.items() if found.get(name) != entry]
        if not changed:
            return known
        search = [name if known[name][1] == _FOLDER_SIZE else _parent(name) for name in changed]
    _search(root, search, found)
    return {name: (_sure(mtime_ns, now_ns), size) for name, (mtime_ns, size) in found.items()}


def _parent(name: str) -> str:
    return name.rpartition(os.sep)[0]


def _search(root: Path, folders: list[str], found: dict[str, Entry]) -> None:
    """Search `folders`, and everything below them that `found` does not know yet; note in `found` what is there."""
    while folders:
        name = folders.pop()
        path = root / name
        try:
            mtime_ns = path.stat().st_mtime_ns
            entries = list(os.scandir(path))
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed since it was listed
        has_record = any(entry.name == FILE_NAME for entry in entries)
        is_attempt = _ATTEMPT.fullmatch(path.name) is not None
        if has_record:
            found[os.path.join(name, FILE_NAME)] = _facts(path / FILE_NAME)
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


def _look_again(root: Path, known: Listing) -> Listing:
    """Ask for the time and size of every known entry that is still there."""
    entries = list(known.items())
    part = max(len(entries) // 4 + 1, 1000)
    descriptor = os.open(root, os.O_RDONLY)  # names relative to it are resolved faster than whole paths
    try:
        with ThreadPoolExecutor(4) as pool:
            starts = range(0, len(entries), part)
            parts = pool.map(lambda start: _facts_of(descriptor, entries[start : start + part]), starts)
            return {name: entry for some in parts for name, entry in some.items()}
    finally:
        os.close(descriptor)


def _facts_of(descriptor: int, entries: list[tuple[str, Entry]]) -> Listing:
    found = {}
    for name, (_, size) in entries:
        try:
            stat = os.stat(name or ".", dir_fd=descriptor)
        except (FileNotFoundError, NotADirectoryError):
            continue
        found[name] = (stat.st_mtime_ns, size if size == _FOLDER_SIZE else stat.st_size)
    return found


def _files(listing: Listing) -> Listing:
    return {name: entry for name, entry in listing.items() if entry[1] != _FOLDER_SIZE}


def _read_cached(root: Path) -> pd.DataFrame:
    """Return the tidy table of all records under `root`, sorted by path, from the cache as far as it is still true."""
    from energylab.table import tidy_frame

    known, cached = _load(root)
    listing = look(root, known)
    if listing is known:
        return _below(root, cached)
    before, now = _files(known or {}), _files(listing)
    fresh = [name for name, entry in now.items() if before.get(name) != entry or entry[0] == _UNSURE]
    rows = {name: _rows_or_warning(root / name) for name in sorted(fresh)}
    table = tidy_frame([{**row, "path": name} for name, some in rows.items() for row in some])
    if cached is not None:
        table = _joined(cached[~cached["path"].isin({*fresh, *(before.keys() - now.keys())})], table)
    if len(now) >= LEAST_RECORDS:
        unreadable = {name: (_UNSURE, now[name][1]) for name, some in rows.items() if not some}
        _save(root, {**listing, **unreadable}, table)
    return _below(root, table)


def _joined(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    if new.empty:
        return old
    return pd.concat([old, new], ignore_index=True).sort_values("path", kind="stable", ignore_index=True)


def _below(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(path=f"{root}{os.sep}" + table["path"]).reset_index(drop=True)


@functools.cache
def _version() -> str:
    """Return a digest of the code that turns records into rows: other code may give other rows."""
    from energylab import energy, record, table

    text = b"".join(Path(module.__file__).read_bytes() for module in (record, energy, table))
    return hashlib.sha256(text).hexdigest()


def _load(root: Path) -> tuple[Listing, pd.DataFrame] | tuple[None, None]:
    """Return the listing and the table that the cache holds; nothing when there is none that this version wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = root / FOLDER
    try:
        index = pq.read_table(folder / "index.parquet", page_checksum_verification=True)
        table = pq.read_table(folder / "table.parquet", page_checksum_verification=True)
    except (OSError, pa.ArrowException):  # none yet, cut short or damaged: it is made anew
        return None, None
    schemas = [t.schema.metadata or {} for t in (index, table)]
    stamps = {(one.get(b"stamp"), one.get(b"version")) for one in schemas}
    if len(stamps) > 1 or stamps.pop()[1] != _version().encode():
        return None, None
    names, times, sizes = (index.column(name).to_pylist() for name in ("name", "mtime_ns", "size"))
    return dict(zip(names, zip(times, sizes, strict=True), strict=True)), table.to_pandas()


def _save(root: Path, listing: Listing, table: pd.DataFrame) -> None:
    """Write both files under one stamp; a folder that may not be written to simply has no cache."""
    import pyarrow as pa

    times, sizes = zip(*listing.values(), strict=True)
    index = pa.table({"name": list(listing), "mtime_ns": times, "size": sizes})
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
