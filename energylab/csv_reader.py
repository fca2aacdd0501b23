"""A strict reader of delimited text: errors name file, row and what to do."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from energylab.errors import DataError

#: Cells that mean true or false.
TRUTH = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class Sheet:
    """The cells of one file, as text without surrounding blanks.

    Attributes
    ----------
    name : str
        Name of the file in errors.
    columns : tuple of str
    cells : pandas.DataFrame
        Text, by column; the index is the row number in the file, counting the header as row 1.
    delimiter : str
        With semicolons and tabs, numbers may have a decimal comma.
    """

    name: str
    columns: tuple[str, ...]
    cells: pd.DataFrame = field(repr=False)
    delimiter: str = ","

    def numbers(self, column: str) -> pd.Series:
        """Return a column as floats; empty cells are NaN.

        Raises
        ------
        DataError
            If a cell is not a number; names its row.
        """
        text = self.cells[column]
        plain = text.str.replace(",", ".") if self.delimiter != "," else text
        values = pd.to_numeric(plain, errors="coerce")
        bad = text[(text != "") & ~(values.abs() < float("inf"))]
        if len(bad):
            cell = bad.iloc[0]
            comma = f": write {cell.replace(',', '.')}" if cell.count(",") == 1 and "." not in cell else ""
            raise self.refusal(bad.index[0], f"{column}={cell!r} is not a number{comma}", "or leave the cell empty")
        return values.astype(float)

    def truths(self, column: str) -> pd.Series:
        """Return a column of truth values as objects: True, False, or NaN for empty cells."""
        text = self.cells[column]
        bad = text[(text != "") & ~text.str.lower().isin(TRUTH)]
        if len(bad):
            raise self.refusal(
                bad.index[0], f"{column}={bad.iloc[0]!r} is neither yes nor no", f"write {' or '.join(TRUTH)}"
            )
        return text.str.lower().map(TRUTH)

    def texts(self, column: str) -> pd.Series:
        """Return a column of text, NaN for empty cells; an apostrophe before a formula sign is removed."""
        text = self.cells[column].str.replace(r"^'(?=\s*[=+\-@|%\uff1d\uff0b\uff0d\uff20])", "", regex=True)
        return text.where(text != "")

    def refusal(self, row: int, what: str, fix: str) -> DataError:
        """Return the error that names this file, a row, what is wrong and what to do."""
        return DataError(f"{self.name}, row {row}: {what}; {fix}")


def read_sheet(path: Path, content: bytes | None = None, name: str = "") -> Sheet:
    """Read a file of comma, semicolon or tab separated cells.

    Parameters
    ----------
    path : pathlib.Path
        The file, read if `content` is not given.
    content : bytes, optional
        Content of the file.
    name : str, optional
        Name of the file in errors; its path by default.

    Raises
    ------
    DataError
        If it cannot be read, is not UTF-8, has no valid header, or a row has more or fewer cells.
    """
    name = name or str(path)
    text = _text(path, content, name)
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{name}, row {reader.line_num}: cannot be read ({error}); check its quotes") from None
    rows = [(line, row) for line, row in rows if any(row)]
    if not rows:
        raise DataError(f"{name} is empty; its first row must name the columns")
    header = _header(rows[0][1], name)
    sheet = Sheet(name, header, pd.DataFrame(), delimiter)
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise sheet.refusal(
                line, f"{len(row)} cells where the header has {len(header)}", _many(row, header, delimiter)
            )
    cells = pd.DataFrame(
        [row for _, row in rows[1:]], columns=list(header), index=[line for line, _ in rows[1:]], dtype=str
    )
    return Sheet(name, header, cells, delimiter)


def _text(path: Path, content: bytes | None, name: str) -> str:
    try:
        return (path.read_bytes() if content is None else content).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror}; name a file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None


def _header(names: list[str], file: str) -> tuple[str, ...]:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled or "" in names:
        what = f"names {doubled[0]!r} twice" if doubled and doubled[0] else "has a column without a name"
        raise DataError(f"{file}, row 1: {what}; give every column a different name, and no separator after the last")
    return tuple(names)


def _many(row: list[str], header: tuple[str, ...], delimiter: str) -> str:
    if len(row) > len(header) and delimiter == ",":
        return "write decimals with a point (0.5), text with a comma in quotes, and no comma after the last cell"
    return f"separate all cells by {_DELIMITERS[delimiter]}, including empty ones"
