"""Bad input is refused before anything is measured, with an error that names the row."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from energylab.errors import DataError, EnergylabError
from energylab.taskcheck.bench import Bench, describe
from energylab.taskcheck.report import Problem, Unseen
from energylab.taskcheck.values import short
from energylab.tasks.data import json_lines

ASKS = (
    "bad input is refused before it is measured: a column missing or empty, a wrong type, a broken file, too few rows"
)

_ABSENT = object()


def look(bench: Bench) -> Iterator[Problem | Unseen]:
    """Spoil the sample's second row in every way, one at a time, and see that loading it is refused."""
    folder = bench.settings.sample
    if folder is None or not (folder / "rows.jsonl").is_file():
        yield Unseen("there is no sample data to spoil")
        return
    try:
        rows = json_lines(folder / "rows.jsonl")[:3]
    except DataError as error:
        yield Unseen(f"the sample data cannot be read: {error}")
        return
    if len(rows) < 2:
        yield Unseen(f"the sample data has {len(rows)} row(s): there is no second one to spoil")
        return
    references = getattr(bench.family, "references", ())
    for column in (column for column in bench.family.columns if column not in references):
        for what, value in _spoilt(folder, rows[1].get(column)):
            yield from _try(bench, folder, rows, column, what, value)
    yield from _too_few(bench)


def _spoilt(folder: Path, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield bad values for a column and what is bad about them."""
    yield "is missing", _ABSENT
    yield "is null", None
    yield "is a list", [1, 2]
    if isinstance(value, str):
        yield "is a number", 7
        yield "is empty", ""
        if value in {file.name for file in folder.iterdir()}:
            yield "names a file that is not there", f"no-{value}"
            yield "names a broken file", "broken.bin"


def _try(bench: Bench, folder: Path, rows: list[dict], column: str, what: str, value: Any) -> Iterator[Problem]:
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / folder.name
        shutil.copytree(folder, copy)
        (copy / "broken.bin").write_bytes(b"neither a picture nor a sound")
        spoilt = {**rows[1], column: value}
        if value is _ABSENT:
            del spoilt[column]
        lines = [json.dumps(row) for row in (rows[0], spoilt, *rows[2:])]
        (copy / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        settings = bench.settings.model_copy(update={"sample": copy})
        task = bench.make(settings, samples=len(lines), data_source="sample")
        said = f"a row whose {column!r} {what}"
        mend = f"let check_row return what is wrong with the row when {column!r} {what}, and None when nothing is"
        try:
            loaded, _ = task.load_rows()
        except EnergylabError:
            return
        except Exception as error:  # noqa: BLE001 - a stranger's class may raise anything, and each is a finding
            yield Problem(f"{said} raises {describe(error, bench.family)}, not one clear error", mend)
        else:
            yield Problem(f"{said} is accepted ({short(loaded[1].get(column))})", mend)


def _too_few(bench: Bench) -> Iterator[Problem]:
    task = bench.make(samples=100_000, data_source="sample")
    try:
        task.load_rows()
    except EnergylabError:
        return
    mend = "load rows by energylab.tasks.data.load_rows, which refuses fewer rows than were asked for"
    yield Problem("100,000 samples are asked for, the sample data has fewer, and nothing is said", mend)
