"""The sample data: there, under a licence, enough of it, and every row usable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from energylab.errors import DataError
from energylab.parameters import Parameters
from energylab.taskcheck.bench import Bench
from energylab.taskcheck.report import Problem
from energylab.tasks.data import json_lines

ASKS = "sample data is there, with its licence, and every row is usable"

LEAST = Parameters.model_fields["samples"].default  # rows: what a session asks for unless it is told otherwise
_NO_LICENCE = ("", "todo", "tbd", "unknown", "none")


def look(bench: Bench) -> Iterator[Problem]:
    """Read the folder by hand, then load all of it the way a session does."""
    folder = bench.settings.sample
    if folder is None:
        mend = f"write {LEAST} rows or more to rows.jsonl, say so with `sample: sample`, and name their licence"
        yield Problem("the file names no sample data: nobody can try the task without the published data set", mend)
        return
    yield from _licence(folder)
    rows, problem = _rows(folder)
    if problem:
        yield problem
        return
    if len(rows) < LEAST:
        yield Problem(f"{folder.name}/rows.jsonl has {len(rows)} rows", f"write at least {LEAST}, of different lengths")
    yield from _columns(bench, rows)
    if len({json.dumps(row, sort_keys=True) for row in rows}) < len(rows):
        yield Problem("some rows are there twice", "leave each row in once: a repeated query is no further evidence")
    task = bench.make(samples=max(len(rows), 1), data_source="sample")
    bench.call("load_rows", task.load_rows)


def _licence(folder: Path) -> Iterator[Problem]:
    file = folder / "about.yaml"
    mend = f"write {folder.name}/about.yaml with `licence: CC0-1.0` (or another) and `about:` where the rows come from"
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    except yaml.YAMLError as error:
        yield Problem(f"{folder.name}/about.yaml is no YAML: {error}", mend)
        return
    if not isinstance(about, dict):
        yield Problem(f"{folder.name}/about.yaml is missing or empty", mend)
        return
    if str(about.get("licence") or "").strip().lower() in _NO_LICENCE:
        yield Problem(f"{folder.name}/about.yaml: licence is {about.get('licence')!r}", mend)
    if len(about) < 2:
        yield Problem(f"{folder.name}/about.yaml does not say where the rows come from", mend)


def _rows(folder: Path) -> tuple[list[dict], Problem | None]:
    file = folder / "rows.jsonl"
    if not file.is_file():
        return [], Problem(f"{file} is not there", "write one JSON object a line, with the task's columns")
    try:
        return json_lines(file), None
    except DataError as error:
        return [], Problem(str(error), "one JSON object a line")


def _columns(bench: Bench, rows: list[dict]) -> Iterator[Problem]:
    for column in bench.family.columns:
        absent = [number for number, row in enumerate(rows) if row.get(column) is None]
        if absent:
            yield Problem(
                f"{len(absent)} row(s) lack {column!r}, the first is row {absent[0]}", f"give each a {column}"
            )
