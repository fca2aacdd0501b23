"""Records as one table with its data dictionary: Parquet for programs, CSV for spreadsheets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from energylab import store
from energylab.errors import FormatError
from energylab.publish import page
from energylab.publish.text import csv_text
from energylab.table import TIDY

if TYPE_CHECKING:
    import pandas as pd


def write(roots: Sequence[str | os.PathLike], folder: str | os.PathLike, name: str = "table") -> list[Path]:
    """Write the tidy table of some roots, as `energylab.read` takes them, and what its columns mean.

    The files are ``NAME.csv``, ``NAME.parquet`` and ``NAME.dictionary.csv``; `energylab.read` takes the first two.
    Text in the CSV that a spreadsheet would take for a formula gets an apostrophe.
    """
    import pandas as pd

    frame = store.read(*roots)
    if frame.empty:
        raise FormatError(f"no record under {', '.join(map(str, roots))}; name a study's folder")
    texts = frame.select_dtypes(include=["object", "string"]).columns
    safe = {column: frame[column].map(csv_text, na_action="ignore") for column in texts}
    meaning = [(c.name, str(frame[c.name].dtype), c.unit, c.description) for c in TIDY if c.name in frame]
    dictionary = pd.DataFrame(meaning, columns=["column", "type", "unit", "description"])
    files = {
        ".csv": frame.assign(**safe).to_csv(index=False),
        ".parquet": _parquet(frame),
        ".dictionary.csv": dictionary.to_csv(index=False),
    }
    return [page.write(Path(folder) / f"{name}{ending}", content) for ending, content in files.items()]


def _parquet(frame: pd.DataFrame) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    meaning = {column.name: {"description": column.description, "unit": column.unit} for column in TIDY}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [field.with_metadata(meaning.get(field.name, field.metadata)) for field in table.schema]
    out = pa.BufferOutputStream()
    pq.write_table(table.cast(pa.schema(fields, table.schema.metadata)), out)
    return out.getvalue().to_pybytes()
