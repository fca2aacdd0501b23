"""Records on disk, and the tidy table of all of them."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from energylab import cache
from energylab.errors import RecordError
from energylab.record import SCHEMA_VERSION, Record
from energylab.tables import WINDOW_COLUMNS, record_rows, tidy_frame, window_rows

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "record.json"

#: The least a table of one's own must have.
REQUIRED = ("task", "model", "energy_j", "queries")


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
        If the folder cannot be written to; nothing is left behind.
    """
    folder = Path(folder)
    target = folder / FILE_NAME
    temporary = None
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


def check_folder(folder: str | os.PathLike) -> None:
    """Make a folder, and see that a record can be written there.

    Raises
    ------
    RecordError
        If it cannot.
    """
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
    return f"is not a valid record: {'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}"


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
    if root.suffix.lower() == ".csv":
        return _read_csv(root)
    if root.is_dir():
        return cache.read(root, FILE_NAME, _rows_or_warning, tidy_frame)
    if root.is_file():
        return tidy_frame(record_rows(read_record(root), root))
    raise RecordError(f"{root} does not exist; name a record, a folder of records or a CSV")


def _rows_or_warning(path: Path) -> list[dict[str, Any]]:
    try:
        return record_rows(read_record(path), path)
    except RecordError as error:
        warnings.warn(f"skipped: {error}", stacklevel=2)
        return []


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise RecordError(f"{path} does not exist; name a record, a folder of records or a CSV")
    try:
        frame = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' own errors and those of decoding are ValueErrors
        raise RecordError(f"{path} cannot be read as a CSV: {' '.join(str(error).split())}") from error
    missing = [column for column in REQUIRED if column not in frame.columns]
    if missing:
        raise RecordError(f"{path} lacks the column {', '.join(missing)}; a table needs {', '.join(REQUIRED)}")
    return frame.assign(path=str(path))


def read_windows(*roots: str | os.PathLike) -> pd.DataFrame:
    """Read every window of every record under the roots into one table, invalid windows included.

    Returns
    -------
    pandas.DataFrame
        One row a window; ``energy_j`` is the whole window's (divide by ``replications`` for its queries once), NaN
        where a meter failed; ``query_ids`` is a tuple; ``temperature_c`` the warmest device's.
    """
    import pandas as pd

    rows = [row for path, record in read_records(*(roots or ("results",))) for row in window_rows(record)]
    return pd.DataFrame(rows, columns=list(WINDOW_COLUMNS))
