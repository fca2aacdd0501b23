"""Records as one table with its data dictionary: Parquet for programs, CSV for spreadsheets."""

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
    """Write the tidy table of some roots, as `energylab.read` takes them, and what its columns mean.

    The files are ``NAME.csv``, ``NAME.parquet`` and ``NAME.dictionary.csv``; `energylab.read` takes the first two.
    Text in the CSV that a spreadsheet would take for a formula gets an apostrophe.
    """
    for format in formats:
        if format not in FORMATS:
            raise unknown_name("table format", format, FORMATS)
    frame, folder = read(roots), Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.{format}" for format in formats]
        for path in paths:
            if path.suffix == ".csv":
                path.write_text(csv_of(frame), encoding="utf-8")
            else:
                _parquet(frame, path)
        dictionary = folder / f"{name}.dictionary.csv"
        dictionary.write_text(dictionary_csv(frame), encoding="utf-8")
    except OSError as error:
        raise FormatError(f"cannot write to {folder}: {error.strerror}; choose another --output") from error
    return [*paths, dictionary]


def read(roots: Sequence[str | os.PathLike]) -> pd.DataFrame:
    """Read the tidy table of some roots; refuses one without a row."""
    frame = store.read(*roots)
    if frame.empty:
        raise FormatError(f"no record under {', '.join(map(str, roots))}; name a study's folder")
    return frame


def csv_of(frame: pd.DataFrame) -> str:
    """Return a table as CSV in which no text is a formula."""
    texts = frame.select_dtypes(include=["object", "string"]).columns
    return frame.assign(**{name: frame[name].map(csv_text, na_action="ignore") for name in texts}).to_csv(index=False)


def dictionary_csv(frame: pd.DataFrame) -> str:
    """Return the dictionary of a table's columns as CSV: name, type, unit, meaning."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["column", "type", "unit", "description"])
    for column in TIDY:
        if column.name in frame:
            writer.writerow([column.name, str(frame[column.name].dtype), column.unit, column.description])
    return out.getvalue()


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    meaning = {column.name: {"description": column.description, "unit": column.unit} for column in TIDY}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [field.with_metadata(meaning.get(field.name, field.metadata)) for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields, table.schema.metadata)), path)
