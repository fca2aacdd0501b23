"""Records on disk, and the tidy table of all of them.

A folder of many records keeps a Parquet copy of its table in ``ROOT/.energylab/``, with an index of the modification
time and size of every folder and record file. A refresh compares the index with the file system and reads only new and
changed records. A folder named ``attempt-N`` holds one record; folders below it are not searched.
"""

# ruff: noqa: PTH116, PTH118, PTH120 - plain strings: a tree has hundreds of thousands of paths
from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from energylab.errors import RecordError, problem_text
from energylab.files import write_whole
from energylab.record import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "record.json"

#: File name extensions of tables.
TABLES = (".csv", ".tsv", ".parquet")


def write(record: Record, folder: str | os.PathLike) -> Path:
    """Write a record atomically to ``folder/record.json``, and return that path.

    Raises
    ------
    RecordError
        If the folder already holds another record.
    StudyError
        If the folder is not writable; no partial file is left.
    """
    target = Path(folder) / FILE_NAME
    if target.exists() and read_record(target) == record:
        return target
    _check_free(target)
    return write_whole(target, record.model_dump_json(indent=1))


def _check_free(target: Path) -> None:
    if target.exists():
        raise RecordError(
            f"{target} exists, and records are never overwritten: set another `repeat` (a further session of the same "
            f"setting) or another `output_folder`; to show the existing record, set record={str(target)!r}"
        )


def check_folder(folder: str | os.PathLike) -> None:
    """Create a folder and check that a record can be written to it; else raise a RecordError."""
    _check_free(Path(folder) / FILE_NAME)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise RecordError(
            f"cannot write a record to {folder}: {error.strerror}; choose another output_folder"
        ) from error


def read_record(path: str | os.PathLike) -> Record:
    """Read one record file, or the ``record.json`` of a folder.

    Raises
    ------
    RecordError
        If it is missing, truncated, not a record, or of a newer schema.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}; name an existing record") from error
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise RecordError(f"{path} {_what_is_wrong(text, error)}") from None


def _what_is_wrong(text: bytes, error: ValidationError) -> str:
    try:
        content = json.loads(text)
    except ValueError as fault:
        return f"is truncated or not JSON ({fault}); measure it again or restore a copy"
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        return "is not an energylab record: it has no schema_version"
    if version > SCHEMA_VERSION:
        return f"has schema version {version}; this energylab reads up to {SCHEMA_VERSION}: update energylab"
    first = error.errors()[0]
    return f"is not a valid record: {'.'.join(map(str, first['loc'])) or 'record'}: {problem_text(first)}"


def find(roots: Iterable[str | os.PathLike]) -> Iterator[Path]:
    """Yield every record file under the roots, sorted within each root; a RecordError if a root does not exist."""
    for root in map(Path, roots):
        if not root.exists():
            raise _missing(root)
        yield from sorted(root.rglob(FILE_NAME)) if root.is_dir() else [root]


def _missing(root: Path) -> RecordError:
    return RecordError(f"{root} does not exist; name a record, a folder of records or a CSV")


def read_records(*roots: str | os.PathLike) -> Iterator[tuple[Path, Record]]:
    """Yield every readable record under the roots; skip others with a warning that names them."""
    return _readable(find(roots))


def _readable(paths: Iterable[Path]) -> Iterator[tuple[Path, Record]]:
    for path in paths:
        try:
            yield path, read_record(path)
        except RecordError as error:
            warnings.warn(f"skipped: {error}", stacklevel=3)


def read(*roots: str | os.PathLike | Record) -> pd.DataFrame:
    """Read records, folders of records and tables into one tidy table.

    Parameters
    ----------
    *roots : path or Record
        Record files, folders (searched for ``record.json``), or CSV, TSV or Parquet files with at least ``task, model,
        energy_j, queries``, or lists of these; ``results/`` by default.

    Returns
    -------
    pandas.DataFrame
        Columns `energylab.table.COLUMNS`, one row per record, run and phase. ``energy_j`` is the energy of ``queries``
        queries in that run and phase, NaN if unavailable. Records in a folder that cannot be read are skipped with a
        warning that names them.

    Raises
    ------
    RecordError
        If a root does not exist, or a named record file cannot be read.
    DataError
        If a table has an error; names the file, the row and what to do.
    """
    import pandas as pd

    given = [one for root in roots for one in (root if isinstance(root, list | tuple) else [root])]
    if roots and not given:
        raise RecordError("the list of records is empty; give at least one record, or no argument for results/")
    frames = [_read_root(root) for root in given or ["results"]]
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    return pd.concat(frames, ignore_index=True)


def _read_root(root: str | os.PathLike | Record) -> pd.DataFrame:
    from energylab.table import read_table, record_rows, tidy_frame

    if isinstance(root, Record):
        return tidy_frame(record_rows(root))
    if not isinstance(root, str | os.PathLike):
        raise RecordError(f"{root!r} ({type(root).__name__}) is neither a path nor a record; give paths or records")
    root = Path(root)
    if not root.exists():
        raise _missing(root)
    if root.is_dir():
        return _read_cached(root)
    return read_table(root) if root.suffix.lower() in TABLES else tidy_frame(record_rows(read_record(root), root))


def read_windows(*roots: str | os.PathLike) -> pd.DataFrame:
    """Read all windows of all records under the roots, including invalid ones, into one table.

    Returns
    -------
    pandas.DataFrame
        One row per window; ``energy_j`` is that of the whole window (divide by ``replications`` for its queries once),
        NaN if a meter failed; ``query_ids`` is a tuple; ``temperature_c`` is that of the warmest device.
    """
    from energylab.table import window_frame

    return window_frame(record for _, record in read_records(*(roots or ("results",))))


FOLDER = ".energylab"

#: A file changed less than this time ago may change again with the same time stamp, so it is read again.
RACY_NS = 2_000_000_000

#: Folders with fewer records have no cache, since reading them is faster.
LEAST_RECORDS = 100

_ATTEMPT = re.compile(r"attempt-\d+")
_UNSURE = -1  # instead of a time: read again
_FOLDER_SIZE = -1

#: Modification time in ns and size in bytes (-1 for a folder) of every searched folder and record file, by path below
#: the root.
Listing = dict[str, tuple[int, int]]


def _look(root: Path, known: Listing | None) -> Listing:
    """List the record files under `root`; folders that have not changed since `known` are not searched again.

    Returns `known` itself when nothing has changed.
    """
    now_ns = time.time_ns()
    found, search = {}, [""]
    if known is not None:
        found = _look_again(root, known)
        changed = [name for name, entry in known.items() if found.get(name) != entry]
        if not changed:
            return known
        search = [name if known[name][1] == _FOLDER_SIZE else os.path.dirname(name) for name in changed]
    while search:
        search += _search(root, search.pop(), found)
    return {name: (time_ns if now_ns - time_ns > RACY_NS else _UNSURE, size) for name, (time_ns, size) in found.items()}


def _look_again(root: Path, known: Listing) -> Listing:
    """Return time and size of every known entry that still exists."""
    found = {}
    descriptor = os.open(root, os.O_RDONLY)  # relative names are resolved faster than full paths
    try:
        for name, (_, size) in known.items():
            try:
                stat = os.stat(name or ".", dir_fd=descriptor)
            except (FileNotFoundError, NotADirectoryError):
                continue
            found[name] = (stat.st_mtime_ns, size if size == _FOLDER_SIZE else stat.st_size)
    finally:
        os.close(descriptor)
    return found


def _search(root: Path, name: str, found: Listing) -> list[str]:
    """Add the content of a folder to `found`; return its subfolders that are not known yet."""
    path = root / name
    try:
        time_ns, entries = path.stat().st_mtime_ns, list(os.scandir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed since it was listed
    is_attempt = _ATTEMPT.fullmatch(path.name) is not None
    record = next((entry for entry in entries if entry.name == FILE_NAME), None)
    if record:
        try:
            stat = record.stat()
            found[os.path.join(name, FILE_NAME)] = (stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:  # removed meanwhile, or a broken link
            found[os.path.join(name, FILE_NAME)] = (_UNSURE, 0)
    if record and is_attempt:
        found.pop(name, None)  # its record is in the index, and it gets no other content
        return []
    found[name] = (time_ns, _FOLDER_SIZE)
    below = [e for e in entries if e.name != FOLDER and not is_attempt and e.is_dir(follow_symlinks=False)]
    return [child for entry in below if (child := os.path.join(name, entry.name)) not in found]


def _read_cached(root: Path) -> pd.DataFrame:
    """Return the tidy table of all records under `root`, sorted by path, from the cache as far as it is up to date."""
    import pandas as pd

    from energylab.table import record_rows, tidy_frame

    known, table = _load(root)
    listing = _look(root, known)
    if listing is not known:
        before, now = ({n: e for n, e in some.items() if e[1] != _FOLDER_SIZE} for some in (known or {}, listing))
        fresh = {name for name, entry in now.items() if before.get(name) != entry or entry[0] == _UNSURE}
        files = {root / name: name for name in sorted(fresh)}
        rows = {files[path]: record_rows(record, files[path]) for path, record in _readable(files)}
        new = tidy_frame(row for some in rows.values() for row in some)
        if table is not None:
            kept = table[~table["path"].isin(fresh | (before.keys() - now.keys()))]
            new = pd.concat([kept, new]) if len(new) else kept
        table = new.sort_values("path", kind="stable", ignore_index=True)
        if len(now) >= LEAST_RECORDS:
            unreadable = {name: (_UNSURE, now[name][1]) for name in fresh - rows.keys()}
            _save(root, {**listing, **unreadable}, table)
    return table.assign(path=f"{root}{os.sep}" + table["path"])


@functools.cache
def _version() -> str:
    """Return a digest of the code that turns records into rows; a cache of other code is not used."""
    from energylab import energy, record, table

    text = b"".join(Path(module.__file__).read_bytes() for module in (record, energy, table))
    return hashlib.sha256(text).hexdigest()


def _load(root: Path) -> tuple[Listing, pd.DataFrame] | tuple[None, None]:
    """Return listing and table of the cache; None if this version wrote none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("index.parquet", "table.parquet")
    try:
        index, table = (pq.read_table(root / FOLDER / name, page_checksum_verification=True) for name in names)
    except (OSError, pa.ArrowException):  # missing, truncated or damaged: it is made again
        return None, None
    schemas = [one.schema.metadata or {} for one in (index, table)]
    stamps = {(one.get(b"stamp"), one.get(b"version")) for one in schemas}
    if len(stamps) > 1 or stamps.pop()[1] != _version().encode():
        return None, None
    names, times, sizes = (index.column(name).to_pylist() for name in ("name", "mtime_ns", "size"))
    return dict(zip(names, zip(times, sizes, strict=True), strict=True)), table.to_pandas()


def _save(root: Path, listing: Listing, table: pd.DataFrame) -> None:
    """Write both files with the same stamp; a read-only folder has no cache."""
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
        stamped = table.replace_schema_metadata({**(table.schema.metadata or {}), **stamp})
        pq.write_table(stamped, temporary, write_page_checksum=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
