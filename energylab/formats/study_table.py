"""A study as one table with its data dictionary: Parquet for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from energylab import store
from energylab.errors import FormatError, unknown_name
from energylab.publish.text import csv_text
from energylab.table import TIDY

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("csv", "parquet")


def write(
    roots: Sequence[str | os.PathLike], folder: str | os.PathLike, formats: Sequence[str] = FORMATS, name: str = "table"
) -> list[Path]:
    """Write the tidy table of some records, and what its columns mean.

    Parameters
    ----------
    roots : sequence of path
        As `energylab.read` takes them.
    folder : path
        Made if need be.
    formats : sequence of str
        ``csv``, ``parquet`` or both. Text in the CSV that a spreadsheet would take for a formula gets an apostrophe;
        the Parquet file holds it as it is, and each column's meaning in its schema.
    name : str, default "table"
        Of the files.

    Returns
    -------
    list of pathlib.Path
        ``NAME.csv``, ``NAME.parquet`` and ``NAME.dictionary.csv``.

    Raises
    ------
    FormatError
        If there is no record, or the folder cannot be written to.
    UnknownNameError
        If a format is not known.
    """
    for format in formats:
        if format not in FORMATS:
            raise unknown_name("table format", format, FORMATS)
    frame, folder = store.read(*roots), Path(folder)
    if frame.empty:
        raise FormatError(f"no record under {', '.join(map(str, roots))}; name a study's folder")
    writers = {"csv": _csv, "parquet": _parquet}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.{format}" for format in formats]
        for path, format in zip(paths, formats, strict=True):
            writers[format](frame, path)
        dictionary = folder / f"{name}.dictionary.csv"
        dictionary.write_text(dictionary_csv(frame), encoding="utf-8")
    except OSError as error:
        raise FormatError(f"cannot write to {folder}: {error.strerror}; choose another --output") from error
    return [*paths, dictionary]


def dictionary_csv(frame: pd.DataFrame) -> str:
    """Return the dictionary of a table's columns as CSV: name, type, unit, meaning."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["column", "type", "unit", "description"])
    for column in TIDY:
        if column.name in frame:
            writer.writerow([column.name, str(frame[column.name].dtype), column.unit, column.description])
    return out.getvalue()


def _csv(frame: pd.DataFrame, path: Path) -> None:
    texts = frame.select_dtypes(include=["object", "string"]).columns
    safe = frame.assign(**{name: frame[name].map(csv_text, na_action="ignore") for name in texts})
    safe.to_csv(path, index=False)


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    meaning = {column.name: column for column in TIDY}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [
        field.with_metadata({"description": meaning[field.name].description, "unit": meaning[field.name].unit})
        if field.name in meaning
        else field
        for field in table.schema
    ]
    pq.write_table(table.cast(pa.schema(fields, table.schema.metadata)), path)
